"""Whether the run's own sampler mixes on the model that it was trained with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from ebmtrain.evaluation.estimators.mixing import Mixing, autocorrelation, ess_growth, mixing
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Metric
from ebmtrain.samplers.chain import temperature_of
from ebmtrain.score import freeze, in_chunks
from ebmtrain.types import Count, HasClamp, HasJumps, Sampler, WrapsSampler, method_chains

# Beyond it chains do not mix. For four long chains 1.01 is advised; these are many and short, and
# sqrt(1 + tau / n) in equilibrium too: 1.1 means five independent draws in each half of a chain.
MAX_RHAT = 1.1
MIN_ESS = 400  # below it R-hat itself is not to be trusted (Vehtari et al., 2021)
_MIN_ACCEPTANCE = 0.1
_MIN_DRAWS = 50  # draws of each chain below which there is no verdict on its mixing


class ChainRecord(NamedTuple):
    """What was seen along some chains."""

    names: list[str]
    """The energy, then coordinates or principal axes."""
    series: np.ndarray
    """(quantities, chains, draws), the energy in units of T, points standardized."""
    rates: dict[str, float]
    evaluations: int
    seconds: float


class ChainSummary(NamedTuple):
    """What a picture of the chains shows; see `plots.chains`."""

    names: list[str]
    series: np.ndarray
    rhat: np.ndarray
    correlations: np.ndarray
    """(quantities, lags)"""
    lengths: list[int]
    bulk: list[float]
    tail: list[float]


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """Chains of the run's own sampler on the evaluated energy, watched after the burn-in: they
    begin where `samples.start` says and walk `samples.burn_in` steps, in which the sampler goes on
    adapting what it learnt in training, and `draws` times `thin` steps with all of it fixed.

    chain_acceptance, chain_jump_acceptance, chain_swapped, chain_clipped
                        means over chains and steps, where the sampler has them
    rhat                worst rank-normalised split R-hat: of the energy and of each coordinate, in
                        more than eight dimensions of the first eight principal axes of the draws
    ess_bulk, ess_tail  worst effective sample sizes, of all draws of all chains together
    ess_per_evaluation  ess_bulk per energy evaluation, jumps and hot chains included
    ess_per_second      the same per second of wall clock: never the same twice
    chain_age_mean, chain_age_max, restarts
                        steps of the method's persistent chains since their last restart, and how
                        many restarts there were, where it keeps count

    Chains that jump (`sampler.jumps`) propose by differences of each other. In equilibrium they
    are independent at each moment but not over time: what one chain did returns in others. The
    effective sizes count the correlation within chains alone and are then somewhat too large.
    R-hat near 1 says that all chains tell the same story, with jumps as without; neither sees a
    mode in which no chain ever was.

    Args:
        every: updates between two; none before the first, the last update always makes one.
        chains: side by side.
        draws: of each chain. Fewer than fifty give numbers and no verdict.
        thin: steps between two draws. Jumps come at least once in these.
    """

    at_start: ClassVar[bool] = False

    every: Count
    chains: Annotated[int, Ge(4)] = 64
    draws: Annotated[int, Ge(8)] = 150
    thin: Count = 10

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        if temperature_of(inputs.sampler) == 0:
            notice = "no chain diagnostics: at sampler.temperature=0 chains only descend"
            return Evaluation(chain_age_metrics(inputs), [notice])
        record = self.record(inputs)
        metrics: dict[str, Metric] = {f"chain_{k}": v for k, v in record.rates.items()}
        metrics |= chain_age_metrics(inputs)
        warnings = _rate_warnings(record.rates, inputs.sampler)
        if not np.isfinite(record.series).all():
            lost = "chains are not to be judged: they meet energies or points that are not finite"
            return Evaluation(metrics, [*warnings, f"{lost}; lower optimizer.lr"])
        found = mixing(record.series)
        if np.isnan(found.rhat).any():
            return Evaluation(metrics, [*warnings, _STUCK])
        bulk = float(found.bulk.min())
        metrics |= {
            "rhat": float(found.rhat.max()),
            "ess_bulk": bulk,
            "ess_tail": float(found.tail.min()),
            "ess_per_evaluation": bulk / record.evaluations,
            "ess_per_second": bulk / record.seconds,
        }
        if self.draws >= _MIN_DRAWS:
            warnings += _mixing_warnings(
                found, record.names, self.chains * self.draws, inputs.sampler
            )
        return Evaluation(metrics, warnings)

    def record(self, inputs: EvaluationInput) -> ChainRecord:
        """Energies and coordinates along the chains of the inputs."""
        walk = inputs.trace(self.chains, self.draws, self.thin)
        flat = walk.points.flatten(0, 1)
        like = next(iter([*inputs.energy.parameters(), *inputs.energy.buffers()]), flat)
        with freeze(inputs.energy), torch.no_grad():
            energy = in_chunks(lambda part: inputs.energy(part.to(like)).cpu(), flat, 4096)
        quantities = choose_quantities(flat)
        energy = energy.double() / inputs.temperature
        values = torch.cat([energy[:, None], quantities.of(flat).double()], 1)
        series = values.view(*walk.points.shape[:2], -1).permute(2, 1, 0).contiguous()
        names = ["energy", *quantities.names]
        rates = {k: v for k, v in walk.rates.items() if k in _RATES}
        return ChainRecord(names, series.numpy(), rates, walk.evaluations, walk.seconds)

    def summary(self, inputs: EvaluationInput) -> ChainSummary | None:
        """The same chains for a picture; None where they do not move, or are not finite."""
        names, series, *_ = self.record(inputs)
        found = mixing(series) if np.isfinite(series).all() else None
        if found is None or np.isnan(found.rhat).any():
            return None
        lengths = sorted({max(4, self.draws * i // 8) for i in range(1, 9)})
        lags = min(self.draws - 1, max(self.draws // 4, 10))
        bulk, tail = ess_growth(series[int(found.rhat.argmax())], lengths)
        correlations = np.stack([autocorrelation(trace, lags) for trace in series])
        return ChainSummary(names, series, found.rhat, correlations, lengths, bulk, tail)


_RATES = ("acceptance", "jump_acceptance", "swapped", "clipped")
_STUCK = (
    "chains are stuck: not one of them moved along some axis; lower sampler.step_size, or give "
    "sampler.adaptation"
)


def chain_age_metrics(inputs: EvaluationInput) -> dict[str, Metric]:
    """Of the method's persistent chains, where it keeps their ages."""
    found: dict[str, Metric] = {}
    kept = method_chains(inputs.method)
    if kept is None:
        return found
    if kept.ages is not None:
        found["chain_age_mean"] = float(kept.ages.double().mean())
        found["chain_age_max"] = float(kept.ages.max())
    if kept.restarts is not None:
        found["restarts"] = float(kept.restarts)
    return found


def _rate_warnings(rates: dict[str, float], sampler: Sampler) -> list[str]:
    """What is wrong with how chains move."""
    warnings = []
    if rates.get("acceptance", 1.0) < _MIN_ACCEPTANCE:
        warnings.append(
            f"chains hardly move: {rates['acceptance']:.1%} of their steps are accepted; lower "
            "sampler.step_size, or give sampler.adaptation"
        )
    # A chain that may reject makes up for a clipped gradient, but not for a clamped point.
    exact = "acceptance" in rates and not _has_clamp(sampler)
    if rates.get("clipped", 0.0) > 0 and not exact:
        warnings.append(
            f"the chain does not sample exp(-E / T): {rates['clipped']:.2%} of its steps were "
            "clipped or clamped; raise sampler.gradient_clip and sampler.clamp, or give null"
        )
    return warnings


def _has_clamp(sampler: Sampler) -> bool:
    """Whether it or the sampler inside of it has a clamp."""
    if isinstance(sampler, HasClamp) and sampler.clamp is not None:
        return True
    return isinstance(sampler, WrapsSampler) and _has_clamp(sampler.sampler)


def _mixing_warnings(
    found: Mixing, names: Sequence[str], draws: int, sampler: Sampler
) -> list[str]:
    """What R-hat and the effective sample sizes say."""
    worst, fewest = int(found.rhat.argmax()), int(found.bulk.argmin())
    rhat, bulk = found.rhat[worst], found.bulk[fewest]
    if rhat <= MAX_RHAT and bulk >= MIN_ESS:
        return []
    said = f"R-hat is {min(rhat, 1e6):.3g} of the {names[worst]}"
    if rhat <= MAX_RHAT:
        said = f"{draws} draws are worth {bulk:.0f} independent ones of the {names[fewest]}"
    # Other samplers' chains do not get from mode to mode; those of mala jump as they are shipped.
    jumps = "sampler.jumps.every=2" if isinstance(sampler, HasJumps) else "sampler=mala"
    return [
        f"chains do not mix: {said}; try sampler=tempering, {jumps}, a larger samples.burn_in or "
        "diagnostics.thin"
    ]


MAX_QUANTITIES = 8  # quantities beside the energy
_MAX_AXES_POINTS = 500  # points that principal axes are computed from


class Quantities(NamedTuple):
    names: list[str]
    axes: Tensor | None
    """(d, watched), orthonormal; None: every coordinate."""

    def of(self, points: Tensor) -> Tensor:
        """(n, *event) -> (n, watched)."""
        flat = points.flatten(1)
        return flat if self.axes is None else flat @ self.axes.to(flat)


def choose_quantities(points: Tensor) -> Quantities:
    """What to watch of chains whose draws are about as `points`, (n, *event): each coordinate, and
    of more than MOST the first principal axes, along which modes are farthest apart."""
    flat = points.flatten(1).double()
    d = flat.shape[1]
    if d <= MAX_QUANTITIES:
        return Quantities([f"coordinate {i + 1}" for i in range(d)], None)
    few = flat[:: -(-len(flat) // _MAX_AXES_POINTS)]
    _, _, axes = torch.linalg.svd(few - few.mean(0), full_matrices=False)
    kept = axes[:MAX_QUANTITIES].T
    return Quantities([f"principal axis {i + 1}" for i in range(kept.shape[1])], kept)
