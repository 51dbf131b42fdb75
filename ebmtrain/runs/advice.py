"""Fits the remedies in a warning to the run: those that it follows already, and those with options
that its parts do not have, are left out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from ebmtrain.config.presets import Presets

_OPTION = re.compile(r"\b([a-z_]+(?:\.[a-z_]+)*)=([\w.]+)|\b([a-z]+(?:\.[a-z_]+)+)")
_VERB = re.compile(r"(lower|raise|set|give|try|choose|use) ")
_OBJECT = re.compile(r"[a-z_]+[.=]|an? ")  # an alternative with the verb of the one before
_SETS = ("set", "give")
_MISSING = object()


def fit_advice(warning: str, config: Mapping[str, Any]) -> str:
    """The warning, whose last clause may name alternatives, `...; lower sampler.step_size, or set
    model.base_std`, without those that do not apply.

    An alternative does not apply if one of its options is not in the configuration, if it asks to
    set an option that is not null, or to give the value that an option has.
    """
    clauses = [m.end() for m in re.finditer(r"[;:] ", warning)]
    start = next((i for i in reversed(clauses) if _OPTION.search(warning[i:])), None)
    if start is None:
        return warning
    kept: list[str] = []
    verb, dropped = "", False
    for text in (alternatives := re.split(r",? or |, ", warning[start:])):
        own = _VERB.match(text)
        verb = own[1] if own else verb
        if not _applies(text, verb, config):
            dropped = True
        else:
            bare = dropped and verb and _OBJECT.match(text)
            kept.append(f"{verb} {text}" if bare else text)
            dropped = False
    if len(kept) == len(alternatives):
        return warning
    if not kept:
        return warning[: start - 2]
    return warning[:start] + " or ".join(filter(None, [", ".join(kept[:-1]), kept[-1]]))


def _applies(alternative: str, verb: str, config: Mapping[str, Any]) -> bool:
    for given, value, named in _OPTION.findall(alternative):
        key = given or named
        if key.split(".")[0] not in config:  # the name of a file
            continue
        found = _value(config, key)
        if found is _MISSING:
            return False
        if isinstance(found, Mapping) and "_target_" in found and value:
            path = Presets().options(key).get(value)
            preset = {} if path is None else yaml.safe_load(path.read_text(encoding="utf-8"))
            found, value = found["_target_"], preset.get("_target_", "")
        if value and str(found).lower() == value.lower():
            return False
        if not value and verb in _SETS and found is not None:
            return False
    return True


def _value(config: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; `_MISSING` if there is none."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return _MISSING
        node = node[part]
    return node
