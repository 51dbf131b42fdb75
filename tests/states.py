"""Independent sums over all points of {0, 1}^d, a small RBM and a small Ising model."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from ebmtrain.models.ising import Ising
from ebmtrain.models.rbm import Rbm


def every_state(d: int) -> Tensor:
    """(2^d, d), float64."""
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=d)), dtype=torch.float64)


def small_rbm(shape: tuple[int, ...] = (2, 3), hidden: int = 3, std: float = 1.0, **options) -> Rbm:
    """With random weights and biases of this standard deviation, float64."""
    g = torch.Generator().manual_seed(4)
    with torch.random.fork_rng(devices=[]):
        model = Rbm(hidden=hidden, event_shape=shape, **options).double()
    for p in model.parameters():
        p.data = std * torch.randn(p.shape, generator=g, dtype=torch.float64)
    return model.requires_grad_(False)


def joint_energy(model: Rbm, v: Tensor, h: Tensor) -> float:
    """E(v, h) = -a'v - b'h - v'Wh, by loops."""
    a, b, w, _ = (x if isinstance(x, tuple) else x.tolist() for x in model.layers)
    v, h = v.flatten().tolist(), h.tolist()
    pairs = sum(v[i] * w[i][j] * h[j] for i in range(len(v)) for j in range(len(h)))
    return (
        -sum(map(math.prod, zip(a, v, strict=True)))
        - pairs
        - sum(map(math.prod, zip(b, h, strict=True)))
    )


def distribution(energy, shape: tuple[int, ...], temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """All states, (2^d, *shape), and their probabilities."""
    x = every_state(math.prod(shape)).view(-1, *shape)
    with torch.no_grad():
        weights = [math.exp(-float(energy(one[None])) / temperature) for one in x]
    p = torch.tensor(weights, dtype=torch.float64)
    return x, p / p.sum()


def small_ising(
    shape: tuple[int, ...] = (2, 3), std: float = 0.5, *, fields: bool = True, **options
) -> Ising:
    """With random couplings and fields of this standard deviation, float64."""
    model = Ising(event_shape=shape, fields=fields, **options).double()
    g = torch.Generator().manual_seed(4)
    for p in model.parameters():
        p.data = std * torch.randn(p.shape, generator=g, dtype=torch.float64)
    return model.requires_grad_(False)
