"""Outputs for classes."""

from __future__ import annotations

import torch
from torch import Tensor


def marginal(f: Tensor) -> Tensor:
    """-log sum_y exp(-f_y), (batch, classes) -> (batch,): the energy of a point whatever its class.
    Of a single output it is that output."""
    return f.squeeze(1) if f.shape[1] == 1 else -torch.logsumexp(-f, 1)
