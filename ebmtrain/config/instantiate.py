"""One part from its section of the configuration. The only caller of hydra's instantiate."""

from __future__ import annotations

from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch import nn

from ebmtrain.errors import ConfigError, EbmtrainError, out_of_memory
from ebmtrain.runtime.seeding import stream

_PLAIN = (ValueError, TypeError, OSError, RuntimeError, MemoryError)  # of a constructor
# What makes a part one of its kind.
_NEEDED = {
    "model": ("forward", "parameters"),
    "sampler": ("init", "step"),
    "method": ("init", "loss"),
    "dataset": ("train", "holdout", "standardization", "truth", "batch", "to"),
    "optimizer": ("build", "lr", "schedule", "clip_norm"),
    "evaluation": ("every", "__call__"),
}


def instantiate_part(config: dict[str, Any], name: str, **supplied: Any) -> Any:
    """The part that a section describes; what its constructor objects to becomes a ConfigError."""
    try:
        # Called by us, because Hydra would turn a dataclass among the arguments into a mapping.
        part = instantiate(config[name], _convert_="all", _partial_=True)(**supplied)
    except (InstantiationException, EbmtrainError, *_PLAIN) as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, EbmtrainError):
            cause = cause.__cause__
        if isinstance(cause, EbmtrainError):
            raise cause from None
        if out_of_memory(cause):
            raise ConfigError(f"{name} needs more memory than there is: make it smaller") from error
        if isinstance(cause, ValueError | TypeError | OSError):
            raise ConfigError(f"{name}: {cause}") from error
        raise
    lacking = [attribute for attribute in _NEEDED[name] if not hasattr(part, attribute)]
    if lacking:
        raise ConfigError(
            f"{name}: {type(part).__name__} has no {lacking[0]}: a {name} must have "
            f"{', '.join(_NEEDED[name])}"
        )
    return part


def initialize_model(config: dict[str, Any], **supplied: Any) -> nn.Module:
    """The model, its initial weights drawn from the run's seed and nothing else."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream(config["seed"], "model").initial_seed())
        return instantiate_part(config, "model", **supplied)
