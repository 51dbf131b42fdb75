"""Evaluates a run's model: its evaluators, and the mathematical properties of its parts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import cache
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

from ebmtrain.config.experiment import Experiment
from ebmtrain.errors import CheckpointError, ConfigError
from ebmtrain.evaluation.learnt import check_learnt_log_z
from ebmtrain.evaluation.properties.energies import check_energy
from ebmtrain.evaluation.properties.methods import check_method
from ebmtrain.evaluation.properties.result import PropertyResult
from ebmtrain.evaluation.properties.samplers import check_sampler
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Trace
from ebmtrain.evaluation.verdict import verdict
from ebmtrain.runs.advice import fit_advice
from ebmtrain.runs.loggers.console import progress_lines
from ebmtrain.runs.sampling import chain_starts, draw_samples, uniform_noise
from ebmtrain.samplers.draw import iterate_draws, restore_adaptation, run_burn_in
from ebmtrain.score import count_evaluations
from ebmtrain.types import EstimatesLogZ, LearnsLogZ, labels_of

_N_PROPERTY_POINTS = 64


def evaluation_input(
    experiment: Experiment, energy: nn.Module, method: Mapping[str, Tensor]
) -> EvaluationInput:
    """The input of the evaluators.

    Args:
        energy: of standardized points.
        method: state of the method; may be empty.
    """

    def draw(count: int) -> Tensor:
        settings = replace(experiment.samples, count=count)
        generator = experiment.generator("evaluation points")
        return draw_samples(experiment, energy, method, settings, generator)

    return EvaluationInput(
        energy=energy,
        temperature=experiment.temperature,
        region=experiment.region,
        standardization=experiment.standardization,
        support=experiment.data_spec.support,
        dataset=experiment.dataset,
        draw=draw,
        sampler=experiment.sampler,
        method=method,
        trace=cache(lambda *wanted: _run_chains(experiment, energy, method, *wanted)),
        generator=lambda purpose: experiment.generator(f"evaluation {purpose}"),
    )


def _run_chains(
    experiment: Experiment,
    energy: nn.Module,
    method: Mapping[str, Tensor],
    n_chains: int,
    n_draws: int,
    thin: int,
) -> Trace:
    """A trace of chains that start and burn in as those of `draw_samples`."""
    sampler, settings = experiment.sampler, experiment.samples
    generator = experiment.generator("evaluation traces")
    first = chain_starts(experiment, energy, settings.start, n_chains, method, generator)
    adaptation = restore_adaptation(method, sampler, first)
    chain = run_burn_in(sampler, energy, first, settings.burn_in, generator, adaptation)
    before = perf_counter()
    with count_evaluations(energy) as tally:
        states = [
            (chain.x.cpu(), chain.metrics)
            for chain in iterate_draws(sampler, energy, chain, n_draws, thin, generator)
        ]
    points, metrics = zip(*states, strict=True)
    names = dict.fromkeys(name for one in metrics for name in one)
    rates = {k: float(torch.stack([m[k] for m in metrics if k in m]).mean()) for k in names}
    return Trace(torch.stack(points), rates, tally.points, perf_counter() - before)


def run_evaluations(
    experiment: Experiment, model: EvaluationInput, due: Collection[str] | None = None
) -> Evaluation:
    """Metrics and warnings of the evaluators, and the method's own estimates of log Z, all in the
    data's units.

    The estimates are the items of the method's state whose names begin with `log_z`, log Z of
    exp(-E) at T = 1, and `log_z_running` or `log_z_learnt` of a method that computes it. With
    `log_z_learnt` goes `nll_learnt`, and a warning where it and `log_z` differ by more than chance.

    Args:
        due: names of the evaluators to run; None: all.

    Raises:
        CheckpointError: such an item of the method's state is not a single number.
    """
    metrics, warnings, method = {}, [], model.method
    for name, evaluate in experiment.evaluators.items():
        if due is None or name in due:
            with progress_lines(name):
                found = evaluate(model)
            metrics |= found.metrics
            warnings += found.warnings
    method_name = experiment.config["method"].get("_target_", "").rpartition(".")[2]
    warnings += verdict(metrics, method_name, model.dataset)
    own = {k: v.detach() for k, v in method.items() if k.startswith("log_z")}
    for name, value in own.items():
        if value.numel() != 1:
            shape = tuple(value.shape)
            raise CheckpointError(f"the checkpoint's {name} has shape {shape} and is no number")
    if isinstance(experiment.method, EstimatesLogZ):
        own["log_z_running"] = experiment.method.log_z(model.energy, method)
    if isinstance(experiment.method, LearnsLogZ):
        own["log_z_learnt"] = experiment.method.log_z_learnt(model.energy, method)
    volume = experiment.standardization.log_volume
    metrics |= {k: float(v) + volume for k, v in own.items()}
    if isinstance(experiment.method, LearnsLogZ) and model.temperature == 1:
        learnt = check_learnt_log_z(metrics, model)
        metrics, warnings = {**metrics, **learnt.metrics}, [*warnings, *learnt.warnings]
    found = _drop_nonfinite(Evaluation(metrics, warnings))
    return found._replace(warnings=[fit_advice(w, experiment.config) for w in found.warnings])


def _drop_nonfinite(evaluation: Evaluation) -> Evaluation:
    """The evaluation with a warning in place of each metric that is not finite."""
    broken = {k: v for k, v in evaluation.metrics.items() if not np.isfinite(v).all()}
    warnings = [
        f"{name} is {value}, left out: the energy has no finite normaliser over these data; "
        "set model.base_std, or lower optimizer.lr"
        for name, value in broken.items()
    ]
    kept = {k: v for k, v in evaluation.metrics.items() if k not in broken}
    return Evaluation(kept, [*evaluation.warnings, *warnings])


def check_properties(experiment: Experiment) -> Iterator[PropertyResult]:
    """The mathematical properties of the untrained energy, the sampler and the method.

    Raises:
        ConfigError: the data are sequences of different lengths.
    """
    if experiment.data_spec.ragged:
        raise ConfigError(
            "verify tests points of one shape, and these sequences are of different lengths: "
            "verify the same parts on sequences of one length, say dataset=sine_waves"
        )
    if experiment.data_spec.support.space == "categorical":
        raise ConfigError(
            "verify tests real numbers and states 0 and 1, and these points are symbols: verify "
            "the same sampler and method on dataset=ising_samples"
        )
    x = uniform_noise(experiment, _N_PROPERTY_POINTS, experiment.generator("verify"))
    space = experiment.data_spec.support.space
    yield from check_energy(experiment.energy, x, space)
    yield from check_sampler(experiment.sampler, experiment.energy, x)
    spec, method = experiment.train_spec, experiment.method
    if spec is None or method is None:
        return
    points = experiment.standardization.to_standard(spec.dataset.train)
    points = points.to(experiment.device, experiment.dtype)
    labels = labels_of(spec.dataset)
    y = None if labels is None else labels.train.to(experiment.device)
    with torch.random.fork_rng(devices=[]):
        yield from check_method(method, experiment.energy, points, y, spec.batch_size, space)
