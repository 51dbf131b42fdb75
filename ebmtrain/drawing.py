"""Points of a run's model, for pictures, files and evaluations: where chains begin, and how long
they run, as the configuration's section `samples` says; and the evaluations that use them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import cache
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

from ebmtrain.build import Parts
from ebmtrain.errors import CheckpointError
from ebmtrain.evaluation.subject import Evaluation, Subject, Trace
from ebmtrain.masks import cut
from ebmtrain.models.of_class import OfClass
from ebmtrain.samplers.resampling import systematic
from ebmtrain.sampling import draw, going_on, learnt_in, settled, starts
from ebmtrain.score import counted
from ebmtrain.settings import Samples


def drawn(
    parts: Parts,
    energy: nn.Module,
    method: Mapping[str, Tensor],
    wanted: Samples,
    generator: torch.Generator,
    label: int | None = None,
) -> Tensor:
    """(wanted.count, *event), in standardized units.

    Args:
        energy: of standardized points.
        method: the state of the method, for its chains and what its sampler learnt; {}: none.
        label: points of this class alone, from p(x | y); the energy is `Joint`. The method's own
            chains then begin each as often as p(y | x) says.
    """
    chains = min(wanted.chains, wanted.count)
    if label is not None:
        method = {**method, **of_class(energy, method, label, parts.temperature)}
        energy = OfClass(energy, label)
    first = first_points(parts, wanted.start, chains, method, generator)
    return draw(
        parts.sampler,
        energy,
        first,
        count=wanted.count,
        burn_in=wanted.burn_in,
        thin=wanted.thin,
        generator=generator,
        learnt=learnt_in(method, parts.sampler, first),
    )


def of_class(
    energy: nn.Module, method: Mapping[str, Tensor], label: int, temperature: float
) -> dict[str, Tensor]:
    """Weights of the method's chains, where it keeps some: of p(x) they then make p(x | y)."""
    if "chains" not in method:
        return {}
    with torch.no_grad():  # `Joint`, which a label was asked of
        joint = torch.cat([energy.joint(x) for x in method["chains"].split(8192)])  # type: ignore[operator]
    # (E(x) - E(x, y)) / T, with E(x) = -log sum_y exp(-E(x, y)) at any T.
    log_p = torch.log_softmax(-joint, 1)[:, label] / temperature
    return {"log_weights": method.get("log_weights", 0.0) + log_p}


def subject(parts: Parts, energy: nn.Module, method: Mapping[str, Tensor]) -> Subject:
    """A model as evaluations want it."""

    def points(count: int) -> Tensor:
        wanted = replace(parts.samples, count=count)
        return drawn(parts, energy, method, wanted, parts.generator("evaluation points"))

    return Subject(
        energy=energy,
        temperature=parts.temperature,
        region=parts.region,
        standardization=parts.standardization,
        dataset=parts.dataset,
        draw=points,
        sampler=parts.sampler,
        method=method,
        trace=cache(lambda *wanted: traced(parts, energy, method, *wanted)),
        generator=lambda purpose: parts.generator(f"evaluation {purpose}"),
    )


def traced(
    parts: Parts,
    energy: nn.Module,
    method: Mapping[str, Tensor],
    chains: int,
    draws: int,
    thin: int,
) -> Trace:
    """Chains as `drawn` runs them, watched after the burn-in."""
    generator = parts.generator("evaluation traces")
    first = first_points(parts, parts.samples.start, chains, method, generator)
    learnt = learnt_in(method, parts.sampler, first)
    begun = settled(parts.sampler, energy, first, parts.samples.burn_in, generator, learnt)
    before = perf_counter()
    with counted(energy) as tally:
        walked = [
            (chain.x.cpu(), chain.metrics)
            for chain in going_on(parts.sampler, energy, begun, draws, thin, generator)
        ]
    points, metrics = zip(*walked, strict=True)
    names = dict.fromkeys(name for found in metrics for name in found)
    rates = {k: float(torch.stack([m[k] for m in metrics if k in m]).mean()) for k in names}
    return Trace(torch.stack(points), rates, tally.points, perf_counter() - before)


def measured(parts: Parts, model: Subject, due: Collection[str] | None = None) -> Evaluation:
    """What the evaluations say of a model; beside it, each log Z that the method keeps in its state
    under a name that begins so (of exp(-E), at T = 1) or computes, in the data's units like every
    other.

    Args:
        due: names of the evaluations to make; None: all.
    """
    metrics, warnings = {}, []
    energy, method = model.energy, model.method
    for name, evaluate in parts.evaluations.items():
        if due is None or name in due:
            found = evaluate(model)
            metrics |= found.metrics
            warnings += found.warnings
    own = {k: v.detach() for k, v in method.items() if k.startswith("log_z")}
    for name, value in own.items():
        if value.numel() != 1:
            shape = tuple(value.shape)
            raise CheckpointError(f"the checkpoint's {name} has shape {shape} and is no number")
    if parts.job is not None and hasattr(parts.job.method, "log_z"):
        own["log_z_running"] = parts.job.method.log_z(energy, method)  # type: ignore[attr-defined]
    volume = parts.standardization.log_volume
    own_numbers = {k: float(v) + volume for k, v in own.items()}
    return finite(Evaluation({**metrics, **own_numbers}, warnings))


def chains_of(method: Mapping[str, Tensor], count: int, generator: torch.Generator) -> Tensor:
    """`count` of the method's own chains, (count, *event): each as often as its weight says, where
    they carry weights."""
    chains = method["chains"]
    if "log_weights" in method:
        chains = chains[systematic(method["log_weights"], generator)]
    return starts(chains, count, generator)


def finite(evaluation: Evaluation) -> Evaluation:
    """Without the numbers that are none; in their place stands a warning."""
    broken = {k: v for k, v in evaluation.metrics.items() if not np.isfinite(v).all()}
    kept = {k: v for k, v in evaluation.metrics.items() if k not in broken}
    warnings = [
        f"{name} is {value}, left out: the energy has no finite normaliser over these data; "
        "set model.base_std, or lower optimizer.lr"
        for name, value in broken.items()
    ]
    return Evaluation(kept, [*evaluation.warnings, *warnings])


def first_points(
    parts: Parts,
    start: str,
    chains: int,
    method: Mapping[str, Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Where chains drawn for a user begin, (chains, *event) in standardized units.

    `chains` are the method's persistent ones, or noise where it keeps none; `data` are training
    points; `noise` is uniform in the region of the data, which knows nothing of the modes.
    """
    if start == "data" and parts.dataset is not None:
        points = parts.standardization.to_standard(parts.dataset.train)
        return starts(points.to(parts.device, parts.dtype), chains, generator)
    if start == "chains" and "chains" in method:
        return chains_of(method, chains, generator)
    return noise(parts, chains, generator)


def noise(parts: Parts, count: int, generator: torch.Generator) -> Tensor:
    """`count` points uniform in the region, in standardized units; sequences of different lengths
    are each as long as a training sequence drawn at random."""
    shape = (count, *parts.standardization.shift.shape)
    like = torch.empty(shape, device=parts.device, dtype=parts.dtype)
    uniform = like.uniform_(generator=generator).flatten(1)
    low, high = parts.region.low.to(uniform), parts.region.high.to(uniform)
    points = (low + uniform * (high - low)).view(shape)
    if parts.frame.lengths is None:
        return points
    shares = parts.frame.lengths.to(points)
    steps = torch.multinomial(shares, count, replacement=True, generator=generator) + 1
    return cut(points, steps)
