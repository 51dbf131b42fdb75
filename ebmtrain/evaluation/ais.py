"""log Z from both sides by annealed importance sampling, in any number of dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ebmtrain.evaluation.estimators.annealing import (
    GeometricPath,
    adaptive_schedule,
    anneal,
    bennett_log_z,
    refine_schedule,
    reversed_schedule,
)
from ebmtrain.evaluation.exact import check_entropy_bound, log_density, mean_nll, model_log_z
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Metric, float64_copy
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
)

_MAX_GAP_SE = 4.0  # standard errors between the two sides beyond which chance is no reason
_MAX_GAP_NATS = 0.05  # nats between them that nobody is warned of
_MIN_ESS = 30  # effective chains below which a bootstrap says little


@dataclass(frozen=True, kw_only=True)
class AnnealedImportanceSampling:
    """Chains from a Gaussian fitted to the training data to the model (Neal, 2001) and back from
    the model's samples (Burda et al., 2015; Grosse, Ancha & Roy, NeurIPS 2016): with weights w,

        log Z_forward = log mean w,  log Z_reverse = -log mean 1/w.

    By Jensen's inequality the first is on average below log Z. The second is on average above it
    if its chains start from the model. They start from what the run's own sampler draws, so it is
    an upper bound only as far as those points are of the model; and chains of a sampler with
    jumps are not quite independent, so its error is a little too small. In nats and in the data's
    units, at T.

    log_z_lower, log_z_upper   bootstrap ends: of the forward side below, the reverse side above
    nll_lower, nll_upper       mean energy of the held-out points plus these
    log_z, log_z_se            both sides joined (Bennett, 1976); the error is at least half of
                               the gap between the two
    nll, nll_se                with it; the error also has that of the held-out mean
    entropy, regret            where the true density is known
    ess, ess_reverse           effective number of chains of each side
    log_z_exact                where the energy itself knows it (`Normalised`): beside the estimate

    The ladder and the step sizes are chosen by a pilot and stay fixed while weights are taken, so
    that the weights are unbiased.

    Args:
        every: updates between two evaluations; the last update always makes one.
        chains: of each side.
        temperatures: steps of the ladder; the variance of log w falls as their inverse.
        steps: of the kernel at each temperature.
        kernel: a sampler that leaves exp(-U) exactly as it is: hmc or mala; in units in which the
            fitted Gaussian is N(0, I). Its step size, learnt by its adaptation at each
            temperature of the pilot.
        pilot_chains: of the pilot.
        pilot_ess: share of the conditional effective sample size that each step of the pilot keeps.
        bootstrap: resamplings of the chains.
        confidence: of each of the two ends alone.

    Raises:
        ValueError: a kernel that is not exact.
    """

    every: Count
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
            raise ValueError(f"evaluation.kernel.temperature of {name} must be 1: the path has T")
        if isinstance(self.kernel, HasClamp) and self.kernel.clamp is not None:
            raise ValueError(f"evaluation.kernel.clamp of {name} must be null: it breaks exactness")
        if isinstance(self.kernel, HasStepSizeEnd) and self.kernel.step_size_end is not None:
            raise ValueError(
                f"evaluation.kernel.step_size_end of {name} must be null: each level learns its own"
            )
        if not isinstance(self.kernel, HasAdaptation) or not isinstance(self.kernel, HasStepSize):
            raise ValueError(f"evaluation.kernel {name} is not exact: choose hmc or mala")

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        sides = self.bidirectional_ais(inputs)
        metrics, warnings = self.summarize(sides, inputs.generator("bootstrap"))
        known = model_log_z(float64_copy(inputs.energy), inputs.temperature)
        if known is not None:
            warnings += _compare_with_exact(metrics["log_z"], metrics["log_z_se"], known)
            metrics["log_z_exact"] = known
        volume = inputs.standardization.log_volume
        metrics = {k: v + volume * k.startswith("log_z") * (k != "log_z_se")
                   for k, v in metrics.items()}  # fmt: skip
        dataset = inputs.dataset
        if dataset is None:
            return Evaluation(metrics, warnings)
        u = inputs.standardization.to_standard(dataset.holdout)
        mean, se = mean_nll(log_density(sides.reduced_energy, u, 0.0))
        both = math.hypot(se, metrics["log_z_se"])
        found: dict[str, Metric] = {
            **metrics,
            "nll": mean + metrics["log_z"],
            "nll_se": both,
            "nll_lower": mean + metrics["log_z_lower"],
            "nll_upper": mean + metrics["log_z_upper"],
        }
        if dataset.truth is None:
            return Evaluation(found, warnings)
        said = "log Z is estimated too low; raise evaluation.temperatures"
        held, beneath = check_entropy_bound(found, dataset.truth.entropy, both, said)
        return Evaluation(held, warnings + beneath)

    def bidirectional_ais(self, inputs: EvaluationInput) -> LogWeights:
        """Log weights from the base and from the model's samples."""
        energy = float64_copy(inputs.energy)
        like = next(iter([*energy.parameters(), *energy.buffers()]), torch.zeros(()))
        device = like.device
        shape = tuple(inputs.standardization.shift.shape)
        starts = inputs.draw(self.chains).to(device, torch.float64).flatten(1)
        if inputs.dataset is None:
            points = starts
        else:
            train = inputs.standardization.to_standard(inputs.dataset.train)
            points = train.to(device).flatten(1)
        base = inputs.support.base(points)

        def path(beta: float) -> GeometricPath:
            return GeometricPath(
                beta=beta, base=base, energy=energy, temperature=inputs.temperature, shape=shape
            )

        def streams(purpose: str) -> Generator:
            seed = inputs.generator(purpose).initial_seed()
            return torch.Generator(device).manual_seed(seed)

        def noise(n: int, generator: Generator) -> Tensor:
            empty = torch.empty(n, points.shape[1], dtype=torch.float64, device=device)
            return empty.normal_(generator=generator)

        kernel = self.kernel
        if jumps_of(kernel) is not None:  # weights of chains must be independent
            kernel = replace(kernel, jumps=None)  # type: ignore[type-var]
        first = streams("pilot")
        found = adaptive_schedule(
            path, noise(self.pilot_chains, first), kernel, self.pilot_ess, first
        )
        ladder = refine_schedule(found, max(self.temperatures, len(found.betas) - 1))
        forward, reverse = streams("forward"), streams("reverse")
        z = noise(self.chains, forward)
        up = anneal(path, z, ladder, kernel, self.steps, forward)
        down = anneal(
            path, base.whiten(starts), reversed_schedule(ladder), kernel, self.steps, reverse
        )

        def reduced(u: Tensor) -> Tensor:
            return energy(u.to(device).view(-1, *shape)).cpu() / inputs.temperature

        return LogWeights(up.cpu() + base.log_volume, down.cpu() - base.log_volume, reduced)

    def summarize(
        self, sides: LogWeights, generator: Generator
    ) -> tuple[dict[str, float], list[str]]:
        """Numbers over standardized points, and what is wrong with them."""
        up, down = sides.up, sides.down
        draws = torch.Generator().manual_seed(generator.initial_seed())

        def again(values: Tensor) -> Tensor:
            rows = torch.randint(len(values), (self.bootstrap, len(values)), generator=draws)
            return values[rows]

        ups, downs = again(up), again(down)
        below, above = log_mean_exp(ups), -log_mean_exp(downs)
        lower, upper = float(log_mean_exp(up)), -float(log_mean_exp(down))
        error = math.hypot(float(below.std()), float(above.std()))
        tail = 1 - self.confidence
        ends = [float(below.quantile(tail)), float(above.quantile(1 - tail))]
        spread = [ends[0], ends[1], float(below.quantile(1 - tail)), float(above.quantile(tail))]
        gap = upper - lower
        metrics = {
            "log_z": float(bennett_log_z(up, down)),
            "log_z_se": max(float(bennett_log_z(ups[:100], downs[:100]).std()), abs(gap) / 2),
            # Sides that have changed places bound nothing; then the ends of both are given.
            "log_z_lower": ends[0] if ends[0] <= ends[1] else min(spread),
            "log_z_upper": ends[1] if ends[0] <= ends[1] else max(spread),
            "ess": float(effective_sample_size(up)),
            "ess_reverse": float(effective_sample_size(down)),
        }
        warnings = []
        if not abs(gap) <= max(_MAX_GAP_SE * error, _MAX_GAP_NATS):
            where = "above" if gap < 0 else "below"
            reason = (
                "the chains that the reverse side starts from are not from the model; raise "
                "samples.burn_in or change the sampler"
                if gap < 0
                else "raise evaluation.temperatures or evaluation.steps"
            )
            warnings.append(
                f"log Z is uncertain: the forward side is {abs(gap):.2g} nats {where} the reverse "
                f"side; {reason}"
            )
        for name in ("ess", "ess_reverse"):
            if not metrics[name] >= min(_MIN_ESS, self.chains):
                warnings.append(
                    f"log Z is uncertain: {name} is {metrics[name]:.1f} of {self.chains} chains; "
                    "raise evaluation.temperatures"
                )
        return metrics, warnings


def _compare_with_exact(estimate: float, error: float, known: float) -> list[str]:
    """What is to be said of an estimate beside the truth."""
    if abs(estimate - known) <= max(_MAX_GAP_SE * error, _MAX_GAP_NATS):
        return []
    return [
        f"log Z is estimated wrongly: {abs(estimate - known):.2g} nats from the model's own log_z; "
        "raise evaluation.temperatures or evaluation.chains"
    ]


class LogWeights(NamedTuple):
    """Log weights over standardized points, (chains,) each, and the energy that they are of."""

    up: Tensor
    """From the base: log mean exp is log Z."""
    down: Tensor
    """From the model: log mean exp is -log Z."""
    reduced_energy: Callable[[Tensor], Tensor]
    """E / T in float64."""
