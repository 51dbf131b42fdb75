"""What a run directory may ask for: it is data, and must not choose for itself what is imported."""

from __future__ import annotations

import logging
import re
from typing import Any

from hydra.utils import get_object

from ebmtrain.errors import UnsafeError

Trust = tuple[str, ...] | None
"""Packages besides ebmtrain whose parts may be imported; None: any."""

# Where ebmtrain's own parts live: nothing else of it can be asked for by a run directory.
_TRUSTED_PREFIXES = tuple(
    f"ebmtrain.{home}."
    for home in (
        "models", "samplers", "methods", "datasets", "training.optimizers", "evaluation",
        "runs.composition",
    )
)  # fmt: skip
_HYDRA_0_TARGET_KEYS = ("target", "class", "cls")  # what `_target_` was called before
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


logging.getLogger("hydra.utils").addHandler(logging.NullHandler())  # we say ourselves what it says


def refuse_hostile(config: dict[str, Any], trust: tuple[str, ...]) -> None:
    """Looks at every value there is, wherever it stands: Hydra calls a `_target_` at any depth.

    What a run directory holds was resolved when it was written, so an interpolation was put there
    later: `${oc.env:...}` would read the environment of whoever opens it.

    Raises:
        UnsafeError: an interpolation, a `_target_` that is not trusted, another of the keys that
            tell Hydra how to call; a control character, which a terminal would obey.
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
    """By the name alone: nothing is imported yet.

    Raises:
        UnsafeError: not among ebmtrain's parts and not from a trusted package.
    """
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
    """What `_target_: name` names.

    Raises:
        ImportError: nothing of this name.
        UnsafeError: not ebmtrain's and not from a trusted package.
    """
    if trust is None:
        return get_object(name)
    _refuse_untrusted(name, trust)
    found = get_object(name)
    # ebmtrain's modules import others, and os reached through one of them is still os.
    if f"{getattr(found, '__module__', '')}.{getattr(found, '__qualname__', '')}" != name:
        raise UnsafeError(f"the run asks for {name!r}, which is not a part defined there")
    return found


def trust_flags(config: Any) -> str:
    """The words that a verb needs to open a run with parts of other packages than ours."""
    packages: dict[str, None] = {}
    nodes = [config]
    for node in nodes:  # grows while it is walked
        if isinstance(node, dict):
            nodes += node.values()
            if isinstance(node.get("_target_"), str):
                packages[node["_target_"].split(".")[0]] = None
        elif isinstance(node, list):
            nodes += node
    return "".join(f" --trust {name}" for name in packages if name != "ebmtrain")
