"""Ranges of numbers. The validator reads them from the signatures of the parts."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Probability = Annotated[float, Ge(0), Le(1)]
OpenUnit = Annotated[float, Gt(0), Lt(1)]
Decay = Annotated[float, Ge(0), Lt(1)]
Count = Annotated[int, Gt(0)]
OF_ALL_SHARDS = "of all shards"
ChainCount = Annotated[int, Gt(0), OF_ALL_SHARDS]
"""A number of chains, of all shards of an update together: see `train.shards`."""
SmallCount = Annotated[int, Gt(0), Le(1000)]
"""The number of a few things, each with a cost of its own."""
WholeNumber = Annotated[int, Ge(0)]
