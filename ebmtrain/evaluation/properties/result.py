"""The result of checking a property."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch


class PropertyResult(NamedTuple):
    """Whether a property holds, with the observed and the expected values."""

    name: str
    """The property."""
    holds: bool | None
    """None: the property does not apply, for the reason given in `observed`."""
    observed: str
    expected: str = ""


def below(name: str, what: str, error: float, bound: float) -> PropertyResult:
    """The result of the property that an error, named `what`, is below its bound."""
    return PropertyResult(name, error < bound, f"{what} {error:.1e}", f"< {bound:g}")


def no_faults(name: str, faults: Mapping[str, bool], none: str) -> PropertyResult:
    """The result of the property that no fault is present, which `none` describes."""
    present = [fault for fault, found in faults.items() if found]
    return PropertyResult(name, not present, "; ".join(present) or none, none)


def seeded_generator(seed: int = 0) -> torch.Generator:
    """A generator on the CPU with the given seed."""
    return torch.Generator().manual_seed(seed)


def not_applicable(name: str, reason: object) -> PropertyResult:
    """The result of a property that does not apply."""
    return PropertyResult(name, None, " ".join(str(reason).split())[:100])
