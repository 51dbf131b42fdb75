"""The training problem, the same for every tool: sizes, data, weights, and number of operations.

pcd  persistent contrastive divergence: B chains, k Langevin steps each
hmc  the same with one trajectory of k leapfrog steps, accepted or rejected
dsm  denoising score matching at one noise
ssm  sliced score matching, (v's)^2 / 2 + v'(ds/dx)v with one v ~ N(0, I) per point
ed   energy discrepancy with M perturbed points per data point

The last three do not use k.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

METHODS = ("pcd", "hmc", "dsm", "ssm", "ed")
ETA, EPS, SIGMA, RATE = 0.01, 0.1, 0.1, 1e-3  # steps of Langevin and leapfrog, noise, Adam's rate
VARIANCE, M = 0.3, 4  # noise of energy discrepancy; its points per data point

Epoch = Callable[[], Any]


@dataclass(frozen=True)
class Setting:
    method: str
    batch: int
    width: int
    dim: int
    k: int
    points: int = 10_000

    @property
    def steps(self) -> int:
        """Updates per epoch, the unit of all timings."""
        return max(1, self.points // self.batch)

    @property
    def smooth(self) -> bool:
        """True for losses with derivatives of the energy, which use SiLU; chains use LeakyReLU."""
        return self.method not in ("pcd", "hmc")

    @property
    def flops(self) -> float:
        """Operations of one update in the matrix products that it needs at least.

        Counted in passes of B points through the first layer and through the others. In the
        backward pass a product costs one for its weights and one for its input, and the data need
        no gradient.
        """
        w = self.width
        first, others = 2 * self.dim * w, 2 * (w * w + w)
        in_first, in_others = {
            # Each gradient of a chain: a forward pass, and a backward pass to its points. Then a
            # forward pass of 2 B points, and a backward pass to the weights.
            "pcd": (2 * self.k + 2 * 2, 2 * self.k + 2 * 3),
            # A trajectory needs the gradient of its first point and one per leapfrog step.
            "hmc": (2 * (self.k + 1) + 2 * 2, 2 * (self.k + 1) + 2 * 3),
            # Energy 1, gradient 1; backward through the gradient 2, the energy 2 (data: 1).
            "dsm": (5, 6),
            # Energy 1, gradient 1, derivative of the gradient along v 2; backward through these
            # four 8, less one at the data and one at v, which are constants.
            "ssm": (10, 12),
            "ed": ((1 + M) * 2, (1 + M) * 3),
        }[self.method]
        return self.batch * (in_first * first + in_others * others)


def common(s: Setting) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Data, chains and weights (each matrix (out, in), followed by its bias), float32."""
    random = np.random.default_rng(0)
    data = random.normal(size=(s.points, s.dim)).astype(np.float32)
    chains = random.normal(size=(s.batch, s.dim)).astype(np.float32)
    weights = []
    for n_in, n_out in ((s.dim, s.width), (s.width, s.width), (s.width, 1)):
        weights.append((random.normal(size=(n_out, n_in)) / math.sqrt(n_in)).astype(np.float32))
        weights.append(np.zeros(n_out, dtype=np.float32))
    return data, chains, weights


def filled(module: Any, weights: list[np.ndarray]) -> Any:
    import torch

    with torch.no_grad():
        for parameter, value in zip(module.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(value))
    return module


def network(s: Setting, weights: list[np.ndarray]) -> Any:
    from torch import nn

    act = nn.SiLU if s.smooth else nn.LeakyReLU
    layers = (
        nn.Linear(s.dim, s.width), act(), nn.Linear(s.width, s.width), act(), nn.Linear(s.width, 1)
    )  # fmt: skip
    return filled(nn.Sequential(*layers), weights)
