"""Optional capabilities that parts of any kind may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

Space = Literal["real", "binary", "categorical"]
"""What the elements of points are: real numbers, states 0 and 1, or codes of the symbols of an
alphabet."""


@runtime_checkable
class Ragged(Protocol):
    ragged: bool
    """Whether the part takes sequences of different lengths: see `masks`. Default: False."""


def takes_ragged(part: object) -> bool:
    """Whether a method, a sampler or an evaluation, or its class, takes sequences of different
    lengths."""
    return isinstance(part, Ragged) and part.ragged


@runtime_checkable
class HasSpaces(Protocol):
    spaces: frozenset[Space]
    """Kinds of points that the part takes. Default: real numbers alone."""


def takes_space(part: object, space: Space) -> bool:
    """Whether a model, a sampler, a method or an evaluation, or its class, takes such points."""
    return space in part.spaces if isinstance(part, HasSpaces) else space == "real"


@runtime_checkable
class HasConflicts(Protocol):
    conflicts: Callable[[dict[str, Any]], list[str]]
    """One line for each problem with the rest of a configuration, with its remedy; static."""
