"""Learnt couplings compared with those of the distribution that the data were drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from torch import Tensor

from ebmtrain.evaluation.protocol import (
    Evaluation,
    EvaluationInput,
    Evaluator,
    Metric,
    float64_copy,
)
from ebmtrain.models.pair_selection import fit_couplings
from ebmtrain.types import Dataset, HasCouplings, Space


@dataclass(frozen=True, kw_only=True)
class CouplingRecovery:
    """An evaluation of a model with couplings, and their error where the true ones are known.

    neg_log_rmse         -ln of the root of the mean squared error over all entries of J
    oracle_neg_log_rmse  the same of the couplings of largest pseudo-likelihood of the same training
                         points, if it is known which are not 0: what the noise of the data allows
    true_log_z           log Z of the true distribution

    Args:
        ours: the evaluation of the model; its period is that of the whole.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"binary"})
    at_start: ClassVar[bool] = False

    ours: Evaluator
    _cache: WeakKeyDictionary[Dataset, Tensor] = field(
        init=False, repr=False, compare=False, default_factory=WeakKeyDictionary
    )

    @staticmethod
    def conflicts(config: Mapping[str, Any]) -> list[str]:
        """One line if the model has no couplings."""
        if "lattice" in config["model"]:
            return []
        return ["evaluation=couplings compares couplings, and this model has none: model=ising"]

    @property
    def every(self) -> int:
        """Updates between two evaluations."""
        return self.ours.every

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        found, notices = self.ours(inputs)
        dataset, energy = inputs.dataset, float64_copy(inputs.energy).cpu()
        truth = None if dataset is None else dataset.truth
        if dataset is None or not isinstance(truth, HasCouplings):
            return Evaluation(found, notices)
        assert isinstance(energy, HasCouplings)
        if dataset not in self._cache:  # fitted once, since the data do not change
            self._cache[dataset] = fit_couplings(dataset.train, truth.couplings != 0)
        metrics: dict[str, Metric] = {
            "neg_log_rmse": _neg_log_rmse(energy.couplings, truth.couplings),
            "oracle_neg_log_rmse": _neg_log_rmse(self._cache[dataset], truth.couplings),
            "true_log_z": float(truth.log_z),  # type: ignore[attr-defined]
        }
        return Evaluation({**found, **metrics}, notices)


def _neg_log_rmse(found: Tensor, true: Tensor) -> float:
    return -0.5 * math.log(float((found - true).square().mean()))
