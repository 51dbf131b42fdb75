"""Accuracy and calibration of an energy of points and classes on held-out points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, float64_copy
from ebmtrain.score import in_chunks
from ebmtrain.types import Count, WholeNumber, labels_of


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Classification of the held-out points by p(y | x) = softmax_y(-E(x, y)), at temperature 1 as
    in training, whatever the temperature of the chains.

    accuracy, accuracy_se    fraction a whose most probable class is the true one, and its standard
                             error sqrt(a (1 - a) / n)
    cross_entropy_holdout    mean -log p(y | x), in nats
    ece                      expected calibration error (Guo et al., ICML 2017): mean |accuracy -
                             mean confidence| over `bins` equal bins of the confidence
                             max_y p(y | x), each weighted by the points in it; in [0, 1]

    Args:
        every: updates between two evaluations.
        bins: of the confidence.
    """

    every: WholeNumber
    bins: Count = 15

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        labels = labels_of(inputs.dataset)
        if inputs.dataset is None or labels is None:
            return Evaluation({}, [])
        energy: Any = float64_copy(inputs.energy).cpu()
        u = inputs.standardization.to_standard(inputs.dataset.holdout)
        with torch.no_grad():
            logits = -in_chunks(energy.joint, u, 4096)
        confidence, prediction = torch.softmax(logits, 1).max(1)
        correct = (prediction == labels.holdout).double()
        accuracy = float(correct.mean())
        return Evaluation(
            {
                "accuracy": accuracy,
                "accuracy_se": math.sqrt(accuracy * (1 - accuracy) / len(correct)),
                "cross_entropy_holdout": float(cross_entropy(logits, labels.holdout)),
                "ece": _calibration_error(confidence, correct, self.bins),
            },
            [],
        )


def _calibration_error(confidence: Tensor, correct: Tensor, bins: int) -> float:
    """Expected calibration error sum_b n_b / n |mean correct - mean confidence| over the bins b of
    (0, 1], in [0, 1].

    Args:
        confidence: (n,), in (0, 1].
        correct: (n,), 1 where the prediction is correct, else 0.
        bins: number of equal bins.
    """
    index = (confidence * bins).ceil().clamp(1, bins).long() - 1  # (b / bins, (b + 1) / bins]
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(
        0, index, (correct - confidence).double()
    )
    return float(gap.abs().sum() / len(correct))
