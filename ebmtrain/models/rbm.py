"""Restricted Boltzmann machine (Smolensky, 1986; Hinton, Neural Computation 14(8), 2002)."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ebmtrain.types import Positive, SmallCount, Space

_MAX_ENUMERATED = 22  # units of the smaller layer, over whose states log Z is summed
_CHUNK = 2**14


class Layers(NamedTuple):
    """The energy E(v) = -a'v - sum_j softplus(b_j + (W'v)_j) of an RBM."""

    a: Tensor
    """(visible,)"""
    b: Tensor
    """(hidden,)"""
    weight: Tensor
    """W, (visible, hidden)."""
    shape: tuple[int, ...]
    """(*event), of v."""

    def __call__(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return -flat @ self.a - softplus(self.b + flat @ self.weight).sum(1)

    def hidden(self, v: Tensor) -> Tensor:
        """p(h = 1 | v), (batch, *event) -> (batch, hidden)."""
        return torch.sigmoid(self.b + v.flatten(1) @ self.weight)

    def visible(self, h: Tensor) -> Tensor:
        """p(v = 1 | h), (batch, hidden) -> (batch, *event)."""
        return torch.sigmoid(self.a + h @ self.weight.T).view(-1, *self.shape)


class Rbm(nn.Module):
    """E(v, h) = -a'v - b'h - v'Wh for binary v and h; as an energy of v alone, the free energy

        E(v) = -log sum_h exp(-E(v, h)) = -a'v - sum_j softplus(b_j + (W'v)_j).

    With `centred`, E(v, h) = -a'(v - m) - b'(h - 1/2) - (v - m)'W(h - 1/2) up to a constant, m the
    frequencies of the training data: the same family of densities, whose gradients in W are
    covariances rather than products (Montavon & Mueller, LNCS 7700, 2012).

    The visible biases start at log(m / (1 - m)), the weights at N(0, weight_std^2), the hidden
    biases at 0.

    Args:
        hidden: number of hidden units.
        weight_std: > 0, standard deviation of the initial weights.
        centred: parametrize by centred units.
        event_shape: (*event), of v.
        training_points: (n, *event), states 0 and 1; None: the weights will be loaded.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"binary"})
    mean: Tensor

    def __init__(
        self,
        *,
        hidden: SmallCount = 100,
        weight_std: Positive = 0.01,
        centred: bool = False,
        event_shape: tuple[int, ...],
        training_points: Tensor | None = None,
    ):
        super().__init__()
        self.event_shape, self.centred = tuple(event_shape), centred
        d = math.prod(event_shape)
        p = torch.full((d,), 0.5)
        if training_points is not None:
            counts = training_points.flatten(1).double().sum(0)
            p = ((counts + 1) / (len(training_points) + 2)).to(p)
        self.weight = nn.Parameter(weight_std * torch.randn(d, hidden))
        self.visible_bias = nn.Parameter(p.log() - torch.log1p(-p))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden))
        self.register_buffer("mean", p.clone())

    @property
    def layers(self) -> Layers:
        """The parameters a, b and W of E(v, h)."""
        a, b = self.visible_bias, self.hidden_bias
        if self.centred:
            a, b = a - self.weight.sum(1) / 2, b - self.mean @ self.weight
        return Layers(a, b, self.weight, self.event_shape)

    def forward(self, v: Tensor) -> Tensor:
        return self.layers(v)

    def energy_and_gradient(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """E(v) and its gradient as a function of real v."""
        layers = self.layers
        gradient = -layers.a - layers.hidden(v) @ layers.weight.T
        return layers(v), gradient.view(v.shape)

    def flip_differences(self, v: Tensor, sites: Tensor) -> Tensor:
        """E with one site flipped minus E(v), (batch, sites)."""
        a, b, weight, _ = self.layers
        flat = v.flatten(1)
        c, sign = b + flat @ weight, 1 - 2 * flat[:, sites]
        change = softplus(c[:, None] + sign[..., None] * weight[sites]) - softplus(c)[:, None]
        return -sign * a[sites] - change.sum(2)

    def hidden(self, v: Tensor) -> Tensor:
        """p(h = 1 | v), (batch, *event) -> (batch, hidden)."""
        return self.layers.hidden(v)

    def visible(self, h: Tensor) -> Tensor:
        """p(v = 1 | h), (batch, hidden) -> (batch, *event)."""
        return self.layers.visible(h)

    @property
    def filters(self) -> Tensor:
        """W of each hidden unit, (hidden, *event)."""
        return self.weight.detach().T.reshape(-1, *self.event_shape)

    def annealed(self, beta: float, logits: Tensor) -> Layers:
        """The RBM with beta times the weights and hidden biases, and visible biases between the
        logits, (visible,), at beta = 0 and its own at 1 (Salakhutdinov & Murray, ICML 2008). At 0
        its log Z is sum_i softplus(logits_i) + hidden log 2.
        """
        a, b, weight, shape = self.layers
        return Layers((1 - beta) * logits + beta * a, beta * b, beta * weight, shape)

    def log_z(self, temperature: float) -> Tensor | None:
        """log Z by the sum over the states of the smaller layer, of up to 22 units; None if both
        are larger, or at T != 1, where the hidden units are not independent given v."""
        a, b, weight, _ = self.layers
        if temperature != 1 or min(weight.shape) > _MAX_ENUMERATED:
            return None
        if weight.shape[0] < weight.shape[1]:
            a, b, weight = b, a, weight.T
        n = weight.shape[1]  # E(h) = -b'h - sum_i softplus(a_i + (W h)_i), h the smaller layer
        bits, sums = torch.arange(n, device=b.device), []
        for index in torch.arange(2**n, device=b.device).split(_CHUNK):
            h = ((index[:, None] >> bits) & 1).to(b)
            sums.append((h @ b + softplus(a + h @ weight.T).sum(1)).logsumexp(0))
        return torch.stack(sums).logsumexp(0)
