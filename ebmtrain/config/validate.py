"""Validates a composed configuration; all problems are in one message.

Types and ranges are read from the signatures of the parts, ebmtrain's and the user's: `k: Count`.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
import sys
import typing
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Le
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from ebmtrain.config.aliases import resolve_aliases
from ebmtrain.config.annotations import (
    accepts_argument,
    is_plain,
    may_be_collection,
    missing_type,
    type_hints,
)
from ebmtrain.config.cross_checks import conflicts
from ebmtrain.config.instantiate import PARTS
from ebmtrain.config.schema import CheckpointSettings, PlotSettings, SampleSettings, TrainSettings
from ebmtrain.config.trust import Trust, locate, refuse_hostile
from ebmtrain.errors import ConfigError, first_line, suggestion
from ebmtrain.evaluation.diagnostics import Diagnostics
from ebmtrain.evaluation.quality import Quality
from ebmtrain.runtime.devices import Device
from ebmtrain.types import WholeNumber

_SECTIONS: dict[str, type] = {
    "device": Device,
    "train": TrainSettings,
    "checkpoint": CheckpointSettings,
    "plots": PlotSettings,
    "samples": SampleSettings,
    "quality": Quality,
    "diagnostics": Diagnostics,
}
Seed = Annotated[WholeNumber, Le(2**63 - 1)]
_Supervisor = Literal["retry"] | None
_Tracker = Literal["tensorboard"] | None
_SCALARS = ("seed", "supervisor")
_MISSING = "???"


class ValidConfig(dict[str, Any]):
    """A validated configuration, with the present names of all parts."""


def validate(config: dict[str, Any], trust: Trust = None) -> ValidConfig:
    """Compares a plain, resolved configuration with the signatures of its parts.

    Args:
        trust: packages besides ebmtrain whose parts may be imported; None: any. The configuration
            of a run directory is untrusted and may not import packages of its choice.

    Raises:
        ConfigError: with all problems, one per line.
        UnsafeError: a `_target_` that is not trusted.
    """
    config = resolve_aliases(config)
    if trust is not None:
        refuse_hostile(config, trust)
    problems: list[str] = []
    known = [*PARTS, *_SECTIONS, *_SCALARS]
    unknown = [key for key in config if key not in (*known, "tracker")]
    problems += [f"unknown key {k}{suggestion(k, [*known, 'tracker'])}" for k in unknown]
    problems += [f"{name} is missing" for name in known if name not in config]
    seed_problems = value_problems("seed", config.get("seed"), Seed)
    problems += value_problems("supervisor", config.get("supervisor"), _Supervisor)
    # Runs of earlier versions do not have it.
    problems += value_problems("tracker", config.get("tracker"), _Tracker)
    for name, cls in _SECTIONS.items():
        if name in config:
            problems += call_problems(name, config[name], cls, frozenset(), trust)
    for name, kind in PARTS.items():
        if name in config:
            problems += _part_problems(name, config[name], kind.supplied, trust, kind.general)
    if seed_problems:  # dataset.seed interpolates it and is reported once
        got = f".seed must be .*got {re.escape(_format_value(config.get('seed')))}$"
        problems = seed_problems + [p for p in problems if not re.search(got, p)]
    if not problems:
        problems += conflicts(config, PARTS)
    if problems:
        raise ConfigError("\n".join(problems))
    return ValidConfig(config)


def _part_problems(
    path: str,
    node: Any,
    supplied: frozenset[str],
    trust: Trust,
    general: frozenset[str] = frozenset(),
) -> list[str]:
    """Problems of a mapping with a `_target_`; for `general` see `PARTS`."""
    if not isinstance(node, dict) or not isinstance(node.get("_target_"), str):
        return [f"{path} must be a mapping with a _target_, got {node!r}"]
    try:
        target = locate(node["_target_"], trust)
    except ValueError:  # no dotted name
        return [f"{path}._target_: {node['_target_']!r} is no name of a class or function"]
    except ImportError as error:
        return [f"{path}._target_: {_import_problem(node['_target_'], error)}"]
    if not callable(target):
        return [f"{path}._target_: {node['_target_']!r} is not a class or function"]
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    problems = []
    for key in [key for key in general if key in arguments and not accepts_argument(node, key)]:
        problems += value_problems(f"{path}.{key}", arguments.pop(key), str | None)
    return problems + call_problems(path, arguments, target, supplied, trust)


def call_problems(
    path: str, arguments: Any, target: Any, supplied: frozenset[str], trust: Trust
) -> list[str]:
    """Problems of keyword arguments for a class or function.

    Args:
        path: of the arguments, for messages.
        supplied: arguments that the builder passes.
    """
    if not isinstance(arguments, dict):
        return [f"{path} must be a mapping, got {arguments!r}"]
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # some builtins have no signature
        return [f"{path}._target_: {target!r} cannot be used as a part"]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [name for name in parameters if name not in supplied]
    hints = type_hints(target)
    problems = []
    for name, value in arguments.items():
        here = f"{path}.{name}"
        if name in supplied or (name not in names and not open_ended):
            known = [f"{path}.{name}" for name in names]
            problems.append(f"unknown key {here}{suggestion(here, known)}")
        elif value == _MISSING:
            problems.append(f"{here} is required: give {here}=...")
        else:
            problems += _argument_problems(here, value, hints.get(name, Any), trust)
    for name in names:
        parameter = parameters[name]
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.POSITIONAL_OR_KEYWORD,
            parameter.KEYWORD_ONLY,
        )
        if required and name not in arguments:
            problems.append(f"{path}.{name} is required: give {path}.{name}=...")
    return problems


def _argument_problems(path: str, value: Any, hint: Any, trust: Trust) -> list[str]:
    """Problems of one argument: a nested part, a list or mapping of parts, or a plain value."""
    if isinstance(value, dict) and "_target_" in value and not is_plain(hint):
        found = _part_problems(path, value, frozenset(), trust)
        return found or _type_problems(path, value["_target_"], hint, trust)
    if is_plain(hint):
        return value_problems(path, value, hint)
    if isinstance(value, dict | list) and not may_be_collection(hint):
        return [f"{path} must be a mapping with a _target_, got {_format_value(value)}"]
    if not _contains_part(value):
        return value_problems(path, value, hint)
    if isinstance(value, list):
        inside = {f"{path}[{i}]": item for i, item in enumerate(value)}
    else:
        inside = {f"{path}.{key}": item for key, item in value.items()}
    return [p for here, item in inside.items() for p in _argument_problems(here, item, Any, trust)]


def _type_problems(path: str, name: str, hint: Any, trust: Trust) -> list[str]:
    """Problems of a nested class that does not implement the annotation. A function is not checked:
    the type of its result is unknown."""
    target = locate(name, trust)
    wanted = missing_type(target, hint) if inspect.isclass(target) else None
    return [] if wanted is None else [f"{path}._target_: {name!r} is no {wanted}"]


def _contains_part(value: Any) -> bool:
    """True if the value holds a `_target_` at any depth."""
    if isinstance(value, dict):
        return "_target_" in value or any(map(_contains_part, value.values()))
    return isinstance(value, list) and any(map(_contains_part, value))


def value_problems(path: str, value: Any, hint: Any) -> list[str]:
    """Problems of one plain value, compared with a type that may have ranges."""
    if value is None and hint is Any:
        return []
    adapter = _adapter_of(hint)
    if adapter is None:
        # The hint is a class or a protocol: only a part can implement it.
        if value is None and type(None) in typing.get_args(hint):
            return []
        return [f"{path} must be a mapping with a _target_, got {_format_value(value)}"]
    try:
        # As JSON, where a list is the only sequence, and strict: "1" is no number.
        adapter.validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        return _messages(path, value, error.errors(), hint)
    if not _fits_64_bits(value):
        return [f"{path} must fit into 64 bits, got {_format_value(value)}"]
    return []


def _fits_64_bits(value: Any) -> bool:
    """True if torch can hold all integers in the value."""
    if isinstance(value, list | tuple):
        return all(map(_fits_64_bits, value))
    if isinstance(value, dict):
        return all(map(_fits_64_bits, value.values()))
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _adapter_of(hint: Any) -> TypeAdapter[Any] | None:
    try:
        return TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False))
    except PydanticSchemaGenerationError:
        return None
    except PydanticUserError:  # a dataclass has its own settings
        return TypeAdapter(hint)


def _messages(path: str, value: Any, errors: list[Any], hint: Any) -> list[str]:
    """Pydantic's messages; a single one for a union of booleans and strings."""
    words = [w for part in typing.get_args(hint) for w in typing.get_args(part)]
    messages = [error["msg"].replace("Input should be", "must be") for error in errors]
    if any(error["type"] == "dataclass_type" for error in errors):
        messages = ["must be a mapping with a _target_"]
    if bool in typing.get_args(hint) and words and all(isinstance(w, str) for w in words):
        messages = [f"must be {', '.join(['true', 'false', *words[:-1]])} or {words[-1]}"]
    got = f"got {_format_value(value)}"
    return [f"{path} {m[0].lower()}{m[1:]}, {got}" for m in dict.fromkeys(messages)]


def _format_value(value: Any) -> str:
    return "nothing (null)" if value is None else repr(value)


def _import_problem(name: str, error: ImportError) -> str:
    """Why the name cannot be imported."""
    parts = name.split(".")
    prefixes = [".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]
    found = next((prefix for prefix in prefixes if prefix in sys.modules), None)
    if found is not None:
        module, missing = sys.modules[found], name.removeprefix(f"{found}.").split(".")[0]
        broken = hasattr(module, "__path__") and importlib.util.find_spec(f"{found}.{missing}")
        if not broken and not hasattr(module, missing):
            near = suggestion(missing, [k for k, v in vars(module).items() if inspect.isclass(v)])
            return f"{found} has no {missing}{near}"
    elif importlib.util.find_spec(parts[0]) is None:
        return (
            f"there is no {parts[0]} to import {name!r} from: put {parts[0]}.py into {Path.cwd()} "
            "or the folder of --config-dir, or install it"
        )
    cause: BaseException = error
    while cause.__cause__ is not None:  # Hydra wraps the first error in others
        cause = cause.__cause__
    return f"cannot import {name!r}: {first_line(cause)}"
