"""What the contrastive methods share: the loss of a batch of positives and one of negatives."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ebmtrain.types import Energy, Tensors


def contrastive_loss(
    energy: Energy,
    x: Tensor,
    negatives: Tensor,
    regularization: float,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensors]:
    """L = mean E(x+) - mean E(x-) + alpha * mean (E(x+)^2 + E(x-)^2), and the two mean energies.

    The first difference has the gradient of the mean NLL if x- comes from the model (at T, of T
    times the NLL of exp(-E / T): the learning rate scales with T). It does not
    see E -> E + c; alpha > 0 pins the constant and keeps energies small, at the price of a bias:
    see `energy_regularization`. Both halves go through the energy in one pass.

    Args:
        x, negatives: (batch, *event); negatives are detached here.
        regularization: alpha >= 0.
        weights: of the negatives in their means, (batch,), sum 1; None: all alike.
    """
    values = energy(torch.cat([x, negatives.detach()]))
    data, model = values.split([len(x), len(negatives)])
    mean = data.mean()
    model_mean = _weighted_mean(model, weights)
    loss = mean - model_mean
    if regularization:
        squares = data.square().mean() + _weighted_mean(model.square(), weights)
        loss = loss + regularization * squares
    return loss, {"energy_data": mean.detach(), "energy_model": model_mean.detach()}


def _weighted_mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean() if weights is None else values @ weights.detach().to(values)


def add_noise(x: Tensor, std: float, generator: Generator) -> Tensor:
    """x + std * N(0, I). The model learns the data blurred by it. 0: x itself, nothing drawn."""
    return x + std * torch.empty_like(x).normal_(generator=generator) if std else x
