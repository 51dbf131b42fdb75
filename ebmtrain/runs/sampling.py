"""Samples of a run's model, as the section `samples` of its configuration describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Generator, Tensor, nn

from ebmtrain.config.experiment import Experiment
from ebmtrain.config.schema import SampleSettings
from ebmtrain.masks import truncate
from ebmtrain.models.wrappers import ClassConditionalEnergy
from ebmtrain.samplers.draw import draw, restore_adaptation, sample_rows
from ebmtrain.samplers.resampling import systematic_resampling
from ebmtrain.score import in_chunks
from ebmtrain.types import DrawsPoints, Joint, MethodChains, method_chains


def draw_samples(
    experiment: Experiment,
    energy: nn.Module,
    method: Mapping[str, Tensor],
    settings: SampleSettings,
    generator: Generator,
    label: int | None = None,
) -> Tensor:
    """Points of the model, (settings.count, *event), in standardized units.

    Args:
        energy: of standardized points.
        method: state of the method, with its chains and its sampler's adaptation; may be empty.
        label: draws from p(x | y) of this class; the energy is `Joint`. The method's own chains are
            then resampled with weights p(y | x).
    """
    if label is not None:
        method = {**method, **_class_log_weights(energy, method, label, experiment.temperature)}
        energy = ClassConditionalEnergy(energy, label)
    n_chains = min(settings.chains, settings.count)
    first = chain_starts(experiment, energy, settings.start, n_chains, method, generator)
    return draw(
        experiment.sampler,
        energy,
        first,
        count=settings.count,
        burn_in=settings.burn_in,
        thin=settings.thin,
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
    with torch.no_grad():
        joint = in_chunks(cast(Joint, energy).joint, kept.chains)
    # (E(x) - E(x, y)) / T, with E(x) = -log sum_y exp(-E(x, y)) at any T.
    log_p = torch.log_softmax(-joint, 1)[:, label] / temperature
    before = 0.0 if kept.log_weights is None else kept.log_weights
    return {"log_weights": before + log_p}


def resample_chains(kept: MethodChains, count: int, generator: Generator) -> Tensor:
    """`count` of the method's own chains, (count, *event), each as often as its weight demands."""
    chains = kept.chains
    if kept.log_weights is not None:
        chains = chains[systematic_resampling(kept.log_weights, generator)]
    return sample_rows(chains, count, generator)


def chain_starts(
    experiment: Experiment,
    energy: nn.Module,
    start: str,
    n_chains: int,
    method: Mapping[str, Tensor],
    generator: Generator,
) -> Tensor:
    """First points of chains, (n_chains, *event), in standardized units.

    Args:
        start: `chains`, the method's persistent ones, or points of its own sampler, or noise if it
            has neither; `data`, training points; `noise`, uniform in the region of the data.
    """
    if start == "data" and experiment.dataset is not None:
        points = experiment.standardization.to_standard(experiment.dataset.train)
        return sample_rows(points.to(experiment.device, experiment.dtype), n_chains, generator)
    kept = method_chains(method)
    if start == "chains" and kept is not None:
        return resample_chains(kept, n_chains, generator)
    if start == "chains" and isinstance(experiment.method, DrawsPoints):
        return experiment.method.draw(energy, n_chains, generator)
    return uniform_noise(experiment, n_chains, generator)


def uniform_noise(experiment: Experiment, count: int, generator: Generator) -> Tensor:
    """`count` random points of the data's support, in standardized units; sequences of different
    lengths get the length of a random training sequence."""
    shape = (count, *experiment.standardization.shift.shape)
    like = torch.empty(shape, device=experiment.device, dtype=experiment.dtype)
    points = experiment.data_spec.support.chain_starts(like, experiment.region, generator)
    if experiment.data_spec.lengths is None:
        return points
    shares = experiment.data_spec.lengths.to(points)
    return truncate(
        points, torch.multinomial(shares, count, replacement=True, generator=generator) + 1
    )
