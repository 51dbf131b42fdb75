"""In place of evaluations that do not take the points at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ebmtrain.evaluation.diagnostics import ages_of
from ebmtrain.evaluation.subject import Evaluation, Subject
from ebmtrain.types import Count

NOTICE = (
    "no quadrature, AIS or R-hat: sequences of different lengths are no points of one space; see "
    "energy_distance and plots/samples_final.png, or give all sequences the same length"
)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """For sequences of different lengths: how old the method's chains are, and what is left out.

    Args:
        every: updates between two; the last update always makes one.
    """

    at_start: ClassVar[bool] = False

    every: Count

    def __call__(self, subject: Subject) -> Evaluation:
        return Evaluation(ages_of(subject), [NOTICE])
