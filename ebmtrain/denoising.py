"""What a model makes of points that were observed with noise: draws of what they were, by the
chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from ebmtrain.build import Parts
from ebmtrain.conditional import chains_of_each, conditional_draws
from ebmtrain.models.observed import Observed
from ebmtrain.settings import Samples


class Denoised(NamedTuple):
    """Of p(x | y), in the data's units."""

    draws: Tensor
    """(n, count, *event)."""
    mean: Tensor
    """(n, *event), of all that was drawn: no fewer than there are chains for each point, 64 or
    more if the run has as many. It has the least mean squared error."""


def denoised(
    parts: Parts,
    energy: nn.Module,
    method: Mapping[str, Tensor],
    y: Tensor,
    noise: float,
    wanted: Samples,
    generator: Generator,
) -> Denoised:
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
    chains, units, box = chains_of_each(wanted), parts.standardization, parts.region
    for row in y.double():
        inside = units.to_standard(row).flatten().clamp(box.low, box.high).view(row.shape)
        posterior = Observed(energy, units, row, noise, parts.temperature, inside)
        posterior = posterior.to(parts.device, parts.dtype)
        like = torch.empty(chains, row.numel(), device=parts.device, dtype=parts.dtype)
        start = like.normal_(generator=generator)
        count = max(wanted.count, chains)
        z = conditional_draws(parts, posterior, method, start, count, wanted, generator)
        x = units.to_data(posterior.points(z))
        draws.append(x[: wanted.count])
        means.append(x.mean(0))
    return Denoised(torch.stack(draws), torch.stack(means))
