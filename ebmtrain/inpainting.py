"""What a model makes of points of which a part is known: draws of the rest by the chain."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from ebmtrain.build import Parts
from ebmtrain.conditional import chains_of_each, conditional_draws
from ebmtrain.drawing import noise
from ebmtrain.models.on_flat import OnFlat
from ebmtrain.settings import Samples


def inpainted(
    parts: Parts,
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
    units = parts.standardization
    missing = ~known.flatten()
    d = len(missing)
    mixing = torch.eye(d, dtype=torch.float64) if units.mixing is None else units.mixing
    # u = mixing^-1 v and v = (x - shift) / scale, of which the missing elements are z.
    inverse = torch.linalg.inv(mixing)
    directions = inverse[:, missing].to(parts.device, parts.dtype)
    found = []
    for row in x.double():
        v = ((row - units.shift) / units.scale).flatten().masked_fill(missing, 0.0)
        origin = (inverse @ v).view(row.shape).to(parts.device, parts.dtype)
        first = noise(parts, chains_of_each(wanted), generator).flatten(1)
        start = (first.double() @ mixing.T.to(first.device))[:, missing].to(first)
        conditional = OnFlat(energy, origin, directions)
        z = conditional_draws(parts, conditional, method, start, wanted.count, wanted, generator)
        filled = row.flatten().repeat(wanted.count, 1)
        scale, shift = units.scale.flatten()[missing], units.shift.flatten()[missing]
        filled[:, missing] = z.to("cpu", torch.float64) * scale + shift
        found.append(filled.view(-1, *row.shape))
    return torch.stack(found)
