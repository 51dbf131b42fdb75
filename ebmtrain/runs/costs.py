"""The time that evaluations, samples and figures will take, measured before the first update."""

from __future__ import annotations

import copy
import math
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import nn

from ebmtrain.config.experiment import Experiment
from ebmtrain.errors import DivergedError
from ebmtrain.evaluation.ais import AnnealedImportanceSampling
from ebmtrain.evaluation.baselines import Baselines
from ebmtrain.evaluation.diagnostics import Diagnostics
from ebmtrain.evaluation.exact import Quadrature
from ebmtrain.evaluation.protocol import Evaluator, HasAtStart, float64_copy
from ebmtrain.evaluation.quality import Quality
from ebmtrain.evaluation.ragged_quality import RaggedQuality
from ebmtrain.evaluation.wave_tests import WaveTests
from ebmtrain.runs.sampling import uniform_noise
from ebmtrain.samplers.draw import run_burn_in
from ebmtrain.training.loop import run_step
from ebmtrain.training.state import initial_state
from ebmtrain.types import HasPixels, ImageEnergy

_MAX_SHARE = 0.3  # of a run, above which its costs are told
_FEW_CHAINS, _FEW_POINTS = 16, 1024
_N_STEPS, _N_TRIALS, _N_UPDATES = 2, 3, 3
_GROWTH = 8
_MAX_TRIAL_SECONDS = 0.1
_MAX_UPDATES_SECONDS = 2.0
_MIN_TOLD_SECONDS = 5.0
_OPTIONS = {
    "diagnostics": "diagnostics.draws",
    "quality": "quality.points",
    "samples": "samples.count",
    "evaluation": "evaluation.every",
    "figures": "plots.every",
}
_GRIDS = 5  # evaluations of each point of the first grid: a wider box, a finer grid, the true KL
# Without the energies in them, on one core (x86_64, 2026).
_LANDSCAPE_SECONDS, _FINAL_FIGURES_SECONDS = 0.4, 4.0
_LANDSCAPE_POINTS = 160**2
_QUALITY_SECONDS = 1.0  # of the distances between 1000 points with 100 shuffles
_KERNELS_SECONDS, _MIXTURES_SECONDS = 5.0, 5.0  # of the default Baselines on 1000 points
_IMAGE_CHAINS = 36  # of the animation


class _Chains(NamedTuple):
    """Chains that a part of the run makes each time."""

    name: str
    chains: int
    steps: int
    times: int


def cost_lines(
    experiment: Experiment, energy: nn.Module, training: float | None = None, step: int = 0
) -> list[str]:
    """A line that tells the seconds which evaluations, final samples and figures will take, and
    their share of the run.

    Args:
        training: seconds of the remaining updates. None: they are measured, and there is no line if
            the costs are below 5 s or 30 % of the run.
        step: the number of updates made.
    """
    seconds = _seconds(experiment, energy, step)
    total = sum(seconds.values())
    if training is None:
        if total < _MIN_TOLD_SECONDS or (training := _training_seconds(experiment, step)) is None:
            return []
        if total <= _MAX_SHARE * (total + training):
            return []
    each = ", ".join(
        f"{name} {value:.0f} s ({_OPTIONS[name]})"
        for name, value in sorted(seconds.items(), key=lambda item: -item[1])
        if value >= max(total / 20, 0.5)
    )
    share = total / (total + training)
    return [
        f"evaluations, samples and figures take about {total:.0f} s, {share:.0%} of the run"
        f"{f': {each}' if each else ''}"
    ]


def _seconds(experiment: Experiment, energy: nn.Module, step: int) -> dict[str, float]:
    """The seconds of each part that is no update, in the rest of the run."""
    seconds = dict.fromkeys(_OPTIONS, 0.0)
    for name, chains, steps, times in _chains_and_steps(experiment, step):
        seconds[name] += times * steps * _seconds_per_step(experiment, energy, chains)
    d, is_planar = len(experiment.region.low), len(experiment.region.low) == 2
    per_point = _seconds_per_point(experiment, energy) if d <= 3 else 0.0
    for name, evaluator in experiment.evaluators.items():
        times = _times(experiment, evaluator, step)
        ours = evaluator.ours if isinstance(evaluator, Baselines) else evaluator
        if isinstance(ours, Quadrature) and d <= 3:
            points = _GRIDS * ours.cells_per_axis(d) ** d
            seconds[name] += times * points * per_point
        if isinstance(evaluator, Quality):
            work = (evaluator.points / 1000) ** 2 * evaluator.shuffles / 100
            seconds[name] += times * _QUALITY_SECONDS * work
        if isinstance(evaluator, Baselines) and experiment.dataset is not None:  # fitted once
            thousands = len(experiment.dataset.train) / 1000
            seconds[name] += _KERNELS_SECONDS * thousands**2 * evaluator.bandwidths / 40
            seconds[name] += _MIXTURES_SECONDS * thousands * evaluator.components / 10
    if every := experiment.plots.every:
        landscape = _LANDSCAPE_SECONDS + _LANDSCAPE_POINTS * per_point
        landscapes = _n_due(experiment, every, step) if is_planar else 0
        seconds["figures"] += _FINAL_FIGURES_SECONDS + landscapes * landscape
    return seconds


def _times(experiment: Experiment, evaluator: Evaluator, step: int) -> int:
    """How often an evaluator runs from this step on."""
    skipped = step == 0 and isinstance(evaluator, HasAtStart) and not evaluator.at_start
    return _n_due(experiment, evaluator.every, step) - skipped


def _n_due(experiment: Experiment, every: int, step: int) -> int:
    """The number of multiples of `every` from this step to the last one, which counts anyway."""
    spec = experiment.train_spec
    last = spec.n_steps if spec is not None else 0
    return last // every - -(-step // every) + 1 + (last % every != 0)


def _chains_and_steps(experiment: Experiment, step: int = 0) -> list[_Chains]:
    """The chains of evaluations, samples and figures."""
    samples = experiment.samples

    def chains_for(count: int) -> tuple[int, int]:
        chains = min(samples.chains, count)
        return chains, samples.burn_in + samples.thin * (math.ceil(count / chains) - 1)

    found = [_Chains("samples", *chains_for(samples.count), 1)]
    dataset, model = experiment.dataset, experiment.energy
    has_pixels = isinstance(dataset, HasPixels) and dataset.pixels is not None
    if experiment.plots.every and (has_pixels or isinstance(model, ImageEnergy)):
        found.append(_Chains("figures", _IMAGE_CHAINS, samples.burn_in, 1))
    for name, evaluator in experiment.evaluators.items():
        times = _times(experiment, evaluator, step)
        if isinstance(evaluator, Diagnostics):
            steps = samples.burn_in + evaluator.draws * evaluator.thin
            found.append(_Chains(name, evaluator.chains, steps, times))
        elif isinstance(evaluator, Quality | RaggedQuality | WaveTests):
            found.append(_Chains(name, *chains_for(evaluator.points), times))
        elif isinstance(ais := getattr(evaluator, "ours", evaluator), AnnealedImportanceSampling):
            kernel: Any = ais.kernel
            gradients = getattr(kernel, "n_leapfrog", 1)
            steps = 2 * ais.temperatures * ais.steps * gradients
            found.append(_Chains(name, ais.chains, steps, times))
    return found


def _seconds_per_step(experiment: Experiment, energy: nn.Module, chains: int) -> float:
    """Of so many chains, or of fewer of them where that takes long."""
    few = min(chains, _FEW_CHAINS)
    seconds = min(_time_step(experiment, energy, few) for _ in range(_N_TRIALS))
    while few < chains and seconds < _MAX_TRIAL_SECONDS:
        few = min(chains, _GROWTH * few)
        seconds = _time_step(experiment, energy, few)
        if seconds < _MAX_TRIAL_SECONDS:
            seconds = min(seconds, _time_step(experiment, energy, few))
    return seconds * chains / few


def _time_step(experiment: Experiment, energy: nn.Module, chains: int) -> float:
    generator = experiment.generator("costs")
    first = uniform_noise(experiment, chains, generator)
    before = perf_counter()
    chain = run_burn_in(experiment.sampler, energy, first, _N_STEPS, generator)
    chain.x.cpu()  # waits for the device
    return (perf_counter() - before) / (_N_STEPS + 1)  # the start is as long as a step


def _seconds_per_point(experiment: Experiment, energy: nn.Module) -> float:
    """Of the energy in float64."""
    exact = float64_copy(energy).cpu()
    points = uniform_noise(experiment, _FEW_POINTS, experiment.generator("costs")).cpu().double()
    durations = []
    for _ in range(_N_TRIALS):
        before = perf_counter()
        with torch.no_grad():
            exact(points)
        durations.append(perf_counter() - before)
    return min(durations) / len(points)


def _training_seconds(experiment: Experiment, step: int) -> float | None:
    """Of the remaining updates, by some of a copy; None if these diverge, as the run will tell."""
    spec = experiment.train_spec
    assert spec is not None
    durations: list[float] = []
    try:
        with torch.random.fork_rng(devices=[]):
            energy = copy.deepcopy(experiment.energy)
            state = initial_state(spec, energy, experiment.generator("train"))
            while len(durations) < 1 + _N_UPDATES and sum(durations) < _MAX_UPDATES_SECONDS:
                before = perf_counter()
                run_step(spec, state)
                durations.append(perf_counter() - before)
    except DivergedError:
        return None
    return (spec.n_steps - step) * min(durations)
