"""Which pairs of spins interact, by pseudo-likelihood with an L1 penalty (Ravikumar, Wainwright &
Lafferty, Annals of Statistics 38(3), 2010), with one coupling for both sites of a pair (Hoefling &
Tibshirani, JMLR 10, 2009)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn.functional import softplus

_MAX_ITERATIONS = 500
_TOLERANCE = 1e-5  # change of a coupling in an iteration
_STRENGTHS = 12  # on a path from the one that selects no pair down to a hundredth of it
_HELD_OUT = 0.2


def select_pairs(x: Tensor, l1: float | None, generator: Generator) -> Tensor:
    """The pairs whose couplings are not 0 at the minimum of

        mean_n sum_i -log p(s_i | all other s) + l1 sum_{i<j} |J_ij|,  E(s) = -s'Js - h's,

    (sites, sites) of 0 and 1.

    Args:
        x: states 0 and 1, (n, *event).
        l1: None: of 12 strengths the one whose pairs, fitted again without a penalty on 80 % of
            the points, have the largest pseudo-likelihood on the others.
    """
    s = 2 * x.flatten(1).double() - 1
    every = 1 - torch.eye(s.shape[1] + 1).to(s)
    if l1 is None:
        order = torch.randperm(len(s), generator=generator, device=s.device)
        n = max(1, round(_HELD_OUT * len(s)))
        held, kept = _with_constant(s[order[:n]]), _with_constant(s[order[n:]])
        start = refit = torch.zeros_like(every)
        strongest = float(_gradient(kept, start)[1:, 1:].abs().max())
        best = torch.inf
        for strength in torch.logspace(0, -2, _STRENGTHS).tolist():
            start = _minimum(kept, every, strength * strongest, start)
            refit = _minimum(kept, _selected(start), 0.0, refit)
            if (nll := _objective(held, refit)) < best:
                best, l1 = nll, strength * strongest
    assert l1 is not None
    found = _minimum(_with_constant(s), every, l1, torch.zeros_like(every))
    return _selected(found)[1:, 1:].to(x)


def fit_couplings(x: Tensor, kept: Tensor) -> Tensor:
    """J of largest pseudo-likelihood without fields, (sites, sites), 0 where `kept` is; float64."""
    s = _with_constant(2 * x.flatten(1).double() - 1)
    allowed = torch.zeros(2 * s.shape[1:]).to(s)
    allowed[1:, 1:] = kept
    return _minimum(s, allowed, 0.0, torch.zeros_like(allowed))[1:, 1:]


def _with_constant(s: Tensor) -> Tensor:
    """With a spin of 1 before the others, whose couplings are h / 2."""
    return torch.cat([torch.ones_like(s[:, :1]), s], 1)


def _selected(j: Tensor) -> Tensor:
    """The pairs with couplings, and all fields."""
    kept = (j != 0).to(j)
    kept[0, 1:] = kept[1:, 0] = 1
    return kept


def _objective(s: Tensor, j: Tensor) -> float:
    return float(softplus(-4 * s * (s @ j))[:, 1:].sum(1).mean())


def _gradient(s: Tensor, j: Tensor) -> Tensor:
    """By the coupling of each pair."""
    slope = -4 * torch.sigmoid(-4 * s * (s @ j)) * s / len(s)
    slope[:, 0] = 0  # the constant is not predicted
    g = slope.T @ s
    return g + g.T


def _minimum(s: Tensor, allowed: Tensor, l1: float, j: Tensor) -> Tensor:
    """Accelerated proximal gradient steps from j (Beck & Teboulle, SIAM J. Imaging Sci. 2, 2009),
    with restarts. The curvature is at most 8 times the largest eigenvalue of s's / n."""
    step = 1 / (8 * float(torch.linalg.matrix_norm(s.T @ s / len(s), 2)))
    threshold = torch.full_like(j, step * l1)
    threshold[0], threshold[:, 0] = 0, 0
    j = j * allowed
    y, momentum = j, 1.0
    for _ in range(_MAX_ITERATIONS):
        z = (y - step * _gradient(s, y)) * allowed
        new = z.sign() * (z.abs() - threshold).clamp(min=0)
        if float(((y - new) * (new - j)).sum()) > 0:
            momentum = 1.0
        after = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        change = float((new - j).abs().max())
        y, j, momentum = new + (momentum - 1) / after * (new - j), new, after
        if change < _TOLERANCE:
            break
    return j
