"""Learnt couplings compared with those of the distribution that the data were drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ebmtrain.evaluation.protocol import (
    Evaluation,
    EvaluationInput,
    Evaluator,
    Metric,
    float64_copy,
)
from ebmtrain.models.pair_selection import fit_couplings
from ebmtrain.models.potts import contact_scores, zero_sum
from ebmtrain.types import Dataset, HasCouplings, Space


@dataclass(frozen=True, kw_only=True)
class CouplingRecovery:
    """An evaluation of a model with couplings, and their error where the true ones are known.

    true_log_z           log Z of the true distribution

    Of spins:

    neg_log_rmse         -ln of the root of the mean squared error over all entries of J
    oracle_neg_log_rmse  the same of the couplings of largest pseudo-likelihood of the same training
                         points, if it is known which are not 0: what the noise of the data allows

    Of symbols, in units of the temperature:

    coupling_rmse        root of the mean squared error over all entries of all pairs of sites, of
                         couplings in the zero-sum gauge
    ppv                  share of pairs that interact among the k pairs of highest score of
                         contact, see `contact_scores`; k is the number of pairs that interact

    Args:
        ours: the evaluation of the model; its period is that of the whole.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"binary", "categorical"})
    at_start: ClassVar[bool] = False

    ours: Evaluator
    _cache: WeakKeyDictionary[Dataset, Tensor] = field(
        init=False, repr=False, compare=False, default_factory=WeakKeyDictionary
    )

    @staticmethod
    def conflicts(config: Mapping[str, Any]) -> list[str]:
        """One line if the model has no couplings."""
        if {"lattice", "pseudocount"} & config["model"].keys():
            return []
        return [
            "evaluation=couplings compares couplings, and this model has none: model=ising or potts"
        ]

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
        metrics: dict[str, Metric] = {"true_log_z": float(truth.log_z)}  # type: ignore[attr-defined]
        if inputs.support.space == "categorical":
            metrics |= _of_symbols(energy.couplings / inputs.temperature, truth.couplings)
            return Evaluation({**found, **metrics}, notices)
        if dataset not in self._cache:  # fitted once, since the data do not change
            self._cache[dataset] = fit_couplings(dataset.train, truth.couplings != 0)
        metrics["neg_log_rmse"] = _neg_log_rmse(energy.couplings, truth.couplings)
        metrics["oracle_neg_log_rmse"] = _neg_log_rmse(self._cache[dataset], truth.couplings)
        return Evaluation({**found, **metrics}, notices)


def _neg_log_rmse(found: Tensor, true: Tensor) -> float:
    return -0.5 * math.log(float((found - true).square().mean()))


@torch.no_grad()
def _of_symbols(found: Tensor, true: Tensor) -> dict[str, float]:
    """Both (sites, states, sites, states)."""
    i, j = torch.triu_indices(len(true), len(true), 1)
    error = zero_sum(found - true)[i, :, j]
    interacts = zero_sum(true).abs().amax((1, 3))[i, j] > 1e-9
    k = int(interacts.sum())
    metrics = {"coupling_rmse": float(error.square().mean().sqrt())}
    if k > 0:
        best = contact_scores(found)[i, j].topk(k).indices
        metrics["ppv"] = float(interacts[best].double().mean())
    return metrics
