"""Runs the evaluators of an experiment on a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

from ebmtrain.config.experiment import Experiment
from ebmtrain.errors import CheckpointError
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Trace
from ebmtrain.runs.sampling import chain_starts, draw_samples
from ebmtrain.samplers.draw import iterate_draws, restore_adaptation, run_burn_in
from ebmtrain.score import count_evaluations
from ebmtrain.types import EstimatesLogZ


def evaluation_input(
    experiment: Experiment, energy: nn.Module, method: Mapping[str, Tensor]
) -> EvaluationInput:
    """The model with all that evaluators read: region, data, draws, chains, random streams."""

    def points(count: int) -> Tensor:
        wanted = replace(experiment.samples, count=count)
        return draw_samples(
            experiment, energy, method, wanted, experiment.generator("evaluation points")
        )

    return EvaluationInput(
        energy=energy,
        temperature=experiment.temperature,
        region=experiment.region,
        standardization=experiment.standardization,
        support=experiment.data_spec.support,
        dataset=experiment.dataset,
        draw=points,
        sampler=experiment.sampler,
        method=method,
        trace=cache(lambda *wanted: _run_chains(experiment, energy, method, *wanted)),
        generator=lambda purpose: experiment.generator(f"evaluation {purpose}"),
    )


def _run_chains(
    experiment: Experiment,
    energy: nn.Module,
    method: Mapping[str, Tensor],
    chains: int,
    draws: int,
    thin: int,
) -> Trace:
    """A trace of chains that start and burn in as those of `draw_samples`."""
    generator = experiment.generator("evaluation traces")
    first = chain_starts(experiment, experiment.samples.start, chains, method, generator)
    learnt = restore_adaptation(method, experiment.sampler, first)
    begun = run_burn_in(
        experiment.sampler, energy, first, experiment.samples.burn_in, generator, learnt
    )
    before = perf_counter()
    with count_evaluations(energy) as tally:
        walked = [
            (chain.x.cpu(), chain.metrics)
            for chain in iterate_draws(experiment.sampler, energy, begun, draws, thin, generator)
        ]
    points, metrics = zip(*walked, strict=True)
    names = dict.fromkeys(name for found in metrics for name in found)
    rates = {k: float(torch.stack([m[k] for m in metrics if k in m]).mean()) for k in names}
    return Trace(torch.stack(points), rates, tally.points, perf_counter() - before)


def run_evaluations(
    experiment: Experiment, model: EvaluationInput, due: Collection[str] | None = None
) -> Evaluation:
    """The metrics and warnings of the evaluators, and the method's own estimates of log Z.

    These are the items of the method's state whose names begin with `log_z`, log Z of exp(-E) at
    T = 1, and `log_z_running` of a method that computes it. They are given in the data's units, as
    all other numbers.

    Args:
        due: names of the evaluators to run; None: all.
    """
    metrics, warnings = {}, []
    energy, method = model.energy, model.method
    for name, evaluate in experiment.evaluations.items():
        if due is None or name in due:
            found = evaluate(model)
            metrics |= found.metrics
            warnings += found.warnings
    own = {k: v.detach() for k, v in method.items() if k.startswith("log_z")}
    for name, value in own.items():
        if value.numel() != 1:
            shape = tuple(value.shape)
            raise CheckpointError(f"the checkpoint's {name} has shape {shape} and is no number")
    if experiment.train_spec is not None and isinstance(
        experiment.train_spec.method, EstimatesLogZ
    ):
        own["log_z_running"] = experiment.train_spec.method.log_z(energy, method)
    volume = experiment.standardization.log_volume
    own_numbers = {k: float(v) + volume for k, v in own.items()}
    return _drop_nonfinite(Evaluation({**metrics, **own_numbers}, warnings))


def _drop_nonfinite(evaluation: Evaluation) -> Evaluation:
    """The evaluation without its numbers that are not finite; each is replaced by a warning."""
    broken = {k: v for k, v in evaluation.metrics.items() if not np.isfinite(v).all()}
    kept = {k: v for k, v in evaluation.metrics.items() if k not in broken}
    warnings = [
        f"{name} is {value}, left out: the energy has no finite normaliser over these data; "
        "set model.base_std, or lower optimizer.lr"
        for name, value in broken.items()
    ]
    return Evaluation(kept, [*evaluation.warnings, *warnings])
