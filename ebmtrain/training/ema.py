"""TODO ebmtrain/training/ema.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def ema_weight(decay: float, step: int) -> float:
    """1 - d with d = min(decay, (1 + t) / (10 + t)), t counted from 1: the smaller d of the first
    steps lets the average forget the initial weights."""
    return 1 - min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def ema_update(average: nn.Module, energy: nn.Module, weight: float | Tensor) -> None:
    """average += weight * (energy - average). Buffers (say, of a spectral norm) are copied."""
    for kept, new in zip(average.parameters(), energy.parameters(), strict=True):
        kept.lerp_(new, weight)
    for kept, new in zip(average.buffers(), energy.buffers(), strict=True):
        kept.copy_(new)
