"""Mixing of the run's own sampler on the trained model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from ebmtrain.evaluation.estimators.mixing import Mixing, autocorrelation, ess_growth, mixing
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Metric
from ebmtrain.samplers.chain import temperature_of
from ebmtrain.score import freeze, in_chunks
from ebmtrain.types import (
    Count,
    HasClamp,
    HasJumps,
    Sampler,
    WholeNumber,
    WrapsSampler,
    method_chains,
    names_of,
)

if TYPE_CHECKING:  # matplotlib takes half a second to import
    from ebmtrain.plots.chains import ChainSummary

# 1.01 is recommended for four long chains. These chains are many and short, for which R-hat is
# sqrt(1 + tau / n) in equilibrium: 1.1 means five independent draws in each half of a chain.
MAX_RHAT = 1.1
MIN_ESS = 400  # below it R-hat itself is unreliable (Vehtari et al., 2021)
_MIN_ACCEPTANCE = 0.1
_MIN_DRAWS = 50  # of each chain; below it no warnings about mixing are given


class _ChainRecord(NamedTuple):
    """Quantities recorded along chains."""

    names: list[str]
    """"energy", then coordinates or principal axes."""
    series: np.ndarray
    """(quantities, chains, draws): energies in units of T, coordinates standardized."""
    rates: dict[str, float]
    evaluations: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Diagnostics:
    """Convergence diagnostics of chains of the run's own sampler on the evaluated energy. The
    chains start as `samples.start` says and make `samples.burn_in` steps, during which the sampler
    continues to adapt; then `draws` times `thin` steps with fixed parameters are recorded.

    chain_acceptance, chain_jump_acceptance, chain_swapped, chain_clipped
                        means over chains and steps, where the sampler reports them
    rhat                largest rank-normalised split R-hat of the energy and of each coordinate; in
                        more than eight dimensions of the first eight principal axes of the draws
    ess_bulk, ess_tail  smallest effective sample size of the same quantities, over all chains
    ess_per_evaluation  ess_bulk per energy evaluation, with those of jumps and hot chains; left out
                        where the sampler evaluates none
    ess_per_second      ess_bulk per second of wall-clock time; differs between equal runs
    chain_age_mean, chain_age_max, restarts
                        steps of the method's persistent chains since their last restart, and the
                        number of restarts, where the method counts them

    Chains with jumps (`sampler.jumps`) propose differences of other chains. In equilibrium they are
    independent at each time but not over time: a move of one chain returns in others. The effective
    sample sizes take only the correlation within chains into account and are then somewhat too
    large. R-hat near 1 says that all chains agree, with or without jumps. No diagnostic detects a
    mode that no chain has visited.

    Args:
        every: updates between two evaluations, see `Evaluator`.
        chains: number of parallel chains.
        draws: of each chain. Below 50 the metrics are given without warnings about mixing.
        thin: steps between two draws. They contain at least one jump step.
    """

    at_start: ClassVar[bool] = False

    every: WholeNumber
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
            notice = "no R-hat: energies or points of the chains are not finite; lower optimizer.lr"
            return Evaluation(metrics, [*warnings, notice])
        result = mixing(record.series)
        if np.isnan(result.rhat).any():
            return Evaluation(metrics, [*warnings, _STUCK])
        bulk = float(result.bulk.min())
        metrics |= {
            "rhat": float(result.rhat.max()),
            "ess_bulk": bulk,
            "ess_tail": float(result.tail.min()),
            "ess_per_second": bulk / record.seconds,
        }
        if record.evaluations:
            metrics["ess_per_evaluation"] = bulk / record.evaluations
        if self.draws >= _MIN_DRAWS:
            warnings += _mixing_warnings(
                result, record.names, self.chains * self.draws, inputs.sampler
            )
        return Evaluation(metrics, warnings)

    def record(self, inputs: EvaluationInput) -> _ChainRecord:
        """Energies and coordinates along the chains."""
        walk = inputs.trace(self.chains, self.draws, self.thin)
        flat = walk.points.flatten(0, 1)
        like = next(iter([*inputs.energy.parameters(), *inputs.energy.buffers()]), flat)
        with freeze(inputs.energy), torch.no_grad():
            energy = in_chunks(lambda part: inputs.energy(part.to(like)).cpu(), flat, 4096)
        # Along mixed coordinates there are no columns.
        named = inputs.dataset is not None and inputs.standardization.mixing is None
        columns = names_of(inputs.dataset) if named else None
        names, quantities = _monitored_quantities(flat, columns)
        if inputs.support.space != "real":  # a site may be the same in all chains
            varies = (quantities != quantities[0]).any(0)
            names = [name for name, kept in zip(names, varies, strict=True) if kept]
            quantities = quantities[:, varies]
        energy = energy.double() / inputs.temperature
        values = torch.cat([energy[:, None], quantities.double()], 1)
        series = values.view(*walk.points.shape[:2], -1).permute(2, 1, 0).contiguous()
        rates = {k: v for k, v in walk.rates.items() if k in _RATES}
        return _ChainRecord(
            ["energy", *names], series.numpy(), rates, walk.evaluations, walk.seconds
        )

    def summary(self, inputs: EvaluationInput) -> ChainSummary | None:
        """Statistics of the chains for a figure; None if they do not move or are not finite."""
        from ebmtrain.plots.chains import ChainSummary

        names, series, *_ = self.record(inputs)
        result = mixing(series) if np.isfinite(series).all() else None
        if result is None or np.isnan(result.rhat).any():
            return None
        lengths = sorted({max(4, self.draws * i // 8) for i in range(1, 9)})
        lags = min(self.draws - 1, max(self.draws // 4, 10))
        bulk, tail = ess_growth(series[int(result.rhat.argmax())], lengths)
        correlations = np.stack([autocorrelation(trace, lags) for trace in series])
        kept = method_chains(inputs.method)
        return ChainSummary(
            names,
            series,
            "units of x" if inputs.dataset is None else "standard deviations of the data",
            self.thin,
            result.rhat,
            correlations,
            lengths,
            bulk,
            tail,
            None if kept is None or kept.ages is None else kept.ages.cpu().numpy(),
        )


_RATES = ("acceptance", "jump_acceptance", "swapped", "clipped")
_STUCK = (
    "chains are stuck: no chain moved along some axis; lower sampler.step_size, or give "
    "sampler.adaptation"
)


def chain_age_metrics(inputs: EvaluationInput) -> dict[str, Metric]:
    """Ages and restarts of the method's persistent chains, where the method keeps them."""
    metrics: dict[str, Metric] = {}
    kept = method_chains(inputs.method)
    if kept is not None and kept.ages is not None:
        metrics["chain_age_mean"] = float(kept.ages.double().mean())
        metrics["chain_age_max"] = float(kept.ages.max())
    if kept is not None and kept.restarts is not None:
        metrics["restarts"] = float(kept.restarts)
    return metrics


def _rate_warnings(rates: dict[str, float], sampler: Sampler) -> list[str]:
    """Warnings about low acceptance and about clipped steps."""
    warnings = []
    if rates.get("acceptance", 1.0) < _MIN_ACCEPTANCE:
        warnings.append(
            f"chains hardly move: {rates['acceptance']:.1%} of their steps are accepted; lower "
            "sampler.step_size, or give sampler.adaptation"
        )
    # Rejection corrects for a clipped gradient, but not for a clamped point.
    exact = "acceptance" in rates and not _has_clamp(sampler)
    if rates.get("clipped", 0.0) > 0 and not exact:
        warnings.append(
            f"the chain does not sample exp(-E / T): {rates['clipped']:.2%} of its steps were "
            "clipped or clamped; raise sampler.gradient_clip and sampler.clamp, or give null"
        )
    return warnings


def _has_clamp(sampler: Sampler) -> bool:
    """Whether the sampler, or the sampler that it wraps, clamps its points."""
    if isinstance(sampler, HasClamp) and sampler.clamp is not None:
        return True
    return isinstance(sampler, WrapsSampler) and _has_clamp(sampler.sampler)


def _mixing_warnings(
    result: Mixing, names: Sequence[str], draws: int, sampler: Sampler
) -> list[str]:
    """A warning if R-hat or an effective sample size is out of bounds; `draws` of all chains."""
    worst, smallest = int(result.rhat.argmax()), int(result.bulk.argmin())
    rhat, bulk = result.rhat[worst], result.bulk[smallest]
    if rhat <= MAX_RHAT and bulk >= MIN_ESS:
        return []
    detail = f"R-hat is {min(rhat, 1e6):.3g} of the {names[worst]}"
    if rhat <= MAX_RHAT:
        size = f"effective sample size of {bulk:.0f}"
        detail = f"{draws} draws of the {names[smallest]} have an {size}"
    # Samplers without jumps do not move between separated modes; mala jumps by default.
    jumps = "sampler.jumps.every=2" if isinstance(sampler, HasJumps) else "sampler=mala"
    return [
        f"chains do not mix: {detail}; try sampler=tempering, {jumps}, a larger samples.burn_in or "
        "diagnostics.thin"
    ]


MAX_QUANTITIES = 8  # without the energy
_MAX_AXES_POINTS = 500  # from which principal axes are computed


def _monitored_quantities(
    points: Tensor, names: Sequence[str] | None = None
) -> tuple[list[str], Tensor]:
    """Names and values, (n, quantities), of the quantities to monitor: each coordinate, or in more
    than MAX_QUANTITIES dimensions the first principal axes, along which modes are farthest apart.

    Args:
        names: of the coordinates.
    """
    flat = points.flatten(1)
    d = flat.shape[1]
    if d <= MAX_QUANTITIES:
        return list(names or (f"coordinate {i + 1}" for i in range(d))), flat
    few = flat[:: -(-len(flat) // _MAX_AXES_POINTS)].double()
    _, _, axes = torch.linalg.svd(few - few.mean(0), full_matrices=False)
    kept = axes[:MAX_QUANTITIES].T
    return [f"principal axis {i + 1}" for i in range(kept.shape[1])], flat @ kept.to(flat)
