"""Draws from the posterior of a run's model: clean points given noisy ones, and missing values
given known ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Generator, Tensor, nn

from ebmtrain.config.schema import SampleSettings
from ebmtrain.models.wrappers import AffineSubspaceEnergy, PosteriorEnergy
from ebmtrain.runs.sampling import uniform_noise
from ebmtrain.samplers.chain import init_adaptation
from ebmtrain.samplers.draw import draw

if TYPE_CHECKING:
    from ebmtrain.runs.trained_run import Run

_MIN_CHAINS = 64  # per point: chains that jump propose by each other's differences


class DenoisedDraws(NamedTuple):
    """Draws from p(x | y), in the data's units."""

    draws: Tensor
    """(n, count, *event)."""
    mean: Tensor
    """(n, *event), the estimate with the least mean squared error: the mean over at least as many
    draws as each point has chains, 64 or more if `samples.chains` allows them."""


def draw_clean_points(
    run: Run, y: Tensor, noise: float, settings: SampleSettings, generator: Generator
) -> DenoisedDraws:
    """Draws from p(x | y), proportional to exp(-E(x) / T) N(y; x, noise^2 I). The chains of a point
    start around it, or around the nearest point of the region of the data.

    Args:
        y: (n, *event), in the data's units.
        noise: standard deviation, > 0, in the data's units.
    """
    draws, means, experiment = [], [], run.experiment
    n_chains, units, box = _n_chains(settings), experiment.standardization, experiment.region
    for row in y.double():
        inside = units.to_standard(row).flatten().clamp(box.low, box.high).view(row.shape)
        posterior = PosteriorEnergy(run.standard_energy, units, row, noise, run.temperature, inside)
        posterior = posterior.to(experiment.device, experiment.dtype)
        like = torch.empty(n_chains, row.numel(), device=experiment.device, dtype=experiment.dtype)
        start = like.normal_(generator=generator)
        count = max(settings.count, n_chains)
        z = _draw(run, posterior, start, count, settings, generator)
        x = units.to_data(posterior.points(z))
        draws.append(x[: settings.count])
        means.append(x.mean(0))
    return DenoisedDraws(torch.stack(draws), torch.stack(means))


def draw_missing_values(
    run: Run, x: Tensor, known: Tensor, settings: SampleSettings, generator: Generator
) -> Tensor:
    """Draws from p(missing | known), (n, settings.count, *event), in the data's units, with the
    known values unchanged. The chains of a point start at noise.

    Args:
        x: (n, *event), in the data's units; missing values are not read.
        known: (*event), bool; some, not all.
    """
    experiment, missing = run.experiment, ~known.flatten()
    units = experiment.standardization
    d = len(missing)
    mixing = torch.eye(d, dtype=torch.float64) if units.mixing is None else units.mixing
    # u = mixing^-1 v and v = (t(x) - shift) / scale, of which the missing elements are z.
    inverse = torch.linalg.inv(mixing)
    directions = inverse[:, missing].to(experiment.device, experiment.dtype)
    draws = []
    for row in x.double():
        v = ((units.to_linear(row) - units.shift) / units.scale).flatten()
        v = v.masked_fill(missing, 0.0)
        origin = (inverse @ v).view(row.shape).to(experiment.device, experiment.dtype)
        first = uniform_noise(experiment, _n_chains(settings), generator).flatten(1)
        start = (first.double() @ mixing.T.to(first.device))[:, missing].to(first)
        conditional = AffineSubspaceEnergy(run.standard_energy, origin, directions)
        z = _draw(run, conditional, start, settings.count, settings, generator)
        filled, y = row.flatten().repeat(2, settings.count, 1)
        scale, shift = units.scale.flatten()[missing], units.shift.flatten()[missing]
        y[:, missing] = z.to("cpu", torch.float64) * scale + shift
        filled[:, missing] = units.from_linear(y.view(-1, *row.shape)).flatten(1)[:, missing]
        draws.append(filled.view(-1, *row.shape))
    return torch.stack(draws)


def _n_chains(settings: SampleSettings) -> int:
    """The number of chains per point."""
    return min(settings.chains, max(settings.count, _MIN_CHAINS))


def _draw(
    run: Run,
    energy: nn.Module,
    start: Tensor,
    count: int,
    settings: SampleSettings,
    generator: Generator,
) -> Tensor:
    """`count` draws of m numbers, (count, m), from chains that start at `start`, (chains, m)."""
    sampler, method = run.experiment.sampler, run.method_state
    first = init_adaptation(sampler, start)
    # Hot replicas, which are whole points, start again; a learnt step size is kept.
    fits = {k for k, v in first.items() if k in method and method[k].shape == v.shape}
    return draw(
        sampler,
        energy,
        start,
        count=count,
        burn_in=settings.burn_in,
        thin=settings.thin,
        generator=generator,
        adaptation_state={k: method[k] if k in fits else v for k, v in first.items()},
    )
