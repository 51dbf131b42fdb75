"""The loss of the contrastive methods: a batch of data against a batch of negatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from ebmtrain.score import quadratic_loss
from ebmtrain.types import Affine, Energy, LossDerivatives, Tensors


def contrastive_loss(
    energy: Energy,
    x: Tensor,
    negatives: Tensor,
    regularization: float,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensors]:
    """L = mean E(x+) - mean E(x-) + alpha * mean (E(x+)^2 + E(x-)^2), and the two mean energies.

    If x- are samples of the model exp(-E / T) / Z, the difference of means has the gradient of T
    times the mean NLL; the learning rate scales with T. The difference is invariant under
    E -> E + c. alpha > 0 fixes the constant and keeps energies small, but biases the density. Data
    and negatives pass through the energy in one call.

    Args:
        x, negatives: (batch, *event); the negatives are detached here.
        regularization: alpha >= 0.
        weights: of the negatives in their means, (batch,), sum 1; None: equal weights.
    """

    def loss(values: Tensor) -> tuple[Tensor, Tensors]:
        data, model = values.split([len(x), len(negatives)])
        data_mean = data.mean()
        model_mean = _weighted_mean(model, weights)
        loss = data_mean - model_mean
        if regularization:
            squares = data.square().mean() + _weighted_mean(model.square(), weights)
            loss = loss + regularization * squares
        return loss, {"energy_data": data_mean.detach(), "energy_model": model_mean.detach()}

    of_data = x.new_full((len(x),), 1 / len(x))
    if weights is None:
        of_model = x.new_full((len(negatives),), 1 / len(negatives))
    else:
        of_model = weights.detach().to(x)
    slope = torch.cat([of_data, of_model]) * (2 * regularization) if regularization else None
    derivative = Affine(torch.cat([of_data, -of_model]), slope)
    points = torch.cat([x, negatives.detach()])
    return quadratic_loss(energy, points, loss, LossDerivatives(energy=derivative))


def regularization_of(method: Any) -> float:
    """alpha of `contrastive_loss`; 0 of symbols, whose energies have a normaliser and may be far
    from 0."""
    return 0.0 if method.support.space == "categorical" else method.energy_regularization


def _weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean() if weights is None else values @ weights.detach().to(values)


def add_noise(x: Tensor, std: float, generator: Generator) -> Tensor:
    """x + std * N(0, I): the model then learns the data convolved with this Gaussian. 0: x itself,
    without a random draw."""
    return x + std * torch.empty_like(x).normal_(generator=generator) if std else x
