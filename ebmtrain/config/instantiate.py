"""Instantiates one part from its section of the configuration."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from ebmtrain.config.annotations import accepts_argument
from ebmtrain.errors import ConfigError, EbmtrainError, out_of_memory, own_code_location
from ebmtrain.runtime.seeding import stream

_PLAIN = (ValueError, TypeError, OSError, RuntimeError, MemoryError)  # of a constructor


class _Kind(NamedTuple):
    attributes: tuple[str, ...]
    """That a part of this kind has."""
    supplied: frozenset[str] = frozenset()
    """Arguments that the builder passes and a configuration may not contain."""
    general: frozenset[str] = frozenset()
    """Options of the section that are not arguments of the class, unless it has them too."""


PARTS = {
    "model": _Kind(
        ("forward", "parameters"),
        frozenset({"event_shape", "ragged", "states", "training_points"}),
        frozenset({"init"}),
    ),
    "sampler": _Kind(("init", "step")),
    "method": _Kind(("init", "loss"), frozenset({"sampler", "support"})),
    "dataset": _Kind(("train", "holdout", "standardization", "truth", "batch", "to")),
    "optimizer": _Kind(("build", "lr", "schedule", "clip_norm")),
    "evaluation": _Kind(("every", "__call__")),
}
"""The sections that name a class."""


def _arguments_of(name: str, node: dict[str, Any]) -> dict[str, Any]:
    """The section without its general options, see `PARTS`."""
    general = [k for k in PARTS[name].general if k in node and not accepts_argument(node, k)]
    return {k: v for k, v in node.items() if k not in general} if general else node


def instantiate_part(config: dict[str, Any], name: str, **supplied: Any) -> Any:
    """The part that a section describes.

    Args:
        supplied: arguments that the configuration does not contain, see `PARTS`.

    Raises:
        ConfigError: its constructor raises an error, or it lacks an attribute.
    """
    assert PARTS[name].supplied.issuperset(supplied), supplied.keys()
    try:
        # Called here, because Hydra would turn a dataclass among the arguments into a mapping.
        part = instantiate(_arguments_of(name, config[name]), _convert_="all", _partial_=True)(
            **supplied
        )
    except (InstantiationException, EbmtrainError, *_PLAIN) as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, EbmtrainError):
            cause = cause.__cause__
        if isinstance(cause, EbmtrainError):
            raise cause from None
        if out_of_memory(cause):
            raise ConfigError(f"{name} needs more memory than there is: make it smaller") from error
        if isinstance(cause, ValueError | TypeError | OSError):
            raise ConfigError(f"{name}: {cause}{own_code_location(cause)}") from error
        raise
    needed = PARTS[name].attributes
    if missing := [attribute for attribute in needed if not hasattr(part, attribute)]:
        raise ConfigError(
            f"{name}: {type(part).__name__} has no {missing[0]}: a {name} must have "
            f"{', '.join(needed)}"
        )
    return part


def initialize_model(config: dict[str, Any], **supplied: Any) -> nn.Module:
    """The model, whose initial weights depend on the run's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(config["seed"], "model").initial_seed())
        return instantiate_part(config, "model", **supplied)
