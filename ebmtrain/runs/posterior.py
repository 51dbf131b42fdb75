"""What a model makes of points that were observed with noise: draws of what they were, by the
chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from ebmtrain.config.experiment import Experiment
from ebmtrain.config.schema import Samples
from ebmtrain.models.wrappers import AffineSubspaceEnergy, PosteriorEnergy
from ebmtrain.runs.sampling import uniform_noise
from ebmtrain.samplers.chain import init_adaptation
from ebmtrain.samplers.draw import draw
from ebmtrain.types import Tensors


class DenoisedDraws(NamedTuple):
    """Of p(x | y), in the data's units."""

    draws: Tensor
    """(n, count, *event)."""
    mean: Tensor
    """(n, *event), of all that was drawn: no fewer than there are chains for each point, 64 or
    more if the run has as many. It has the least mean squared error."""


def denoise(
    experiment: Experiment,
    energy: nn.Module,
    method: Mapping[str, Tensor],
    y: Tensor,
    noise: float,
    wanted: Samples,
    generator: Generator,
) -> DenoisedDraws:
    """Draws from p(x | y), proportional to exp(-E(x) / T) N(y; x, noise^2 I). Each point has chains
    of its own, which begin about the point, moved into the box of the data, and burn in as `wanted`
    says.

    Args:
        energy: E, of standardized points.
        method: the state of the method, for what its sampler learnt.
        y: (n, *event), in the data's units.
        noise: standard deviation, > 0, in the data's units.
    """
    draws, means = [], []
    chains, units, box = _chains_of_each(wanted), experiment.standardization, experiment.region
    for row in y.double():
        inside = units.to_standard(row).flatten().clamp(box.low, box.high).view(row.shape)
        posterior = PosteriorEnergy(energy, units, row, noise, experiment.temperature, inside)
        posterior = posterior.to(experiment.device, experiment.dtype)
        like = torch.empty(chains, row.numel(), device=experiment.device, dtype=experiment.dtype)
        start = like.normal_(generator=generator)
        count = max(wanted.count, chains)
        z = _conditional_draws(experiment, posterior, method, start, count, wanted, generator)
        x = units.to_data(posterior.points(z))
        draws.append(x[: wanted.count])
        means.append(x.mean(0))
    return DenoisedDraws(torch.stack(draws), torch.stack(means))


def inpaint(
    experiment: Experiment,
    energy: nn.Module,
    method: Mapping[str, Tensor],
    x: Tensor,
    known: Tensor,
    wanted: Samples,
    generator: Generator,
) -> Tensor:
    """Draws from p(missing | known), (n, wanted.count, *event), in the data's units; what is known
    stays as it is. Each point has chains of its own, which begin at noise and burn in as `wanted`
    says.

    Args:
        energy: of standardized points.
        method: the state of the method, for what its sampler learnt.
        x: (n, *event), in the data's units; what stands at missing places is not read.
        known: (*event), bool; some, not all.
    """
    units = experiment.standardization
    missing = ~known.flatten()
    d = len(missing)
    mixing = torch.eye(d, dtype=torch.float64) if units.mixing is None else units.mixing
    # u = mixing^-1 v and v = (x - shift) / scale, of which the missing elements are z.
    inverse = torch.linalg.inv(mixing)
    directions = inverse[:, missing].to(experiment.device, experiment.dtype)
    found = []
    for row in x.double():
        v = ((row - units.shift) / units.scale).flatten().masked_fill(missing, 0.0)
        origin = (inverse @ v).view(row.shape).to(experiment.device, experiment.dtype)
        first = uniform_noise(experiment, _chains_of_each(wanted), generator).flatten(1)
        start = (first.double() @ mixing.T.to(first.device))[:, missing].to(first)
        conditional = AffineSubspaceEnergy(energy, origin, directions)
        z = _conditional_draws(
            experiment, conditional, method, start, wanted.count, wanted, generator
        )
        filled = row.flatten().repeat(wanted.count, 1)
        scale, shift = units.scale.flatten()[missing], units.shift.flatten()[missing]
        filled[:, missing] = z.to("cpu", torch.float64) * scale + shift
        found.append(filled.view(-1, *row.shape))
    return torch.stack(found)


_FEWEST_CHAINS = 64  # of each point: chains that jump propose by each other's differences


def _chains_of_each(wanted: Samples) -> int:
    """The number of chains per point."""
    return min(wanted.chains, max(wanted.count, _FEWEST_CHAINS))


def _conditional_draws(
    experiment: Experiment,
    energy: nn.Module,
    method: Mapping[str, Tensor],
    start: Tensor,
    count: int,
    wanted: Samples,
    generator: Generator,
) -> Tensor:
    """(count, m), after a burn-in of their own.

    Args:
        energy: of m numbers, (batch, m) -> (batch,).
        method: the state of the method, for what its sampler learnt.
        start: (chains, m).
        wanted: its burn_in and thin.
    """
    return draw(
        experiment.sampler,
        energy,
        start,
        count=count,
        burn_in=wanted.burn_in,
        thin=wanted.thin,
        generator=generator,
        adaptation_state=_known_steps(experiment, method, start),
    )


def _known_steps(experiment: Experiment, method: Mapping[str, Tensor], start: Tensor) -> Tensors:
    """What the sampler learnt in training and can use here; its hot chains, of whole points, start
    again."""
    first = init_adaptation(experiment.sampler, start)
    fits = {k for k, v in first.items() if k in method and method[k].shape == v.shape}
    return {k: method[k] if k in fits else v for k, v in first.items()}
