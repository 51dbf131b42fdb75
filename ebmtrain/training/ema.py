"""Exponential moving average of a model's weights."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebmtrain.runtime.torch_private import foreach_lerp


def ema_weight(decay: float, step: int) -> float:
    """Weight of the newest parameters, 1 - d with d = min(decay, (1 + t) / (10 + t)).

    The smaller d of the first steps t = 1, 2, ... lets the average forget the initial weights.
    """
    return 1 - min(decay, (1 + step) / (10 + step))


class EmaPairs(NamedTuple):
    """What belongs together in an average and in the energy that it follows."""

    averages: list[Tensor]
    """The average's parameters."""
    newest: list[Tensor]
    """The energy's."""
    with_buffers: list[tuple[nn.Module, nn.Module]]
    """Modules that have buffers, of the average and of the energy."""


def ema_pairs(average: nn.Module, energy: nn.Module) -> EmaPairs:
    """To be found once: a walk through both takes as long as ten small operations.

    Parameters must stay the same tensors. Buffers may be replaced.
    """
    pairs = zip(average.modules(), energy.modules(), strict=True)
    with_buffers = [(a, e) for a, e in pairs if any(True for _ in e.buffers(recurse=False))]
    return EmaPairs(list(average.parameters()), list(energy.parameters()), with_buffers)


@torch.no_grad()
def ema_update(pairs: EmaPairs, weight: float | Tensor) -> None:
    """average += weight * (energy - average); buffers (of a spectral norm, say) are copied."""
    if isinstance(weight, Tensor):  # a graph is traced, in which the weight is an input
        for kept, new in zip(pairs.averages, pairs.newest, strict=True):
            kept.lerp_(new, weight)
    else:
        foreach_lerp(pairs.averages, pairs.newest, weight)
    for average, energy in pairs.with_buffers:
        buffers = zip(average.buffers(recurse=False), energy.buffers(recurse=False), strict=True)
        for kept, new in buffers:
            kept.copy_(new)
