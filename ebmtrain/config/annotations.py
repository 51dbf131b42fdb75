"""Reads the annotations of a part's arguments."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Collection
from contextlib import suppress
from typing import Annotated, Any

import typing_extensions
from hydra.utils import get_object

_PLAIN = (int, float, str, bool, type(None), typing.Literal)


def type_hints(target: Any) -> dict[str, Any]:
    """Names and annotations with their ranges, without those that cannot be resolved."""
    function = target.__init__ if inspect.isclass(target) else target
    names, found = getattr(function, "__globals__", {}), {}
    fields = {}  # of a dataclass: the module of the class, or of the base, that annotates each
    if dataclasses.is_dataclass(target) and isinstance(target, type):
        for kind in reversed(target.__mro__):
            fields |= dict.fromkeys(vars(kind).get("__annotations__", ()), kind.__module__)
    for name, annotation in getattr(function, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: annotation})
        module = sys.modules.get(fields.get(name, ""))
        with suppress(NameError, TypeError):  # for type checkers only
            found |= typing.get_type_hints(
                alone, names if module is None else vars(module), include_extras=True
            )
    return found


def _union_members(hint: Any) -> list[Any]:
    """The members of a union, or the annotation itself, without ranges."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _union_members(inner[0])
    if origin in (typing.Union, types.UnionType):
        return [kind for member in inner for kind in _union_members(member)]
    return [hint]


def is_plain(hint: Any) -> bool:
    """True if the annotation allows only numbers, strings, booleans and null, and no part."""
    return not _part_types(hint)


def may_be_collection(hint: Any) -> bool:
    """True if the annotation allows a list or a mapping."""
    return any(_is_open(kind) or _is_collection(kind) for kind in _part_types(hint))


def missing_type(target: type, hint: Any) -> str | None:
    """The name of the required type if the class does not implement it, else None.

    A user's class need not derive from the required type: it must have its methods. Attributes are
    not compared, as the constructor may set them.
    """
    kinds = _part_types(hint)
    if any(_is_open(kind) or _implements(target, kind) for kind in kinds):
        return None
    return " or ".join(kind.__name__ for kind in kinds) or None


def _part_types(hint: Any) -> list[Any]:
    """The members of the union that a part can be, without their arguments: Callable[..., x] is
    Callable."""
    kinds = [typing.get_origin(kind) or kind for kind in _union_members(hint)]
    return [kind for kind in kinds if kind not in _PLAIN]


def _is_open(kind: Any) -> bool:
    """True for Any and for annotations that are no classes, such as type variables."""
    return kind is Any or not inspect.isclass(kind)


def _is_collection(kind: type) -> bool:
    if typing_extensions.is_protocol(kind):
        return False
    return issubclass(kind, Collection) or issubclass(dict, kind)  # Iterable, object


def _implements(target: type, kind: type) -> bool:
    if not typing_extensions.is_protocol(kind) and issubclass(target, kind):
        return True
    methods = [n for n in dir(kind) if inspect.isfunction(inspect.getattr_static(kind, n, None))]
    methods = [n for n in methods if n == "__call__" or not n.startswith("_")]
    own = set().union(*map(vars, target.__mro__))  # hasattr finds `type.__call__`
    return bool(methods) and own.issuperset(methods)


def nested_samplers(sampler: Any, path: str = "sampler") -> dict[str, dict[str, Any]]:
    """A sampler and those inside it by their paths, the outermost first."""
    if not isinstance(sampler, dict):
        return {}
    return {path: sampler} | nested_samplers(sampler.get("sampler"), f"{path}.sampler")


def accepts_argument(node: dict[str, Any], argument: str) -> bool:
    """True if the part's constructor has this argument."""
    return argument in inspect.signature(get_target(node)).parameters


def get_target(node: dict[str, Any]) -> Any:
    """The class or function that a part's `_target_` names."""
    return get_object(node["_target_"])
