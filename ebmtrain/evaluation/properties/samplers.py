"""Laws of a sampler: it stays in a density that is known, and leaves the model alone."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ebmtrain.evaluation.properties.result import PropertyResult, seeded_generator
from ebmtrain.samplers.chain import run_chain, temperature_of
from ebmtrain.types import HasStepSize, Sampler

_CHAINS = 8_000
_STEPS = 150
_STEPS_WITHOUT_REJECTION = 400  # steps of a chain without rejection, in which it forgets its start
_MAX_ERROR_SE = 4.5
_MEAN = 0.3


class GaussianTarget(nn.Module):
    """E(x) = ||x - m||^2 / (2 s^2): at T, every coordinate has mean m and variance T s^2."""

    def __init__(self, std: float):
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return ((x - _MEAN) / self.std).flatten(1).square().sum(1) / 2

    def draw(self, temperature: float) -> Tensor:
        noise = torch.randn(_CHAINS, 2, generator=seeded_generator(1), dtype=torch.float64)
        return _MEAN + temperature**0.5 * self.std * noise


def check_sampler(sampler: Sampler, energy: nn.Module, x: Tensor) -> Iterator[PropertyResult]:
    """Args:
    energy: the user's, to see what chains do to it.
    x: standardized points that chains may start from.
    """
    exact = _has_rejection(sampler)
    yield _check_stationary(sampler) if exact else _check_bias(sampler)
    yield _check_side_effects(sampler, energy, x)


def _has_rejection(sampler: Sampler) -> bool:
    bowl = GaussianTarget(1.0)
    return (
        "acceptance" in run_chain(sampler, bowl, bowl.draw(1.0)[:8], 1, seeded_generator()).metrics
    )


def _check_stationary(sampler: Sampler) -> PropertyResult:
    """Chains that begin in the target stay there: where both branches of the rejection run, since
    at an acceptance near 1 a wrong ratio does not show."""
    t = temperature_of(sampler)
    bowl, rate = GaussianTarget(1.0), 1.0
    for _ in range(12):
        rate = float(
            run_chain(sampler, bowl, bowl.draw(t)[:2000], 3, seeded_generator()).metrics[
                "acceptance"
            ]
        )
        if rate < 0.8:
            break
        bowl = GaussianTarget(bowl.std / 1.6)
    end = run_chain(sampler, bowl, bowl.draw(t), _STEPS, seeded_generator(2)).x
    deviation, error = _variance_error(end, bowl, t)
    shift = float(((end - _MEAN).mean() / (t**0.5 * bowl.std)).abs())
    holds = deviation < _MAX_ERROR_SE * error and shift < _MAX_ERROR_SE * (2 * _CHAINS) ** -0.5
    return PropertyResult(
        "sampler is stationary on a Gaussian", holds,
        f"variance off by {deviation:.1%}, mean by {shift:.2f} std, at acceptance {rate:.2f}",
        f"< {_MAX_ERROR_SE * error:.1%}, < {_MAX_ERROR_SE * (2 * _CHAINS) ** -0.5:.2f}",
    )  # fmt: skip


def _check_bias(sampler: Sampler) -> PropertyResult:
    """Without rejection a bias remains; it must vanish as the step size falls."""
    t, bowl = temperature_of(sampler), GaussianTarget(1.0)
    if t == 0:
        return PropertyResult(
            "sampler is stationary on a Gaussian", None, "at T = 0 it only descends"
        )
    sizes = [(sampler, _STEPS_WITHOUT_REJECTION)]
    if is_dataclass(sampler) and isinstance(sampler, HasStepSize):
        finer: Any = replace(sampler, step_size=sampler.step_size / 4)  # type: ignore
        sizes.append((finer, 4 * _STEPS_WITHOUT_REJECTION))
    found = []
    for kernel, n_steps in sizes:
        end = run_chain(kernel, bowl, bowl.draw(t), n_steps, seeded_generator(2)).x
        found.append(_variance_error(end, bowl, t))
    (coarse, error), (fine, _) = found[0], found[-1]
    allowed = _MAX_ERROR_SE * error + (coarse / 2 if len(found) > 1 else 0.05)
    return PropertyResult(
        "sampler is stationary on a Gaussian", fine < allowed,
        f"variance off by {coarse:.1%}, by {fine:.1%} at a quarter of the step",
        f"< {allowed:.1%}",
    )  # fmt: skip


def _variance_error(end: Tensor, bowl: GaussianTarget, temperature: float) -> tuple[float, float]:
    """|variance / (T s^2) - 1| and the standard error of that ratio over independent chains."""
    squares = ((end - _MEAN).square().mean(1) / (temperature * bowl.std**2)).double()
    deviation = float((squares.mean() - 1).abs())
    error = float(squares.std() / len(squares) ** 0.5)
    return (deviation if deviation == deviation else float("inf")), max(error, 1e-6)


def _check_side_effects(sampler: Sampler, energy: nn.Module, x: Tensor) -> PropertyResult:
    """No gradient arrives at the parameters, no graph leaves the chain, no weight or statistic
    moves, the mode stays, the starting points stay."""
    tried = copy.deepcopy(energy).train()
    before = {name: value.clone() for name, value in tried.state_dict().items()}
    first = x.clone()
    end = run_chain(sampler, tried, first, 3, seeded_generator()).x
    moved = any(not torch.equal(before[n], value) for n, value in tried.state_dict().items())
    wrong = {
        "gradients arrive at the parameters": any(p.grad is not None for p in tried.parameters()),
        "points carry a graph": end.requires_grad,
        "weights or statistics moved": moved,
        "the mode changed": not tried.training,
        "the starting points moved": not torch.equal(first, x),
    }
    found = [name for name, broken in wrong.items() if broken]
    return PropertyResult(
        "chains leave the model alone",
        not found,
        "; ".join(found) or "nothing moved",
        "nothing moves",
    )
