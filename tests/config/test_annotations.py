"""What annotations say, of ebmtrain's parts and of a user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import pytest
from annotated_types import Gt
from torch import Tensor, nn

from ebmtrain.config.annotations import (
    _union_members,
    is_plain,
    may_be_collection,
    missing_type,
    type_hints,
)
from ebmtrain.methods.persistent_contrastive_divergence import PersistentContrastiveDivergence
from ebmtrain.samplers.adaptation import StepSizeAdaptation
from ebmtrain.samplers.langevin import Langevin
from ebmtrain.training.optimizers import Schedule
from ebmtrain.types import Adaptation, Count, Density, Positive, Sampler

S = TypeVar("S")


class Duck:
    """Does what an adaptation does and derives from nothing."""

    def start(self) -> None: ...

    def apply(self) -> None: ...

    def update(self) -> None: ...


class SetInInit:
    """A density whose properties are attributes that its constructor makes."""

    def __init__(self) -> None:
        self.entropy, self.modes = 0.0, None

    def sample(self) -> None: ...

    def log_prob(self) -> None: ...


class Unresolvable:
    """One of its annotations is known to a type checker only."""

    def __init__(self, note: Nowhere, step_size: Positive) -> None: ...  # noqa: F821  # pyright: ignore


def test_an_unresolvable_hint_does_not_affect_the_others():
    assert type_hints(Unresolvable) == {"step_size": Positive, "return": type(None)}


def test_inherited_fields_are_resolved_where_they_are_annotated():
    """The module of the method imports none of these names."""
    hints = type_hints(PersistentContrastiveDivergence)
    assert hints["k"] == Count
    assert hints["sampler"] == Sampler


def test_alternatives_of_unions():
    hint = Annotated[int | None, Gt(0)] | Annotated[list[float], Gt(0)]
    assert _union_members(hint) == [int, type(None), list[float]]


@pytest.mark.parametrize(
    ("hint", "plain"),
    [
        (Positive, True), (Positive | None, True), (Literal["a", 1] | bool, True), (str, True),
        (Any, False), (list[int], False), (float | Schedule, False), (S, False), (Sampler, False),
    ],
)  # fmt: skip
def test_hints_that_no_object_satisfies(hint, plain):
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
def test_hints_that_accept_a_list_or_mapping(hint, may):
    assert may_be_collection(hint) == may


@pytest.mark.parametrize(
    ("target", "hint", "wanted"),
    [
        (Langevin, Sampler, None), (Langevin, Sampler[Any], None), (Langevin, Any, None),
        (Schedule, Schedule, None), (Schedule, float | Schedule, None), (Langevin, S, None),
        (StepSizeAdaptation, StepSizeAdaptation | None, None), (SetInInit, Density, None),
        (Duck, StepSizeAdaptation | None, None), (Duck, Adaptation, None),
        (nn.Linear, Callable[[Tensor], Tensor], None), (nn.Linear, nn.Module, None),
        (Schedule, Sampler, "Sampler"), (Schedule, Sampler[Any], "Sampler"),
        (Duck, Schedule | None, "Schedule"), (Langevin, Density | float, "Density"),
        (Langevin, Adaptation | Schedule, "Adaptation or Schedule"), (Duck, nn.Module, "Module"),
        (Duck, Callable[[Tensor], Tensor], "Callable"), (Duck, list[Sampler], "list"),
        (Duck, Literal["none"] | Schedule, "Schedule"),
    ],
)  # fmt: skip
def test_missing_members_of_a_protocol(target, hint, wanted):
    assert missing_type(target, hint) == wanted
