"""Restricts what the configuration of a run directory, which is untrusted, can import."""

from __future__ import annotations

import logging
import re
from typing import Any

from hydra.utils import get_object

from ebmtrain.errors import UnsafeError

Trust = tuple[str, ...] | None
"""Packages besides ebmtrain whose parts may be imported; None: any."""

# The modules of ebmtrain's own parts.
_TRUSTED_PREFIXES = tuple(
    f"ebmtrain.{home}."
    for home in (
        "models", "samplers", "methods", "datasets", "training.optimizers", "evaluation",
        "runs.composition",
    )
)  # fmt: skip
_HYDRA_0_TARGET_KEYS = ("target", "class", "cls")  # former names of `_target_`
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


# Its errors are reported by the validator.
logging.getLogger("hydra.utils").addHandler(logging.NullHandler())


def refuse_hostile(config: dict[str, Any], trust: tuple[str, ...]) -> None:
    """Checks all values at any depth: Hydra calls a `_target_` at any depth.

    The configuration of a run directory was resolved when it was written, so an interpolation was
    added later: `${oc.env:...}` would read the environment of the user who opens the run.

    Raises:
        UnsafeError: an interpolation, a `_target_` that is not trusted, another key of Hydra's
            calls, or a control character, which a terminal would interpret.
    """
    if "hydra" in config:
        raise UnsafeError("the run's configuration has a section hydra: remove it")
    waiting: list[Any] = [config]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            for key in node:
                if isinstance(key, str) and key.startswith("_") and key != "_target_":
                    raise UnsafeError(f"the run's configuration holds the key {key!r}: remove it")
            if old := [key for key in _HYDRA_0_TARGET_KEYS if isinstance(node.get(key), str)]:
                raise UnsafeError(f"the run's configuration holds {old[0]!r}: remove it")
            if "_target_" in node:
                _refuse_untrusted(node["_target_"], trust)
            waiting += [*node, *node.values()]
        elif isinstance(node, list):
            waiting += node
        elif isinstance(node, str) and ("${" in node or _CONTROL.search(node)):
            raise UnsafeError(
                f"the run's configuration holds {node!r}: write the value itself there"
            )


def _refuse_untrusted(name: Any, trust: tuple[str, ...]) -> None:
    """Raises UnsafeError for a name that is neither one of ebmtrain's parts nor in a trusted
    package. Imports nothing."""
    words = name.split(".") if isinstance(name, str) else [""]
    package = words[0]
    if package == "ebmtrain":
        if name.startswith(_TRUSTED_PREFIXES) and not any(w.startswith("_") for w in words):
            return
        raise UnsafeError(f"the run asks for {name!r}, which is not one of ebmtrain's parts")
    if package not in trust:
        raise UnsafeError(
            f"the run asks for {name!r}, which is not part of ebmtrain; if you trust the package "
            f"{package!r}, name it: --trust {package}"
        )


def locate(name: str, trust: Trust) -> Any:
    """The class or function that `_target_: name` names.

    Raises:
        ImportError: the name does not exist.
        UnsafeError: it is neither ebmtrain's nor in a trusted package.
    """
    if trust is None:
        return get_object(name)
    _refuse_untrusted(name, trust)
    found = get_object(name)
    # ebmtrain's modules import others: a name such as ebmtrain.models.mlp.os is refused.
    if f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}" != name:
        raise UnsafeError(f"the run asks for {name!r}, which is not a part defined there")
    return found


def trust_flags(config: Any) -> str:
    """The flags `--trust PACKAGE` with which a verb opens a run of this configuration."""
    return "".join(f" --trust {name}" for name in packages(config))


def packages(config: Any) -> list[str]:
    """The packages besides ebmtrain whose parts this configuration names."""
    names: dict[str, None] = {}
    nodes = [config]
    for node in nodes:  # grows during the loop
        if isinstance(node, dict):
            nodes += node.values()
            if isinstance(node.get("_target_"), str):
                names[node["_target_"].split(".")[0]] = None
        elif isinstance(node, list):
            nodes += node
    return [name for name in names if name != "ebmtrain"]
