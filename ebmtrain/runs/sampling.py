"""Points of a run's model, for pictures, files and evaluations: where chains begin, and how long
they run, as the configuration's section `samples` says; and the evaluations that use them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from ebmtrain.config.experiment import Experiment
from ebmtrain.config.schema import Samples
from ebmtrain.masks import truncate
from ebmtrain.models.wrappers import ClassConditionalEnergy
from ebmtrain.samplers.draw import draw, restore_adaptation, sample_rows
from ebmtrain.samplers.resampling import systematic_resampling
from ebmtrain.score import in_chunks
from ebmtrain.types import Joint, MethodChains, method_chains


def draw_samples(
    experiment: Experiment,
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
        method = {**method, **_class_log_weights(energy, method, label, experiment.temperature)}
        energy = ClassConditionalEnergy(energy, label)
    first = chain_starts(experiment, wanted.start, chains, method, generator)
    return draw(
        experiment.sampler,
        energy,
        first,
        count=wanted.count,
        burn_in=wanted.burn_in,
        thin=wanted.thin,
        generator=generator,
        adaptation_state=restore_adaptation(method, experiment.sampler, first),
    )


def _class_log_weights(
    energy: nn.Module, method: Mapping[str, Tensor], label: int, temperature: float
) -> dict[str, Tensor]:
    """Log weights that turn the method's chains from p(x) into p(x | y); {} without chains."""
    kept = method_chains(method)
    if kept is None:
        return {}
    with torch.no_grad():  # `Joint`, which a label was asked of
        joint = in_chunks(cast(Joint, energy).joint, kept.chains)
    # (E(x) - E(x, y)) / T, with E(x) = -log sum_y exp(-E(x, y)) at any T.
    log_p = torch.log_softmax(-joint, 1)[:, label] / temperature
    before = 0.0 if kept.log_weights is None else kept.log_weights
    return {"log_weights": before + log_p}


def resample_chains(kept: MethodChains, count: int, generator: torch.Generator) -> Tensor:
    """`count` of the method's own chains, (count, *event): each as often as its weight says, where
    they carry weights."""
    chains = kept.chains
    if kept.log_weights is not None:
        chains = chains[systematic_resampling(kept.log_weights, generator)]
    return sample_rows(chains, count, generator)


def chain_starts(
    experiment: Experiment,
    start: str,
    chains: int,
    method: Mapping[str, Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Where chains drawn for a user begin, (chains, *event) in standardized units.

    `chains` are the method's persistent ones, or noise where it keeps none; `data` are training
    points; `noise` is uniform in the region of the data, which knows nothing of the modes.
    """
    if start == "data" and experiment.dataset is not None:
        points = experiment.standardization.to_standard(experiment.dataset.train)
        return sample_rows(points.to(experiment.device, experiment.dtype), chains, generator)
    kept = method_chains(method)
    if start == "chains" and kept is not None:
        return resample_chains(kept, chains, generator)
    return uniform_noise(experiment, chains, generator)


def uniform_noise(experiment: Experiment, count: int, generator: torch.Generator) -> Tensor:
    """`count` points from which the data's support starts chains, in standardized units; sequences
    of different lengths are each as long as a training sequence drawn at random."""
    shape = (count, *experiment.standardization.shift.shape)
    like = torch.empty(shape, device=experiment.device, dtype=experiment.dtype)
    points = experiment.data_spec.support.chain_starts(like, experiment.region, generator)
    if experiment.data_spec.lengths is None:
        return points
    shares = experiment.data_spec.lengths.to(points)
    steps = torch.multinomial(shares, count, replacement=True, generator=generator) + 1
    return truncate(points, steps)
