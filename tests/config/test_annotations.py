"""What annotations say, of ebmtrain's parts and of a user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import pytest
from annotated_types import Gt
from torch import Tensor, nn

from ebmtrain.config.annotations import (
    is_plain,
    may_be_collection,
    missing_type,
    type_hints,
    union_members,
)
from ebmtrain.samplers.adaptation import StepSizeAdaptation
from ebmtrain.samplers.langevin import Langevin
from ebmtrain.training.optimizers import Schedule
from ebmtrain.types import Adaptation, Density, Positive, Sampler

S = TypeVar("S")


class Duck:
    """Does what an adaptation does and derives from nothing."""

    def start(self) -> None: ...

    def apply(self) -> None: ...

    def update(self) -> None: ...


class Late:
    """A density whose properties are attributes that its constructor makes."""

    def __init__(self) -> None:
        self.entropy, self.modes = 0.0, None

    def sample(self) -> None: ...

    def log_prob(self) -> None: ...


class Half:
    """One of its annotations is known to a type checker only."""

    def __init__(self, note: Nowhere, step_size: Positive) -> None: ...  # noqa: F821  # pyright: ignore


def test_what_cannot_be_resolved_leaves_the_others():
    assert type_hints(Half) == {"step_size": Positive, "return": type(None)}


def test_alternatives():
    hint = Annotated[int | None, Gt(0)] | Annotated[list[float], Gt(0)]
    assert union_members(hint) == [int, type(None), list[float]]


@pytest.mark.parametrize(
    ("hint", "plain"),
    [
        (Positive, True), (Positive | None, True), (Literal["a", 1] | bool, True), (str, True),
        (Any, False), (list[int], False), (float | Schedule, False), (S, False), (Sampler, False),
    ],
)  # fmt: skip
def test_what_no_part_can_be(hint, plain):
    assert is_plain(hint) == plain


@pytest.mark.parametrize(
    ("hint", "may"),
    [
        (list[int], True), (dict[str, Schedule], True), (Sequence[float] | None, True),
        (Mapping[str, Any], True), (Iterable[float], True), (object, True), (Any, True), (S, True),
        (tuple[float, ...], True), (Annotated[list[float], Gt(0)], True),
        (Schedule, False), (Sampler[Any], False), (StepSizeAdaptation | None, False),
        (float | Schedule, False), (Density, False), (Callable[[Tensor], Tensor], False),
        (Literal["none"] | Schedule, False),
    ],
)  # fmt: skip
def test_where_a_list_or_a_mapping_may_be_meant(hint, may):
    assert may_be_collection(hint) == may


@pytest.mark.parametrize(
    ("target", "hint", "wanted"),
    [
        (Langevin, Sampler, None), (Langevin, Sampler[Any], None), (Langevin, Any, None),
        (Schedule, Schedule, None), (Schedule, float | Schedule, None), (Langevin, S, None),
        (StepSizeAdaptation, StepSizeAdaptation | None, None), (Late, Density, None),
        (Duck, StepSizeAdaptation | None, None), (Duck, Adaptation, None),
        (nn.Linear, Callable[[Tensor], Tensor], None), (nn.Linear, nn.Module, None),
        (Schedule, Sampler, "Sampler"), (Schedule, Sampler[Any], "Sampler"),
        (Duck, Schedule | None, "Schedule"), (Langevin, Density | float, "Density"),
        (Langevin, Adaptation | Schedule, "Adaptation or Schedule"), (Duck, nn.Module, "Module"),
        (Duck, Callable[[Tensor], Tensor], "Callable"), (Duck, list[Sampler], "list"),
        (Duck, Literal["none"] | Schedule, "Schedule"),
    ],
)  # fmt: skip
def test_what_is_asked_for_and_not_given(target, hint, wanted):
    assert missing_type(target, hint) == wanted
