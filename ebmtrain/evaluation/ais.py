"""Lower and upper bounds of log Z by annealed importance sampling, in any number of dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Generator, Tensor

from ebmtrain.datasets.extremes import extreme_values
from ebmtrain.datasets.support import Continuous
from ebmtrain.evaluation.estimators.annealing import (
    GeometricPath,
    adaptive_schedule,
    anneal,
    bennett_log_z,
    refine_schedule,
    reversed_schedule,
)
from ebmtrain.evaluation.exact import (
    LOG_Z_LEFT_OUT,
    check_entropy_bound,
    log_density,
    mean_nll,
    model_log_z,
    without_log_z,
)
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, float64_copy
from ebmtrain.samplers.chain import jumps_of, temperature_of
from ebmtrain.samplers.resampling import effective_sample_size, log_mean_exp
from ebmtrain.types import (
    Count,
    HasAdaptation,
    HasClamp,
    HasStepSize,
    HasStepSizeEnd,
    OpenUnit,
    Sampler,
    WholeNumber,
)

# A gap between the two sides gives a warning if it exceeds both.
_MAX_GAP_SE = 4.0
_MAX_GAP_NATS = 0.05
_MIN_ESS = 30  # below it the bootstrap is unreliable


@dataclass(frozen=True, kw_only=True)
class AnnealedImportanceSampling:
    """Bidirectional annealed importance sampling (AIS): forward chains from a Gaussian fitted to
    the training data to the model (Neal, 2001), and reverse chains from the model's samples back to
    the Gaussian (Burda et al., 2015; Grosse, Ancha & Roy, NeurIPS 2016). With importance weights w
    of the chains of each direction,

        log Z_forward = log mean w,  log Z_reverse = -log mean w.

    By Jensen's inequality log Z_forward is on average below log Z. log Z_reverse is on average
    above log Z if the reverse chains start from the model. They start from samples of the run's own
    sampler, so it is an upper bound only as far as these are samples of the model. Chains of a
    sampler with jumps are not quite independent; their standard error is then slightly too small.
    All metrics are in nats, in the data's units, at temperature T.

    log_z_lower, log_z_upper   bootstrap bounds: lower of the forward, upper of the reverse side
    nll_lower, nll_upper       mean energy of the held-out points plus these
    log_z, log_z_se            estimate from both sides (Bennett, 1976), and its standard error: at
                               least half of the gap between the two sides
    nll, nll_se                NLL with log_z; its error includes that of the held-out mean
    entropy, regret            where the true density is known
    ess, ess_reverse           effective sample size of the chains of each side. Where it is too
                               small, or the sides do not agree, log_z, nll and regret are left out
                               with a warning, and the bounds remain
    log_z_exact                where the energy itself gives log Z (`Normalised`), for comparison

    The annealing schedule and the step sizes are chosen by pilot chains and fixed before the
    weights are computed, so that the weights are unbiased.

    Args:
        every: updates between two evaluations, see `Evaluator`.
        chains: number of chains of each side.
        temperatures: steps of the annealing schedule; the variance of log w is proportional to the
            inverse of their number.
        steps: kernel steps at each temperature.
        kernel: a sampler that leaves exp(-U) exactly invariant: hmc or mala, in coordinates in
            which the fitted Gaussian is N(0, I). Its adaptation tunes the step size at each
            temperature of the pilot.
        pilot_chains: number of chains of the pilot.
        pilot_ess: fraction of the conditional effective sample size that each step of the pilot
            keeps.
        bootstrap: number of bootstrap resamplings of the chains.
        confidence: of each one-sided bound.

    Raises:
        ValueError: the kernel is not exact.
    """

    every: WholeNumber
    kernel: Sampler
    chains: Count = 1500
    temperatures: Count = 600
    steps: Count = 1
    pilot_chains: Count = 500
    pilot_ess: OpenUnit = 0.9
    bootstrap: Count = 1000
    confidence: OpenUnit = 0.99

    def __post_init__(self) -> None:
        name = type(self.kernel).__name__
        if temperature_of(self.kernel) != 1.0:
            raise ValueError(f"evaluation.kernel.temperature of {name} must be 1: U contains T")
        if isinstance(self.kernel, HasClamp) and self.kernel.clamp is not None:
            raise ValueError(f"evaluation.kernel.clamp of {name} must be null: it breaks exactness")
        if isinstance(self.kernel, HasStepSizeEnd) and self.kernel.step_size_end is not None:
            raise ValueError(
                f"evaluation.kernel.step_size_end of {name} must be null: each temperature has a "
                "step size of its own"
            )
        if not isinstance(self.kernel, HasAdaptation) or not isinstance(self.kernel, HasStepSize):
            raise ValueError(f"evaluation.kernel {name} is not exact: choose hmc or mala")

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        return evaluate_sides(self.bidirectional_ais(inputs), inputs, self)

    def bidirectional_ais(self, inputs: EvaluationInput) -> LogWeights:
        """Log weights of forward chains from the base and of reverse chains from the model."""
        energy = float64_copy(inputs.energy)
        like = next(iter([*energy.parameters(), *energy.buffers()]), torch.zeros(()))
        device = like.device
        shape = tuple(inputs.standardization.shift.shape)
        starts = inputs.draw(self.chains).to(device, torch.float64).flatten(1)
        points = starts
        if inputs.dataset is not None:
            train = inputs.standardization.to_standard(inputs.dataset.train)
            points = train.to(device).flatten(1)
        assert isinstance(inputs.support, Continuous)
        base = inputs.support.base(points)

        path = partial(
            GeometricPath, base=base, energy=energy, temperature=inputs.temperature, shape=shape
        )

        def device_generator(purpose: str) -> Generator:
            seed = inputs.generator(purpose).initial_seed()
            return torch.Generator(device).manual_seed(seed)

        def noise(n: int, generator: Generator) -> Tensor:
            empty = torch.empty(n, points.shape[1], dtype=torch.float64, device=device)
            return empty.normal_(generator=generator)

        kernel = self.kernel
        if jumps_of(kernel) is not None:  # weights of chains must be independent
            kernel = replace(kernel, jumps=None)  # type: ignore[type-var]
        g = device_generator("pilot")
        z = noise(self.pilot_chains, g)
        coarse = adaptive_schedule(path, z, kernel, self.pilot_ess, g)
        schedule = refine_schedule(coarse, max(self.temperatures, len(coarse.betas) - 1))
        g = device_generator("forward")
        forward = anneal(path, noise(self.chains, g), schedule, kernel, self.steps, g)
        g, z = device_generator("reverse"), base.whiten(starts)
        reverse = anneal(path, z, reversed_schedule(schedule), kernel, self.steps, g)

        def reduced_energy(u: Tensor) -> Tensor:
            return energy(u.to(device).view(-1, *shape)).cpu() / inputs.temperature

        volume = base.log_volume
        return LogWeights(forward.cpu() + volume, reverse.cpu() - volume, reduced_energy)

    def summarize(
        self, sides: LogWeights, generator: Generator
    ) -> tuple[dict[str, float], list[str]]:
        """See `summarize`."""
        return summarize(sides, generator, self)


class LogWeights(NamedTuple):
    """Log weights over standardized points, (chains,) for each side, and the energy."""

    forward: Tensor
    """Of chains from the base to the model: log mean exp is log Z."""
    reverse: Tensor
    """Of chains from the model to the base: log mean exp is -log Z."""
    reduced_energy: Callable[[Tensor], Tensor]
    """E / T in float64."""


class BootstrapSettings(Protocol):
    """The arguments of `AnnealedImportanceSampling` of these names."""

    @property
    def chains(self) -> int: ...

    @property
    def bootstrap(self) -> int: ...

    @property
    def confidence(self) -> float: ...


def evaluate_sides(
    sides: LogWeights, inputs: EvaluationInput, settings: BootstrapSettings
) -> Evaluation:
    """The metrics of both sides, with those of held-out points."""
    metrics, warnings = summarize(sides, inputs.cpu_generator("bootstrap"), settings)
    known = model_log_z(float64_copy(inputs.energy), inputs.temperature)
    if known is not None:
        if "log_z" in metrics:
            apart = abs(metrics["log_z"] - known)
            if not apart <= max(_MAX_GAP_SE * metrics["log_z_se"], _MAX_GAP_NATS):
                warnings.append(
                    f"{LOG_Z_LEFT_OUT}: it is {apart:.2g} nats from the model's own log_z; "
                    "raise evaluation.temperatures or evaluation.chains"
                )
                metrics = without_log_z(metrics)
        metrics["log_z_exact"] = known
    for name in {"log_z", "log_z_lower", "log_z_upper", "log_z_exact"} & metrics.keys():
        metrics[name] += inputs.standardization.log_volume
    dataset = inputs.dataset
    if dataset is None:
        return Evaluation(metrics, warnings)
    u = inputs.standardization.to_standard(dataset.holdout)
    slope = inputs.standardization.log_slope(dataset.holdout)
    mean, se = mean_nll(log_density(sides.reduced_energy, u, 0.0).cpu() + slope)
    for end in ("", "_lower", "_upper"):
        if f"log_z{end}" in metrics:
            metrics[f"nll{end}"] = mean + metrics[f"log_z{end}"]
    if "nll" not in metrics:
        return Evaluation(metrics, [*warnings, *extreme_values(dataset)])
    metrics["nll_se"] = nll_se = math.hypot(se, metrics["log_z_se"])
    if dataset.truth is None:
        return Evaluation(metrics, warnings)
    failed = "log Z is estimated too low; raise evaluation.temperatures"
    checked, below = check_entropy_bound(metrics, dataset.truth.entropy, nll_se, failed)
    return Evaluation(checked, warnings + below)


def summarize(
    sides: LogWeights, generator: Generator, settings: BootstrapSettings
) -> tuple[dict[str, float], list[str]]:
    """Estimate, bounds and effective sample sizes over standardized points, without those that
    are known to be wrong, and warnings."""
    forward, reverse, _ = sides

    def resample(x: Tensor) -> Tensor:
        return x[torch.randint(len(x), (settings.bootstrap, len(x)), generator=generator)]

    forwards, reverses = resample(forward), resample(reverse)
    lowers, uppers = log_mean_exp(forwards), -log_mean_exp(reverses)
    error = math.hypot(float(lowers.std()), float(uppers.std()))
    gap = -float(log_mean_exp(reverse)) - float(log_mean_exp(forward))
    tail = 1 - settings.confidence
    lower, upper = float(lowers.quantile(tail)), float(uppers.quantile(1 - tail))
    if not lower <= upper:  # neither side is a bound: take the bootstrap intervals of both
        ends = lower, upper, float(lowers.quantile(1 - tail)), float(uppers.quantile(tail))
        lower, upper = min(ends), max(ends)
    log_z_se = float(bennett_log_z(forwards[:100], reverses[:100]).std())
    metrics = {
        "log_z": float(bennett_log_z(forward, reverse)),
        "log_z_se": max(log_z_se, abs(gap) / 2),
        "log_z_lower": lower,
        "log_z_upper": upper,
        "ess": float(effective_sample_size(forward)),
        "ess_reverse": float(effective_sample_size(reverse)),
    }
    warnings = []
    if not abs(gap) <= max(_MAX_GAP_SE * error, _MAX_GAP_NATS):
        where, reason = "below", "raise evaluation.temperatures or evaluation.steps"
        if gap < 0:
            where = "above"
            reason = (
                "the samples that the reverse chains start from are not from the model; raise "
                "samples.burn_in or change the sampler"
            )
        warnings.append(
            f"{LOG_Z_LEFT_OUT}: the forward side is {abs(gap):.2g} nats {where} the reverse "
            f"side; {reason}"
        )
    for name in ("ess", "ess_reverse"):
        if not metrics[name] >= min(_MIN_ESS, settings.chains):
            warnings.append(
                f"{LOG_Z_LEFT_OUT}: {name} is {metrics[name]:.1f} of {settings.chains} chains; "
                "raise evaluation.temperatures"
            )
    if warnings:
        del metrics["log_z"], metrics["log_z_se"]
    return metrics, warnings
