"""The time that evaluations and final samples will take, measured before the first update."""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

from torch import nn

from ebmtrain.config.experiment import Experiment
from ebmtrain.evaluation.ais import AnnealedImportanceSampling
from ebmtrain.evaluation.diagnostics import Diagnostics
from ebmtrain.evaluation.quality import Quality
from ebmtrain.evaluation.ragged_quality import RaggedQuality
from ebmtrain.runs.sampling import uniform_noise
from ebmtrain.samplers.draw import run_burn_in

_FEW_CHAINS = 16
_GROWTH = 8
_MAX_TRIAL_SECONDS = 0.1
_MIN_TOLD_SECONDS = 5.0
_OPTIONS = {
    "diagnostics": "diagnostics.draws",
    "quality": "quality.points",
    "samples": "samples.count",
    "evaluation": "evaluation.chains",
}


def cost_lines(experiment: Experiment, energy: nn.Module) -> list[str]:
    """A line that tells the seconds which the evaluations after the last update and the final
    samples will take; none if they take less than 5 s."""
    seconds = {
        name: steps * _seconds_per_step(experiment, energy, chains)
        for name, (chains, steps) in _chains_and_steps(experiment).items()
    }
    total = sum(seconds.values())
    if total < _MIN_TOLD_SECONDS:
        return []
    each = ", ".join(
        f"{name} {value:.0f} s ({_OPTIONS[name]})"
        for name, value in sorted(seconds.items(), key=lambda item: -item[1])
        if value >= total / 20
    )
    return [f"the last evaluation and the final samples will take about {total:.0f} s: {each}"]


def _chains_and_steps(experiment: Experiment) -> dict[str, tuple[int, int]]:
    """Number of chains and of their steps, by the part that runs them."""
    samples = experiment.samples

    def drawn(count: int) -> tuple[int, int]:
        chains = min(samples.chains, count)
        return chains, samples.burn_in + samples.thin * (math.ceil(count / chains) - 1)

    found = {"samples": drawn(samples.count)}
    for name, evaluator in experiment.evaluators.items():
        if isinstance(evaluator, Diagnostics):
            steps = samples.burn_in + evaluator.draws * evaluator.thin
            found[name] = evaluator.chains, steps
        elif isinstance(evaluator, Quality | RaggedQuality):
            found[name] = drawn(evaluator.points)
        elif isinstance(ais := getattr(evaluator, "ours", evaluator), AnnealedImportanceSampling):
            kernel: Any = ais.kernel
            gradients = getattr(kernel, "n_leapfrog", 1)
            found[name] = ais.chains, 2 * ais.temperatures * ais.steps * gradients
    return found


def _seconds_per_step(experiment: Experiment, energy: nn.Module, chains: int) -> float:
    """Of so many chains, by one step of them, or of fewer of them where that takes long."""
    few = min(chains, _FEW_CHAINS)
    _time_step(experiment, energy, few)  # fills caches
    seconds = _time_step(experiment, energy, few)
    while few < chains and seconds < _MAX_TRIAL_SECONDS:
        few = min(chains, _GROWTH * few)
        seconds = _time_step(experiment, energy, few)
    return seconds * chains / few


def _time_step(experiment: Experiment, energy: nn.Module, chains: int) -> float:
    generator = experiment.generator("costs")
    first = uniform_noise(experiment, chains, generator)
    before = perf_counter()
    chain = run_burn_in(experiment.sampler, energy, first, 1, generator)
    chain.x.cpu()  # waits for the device
    return perf_counter() - before
