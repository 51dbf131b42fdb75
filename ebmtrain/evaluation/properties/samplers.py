"""Properties of a sampler: it leaves a known density invariant and does not modify the model."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ebmtrain.evaluation.properties.result import (
    PropertyResult,
    no_faults,
    not_applicable,
    seeded_generator,
)
from ebmtrain.evaluation.properties.state_target import StateTarget
from ebmtrain.samplers.chain import run_chain, temperature_of
from ebmtrain.types import HasStepSize, Sampler, takes_space

_N_CHAINS = 8_000
_N_STEPS = 150
_STEPS_WITHOUT_REJECTION = 400  # long enough to reach the stationary distribution
_MAX_ERROR_SE = 4.5
_MEAN = 0.3
_N_SWEEPS = 20  # of chains of states
_MIN_MOVED = 0.5
_STATIONARY = "sampler is stationary on a Gaussian"


class _GaussianTarget(nn.Module):
    """E(x) = ||x - m||^2 / (2 s^2): at temperature T every coordinate has mean m and variance T
    s^2.
    """

    def __init__(self, std: float):
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return ((x - _MEAN) / self.std).flatten(1).square().sum(1) / 2

    def draw(self, temperature: float) -> Tensor:
        """Independent samples of exp(-E / T), (8000, 2), float64."""
        noise = torch.randn(_N_CHAINS, 2, generator=seeded_generator(1), dtype=torch.float64)
        return _MEAN + temperature**0.5 * self.std * noise


def check_sampler(sampler: Sampler, energy: nn.Module, x: Tensor) -> Iterator[PropertyResult]:
    """Checks a sampler on Gaussians, and for side effects of its chains from standardized points x
    on the user's energy.
    """
    if not takes_space(sampler, "real"):
        yield _check_states(sampler)
        yield _check_side_effects(sampler, energy, x)
        return
    yield _check_stationary(sampler) if _has_rejection(sampler) else _check_bias(sampler)
    yield _check_side_effects(sampler, energy, x)


def _check_states(sampler: Sampler) -> PropertyResult:
    """Chains that start from an enumerable density of 3 x 3 states keep the mean of each state, of
    each product of two and of the energy, and every chain moves."""
    t, target = temperature_of(sampler), StateTarget(1.0).double()
    start = target.draw(_N_CHAINS, t)
    end = run_chain(sampler, target, start, _N_SWEEPS, seeded_generator(2)).x
    states, p = target.distribution(t)
    values, truth = target.statistics(end), target.statistics(states)
    mean = p @ truth
    error = ((p @ truth.square() - mean.square()) / _N_CHAINS).sqrt()
    deviation = float(((values.mean(0) - mean) / error).abs().max())
    moved = float((end != start).any(1).double().mean())
    return PropertyResult(
        "sampler is stationary on 3 x 3 states",
        deviation < _MAX_ERROR_SE and moved > _MIN_MOVED,
        f"means off by {deviation:.1f} standard errors, {moved:.0%} of the chains moved",
        f"< {_MAX_ERROR_SE:g}, > {_MIN_MOVED:.0%}",
    )


def _has_rejection(sampler: Sampler) -> bool:
    """Whether the sampler reports an acceptance."""
    target = _GaussianTarget(1.0)
    chain = run_chain(sampler, target, target.draw(1.0)[:8], 1, seeded_generator())
    return "acceptance" in chain.metrics


def _check_stationary(sampler: Sampler) -> PropertyResult:
    """Chains that start from the target keep its mean and variance. The target is scaled so that
    proposals are both accepted and rejected: at an acceptance near 1 a wrong acceptance ratio has
    no effect.
    """
    t = temperature_of(sampler)
    target, acceptance = _GaussianTarget(1.0), 1.0
    for _ in range(12):
        chain = run_chain(sampler, target, target.draw(t)[:2000], 3, seeded_generator())
        acceptance = float(chain.metrics["acceptance"])
        if acceptance < 0.8:
            break
        target = _GaussianTarget(target.std / 1.6)
    end = run_chain(sampler, target, target.draw(t), _N_STEPS, seeded_generator(2)).x
    deviation, error = _variance_error(end, target, t)
    shift = float(((end - _MEAN).mean() / (t**0.5 * target.std)).abs())
    holds = deviation < _MAX_ERROR_SE * error and shift < _MAX_ERROR_SE * (2 * _N_CHAINS) ** -0.5
    return PropertyResult(
        _STATIONARY,
        holds,
        f"variance off by {deviation:.1%}, mean by {shift:.2f} std, at acceptance {acceptance:.2f}",
        f"< {_MAX_ERROR_SE * error:.1%}, < {_MAX_ERROR_SE * (2 * _N_CHAINS) ** -0.5:.2f}",
    )


def _check_bias(sampler: Sampler) -> PropertyResult:
    """Without rejection the variance has a bias, which must decrease with the step size."""
    t, target = temperature_of(sampler), _GaussianTarget(1.0)
    if t == 0:
        return not_applicable(_STATIONARY, "at T = 0 it only descends")
    runs = [(sampler, _STEPS_WITHOUT_REJECTION)]
    if is_dataclass(sampler) and isinstance(sampler, HasStepSize):
        finer: Any = replace(sampler, step_size=sampler.step_size / 4)  # type: ignore
        runs.append((finer, 4 * _STEPS_WITHOUT_REJECTION))
    errors = []
    for kernel, n_steps in runs:
        end = run_chain(kernel, target, target.draw(t), n_steps, seeded_generator(2)).x
        errors.append(_variance_error(end, target, t))
    (coarse, error), (fine, _) = errors[0], errors[-1]
    allowed = _MAX_ERROR_SE * error + (coarse / 2 if len(errors) > 1 else 0.05)
    return PropertyResult(
        _STATIONARY,
        fine < allowed,
        f"variance off by {coarse:.1%}, by {fine:.1%} at a quarter of the step",
        f"< {allowed:.1%}",
    )


def _variance_error(
    end: Tensor, target: _GaussianTarget, temperature: float
) -> tuple[float, float]:
    """|variance / (T s^2) - 1| and the standard error of the ratio over independent chains."""
    squares = ((end - _MEAN).square().mean(1) / (temperature * target.std**2)).double()
    deviation = float((squares.mean() - 1).abs())
    error = float(squares.std() / len(squares) ** 0.5)
    return (deviation if deviation == deviation else float("inf")), max(error, 1e-6)


def _check_side_effects(sampler: Sampler, energy: nn.Module, x: Tensor) -> PropertyResult:
    """Parameters get no gradient, samples carry no graph, and weights, statistics, mode and
    starting points do not change.
    """
    model = copy.deepcopy(energy).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = x.clone()
    end = run_chain(sampler, model, first, 3, seeded_generator()).x
    changed = any(not torch.equal(before[n], value) for n, value in model.state_dict().items())
    faults = {
        "gradients arrive at the parameters": any(p.grad is not None for p in model.parameters()),
        "points carry a graph": end.requires_grad,
        "weights or statistics changed": changed,
        "the mode changed": not model.training,
        "the starting points changed": not torch.equal(first, x),
    }
    return no_faults("chains do not change the model", faults, "no change")
