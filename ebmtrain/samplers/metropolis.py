"""The accept-reject step that makes a proposal exact (Metropolis et al., 1953; Hastings, 1970)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.bounds import unsqueeze_like


def accept_mask(log_ratio: Tensor, generator: Generator) -> Tensor:
    """True with probability min(1, exp(log_ratio)), per chain, shape (batch,).

    NaN compares false: a diverged proposal is rejected.
    """
    return torch.empty_like(log_ratio).uniform_(generator=generator).log() < log_ratio


def acceptance_probability(log_ratio: Tensor) -> Tensor:
    """min(1, exp(log_ratio)), 0 where it is NaN."""
    return log_ratio.nan_to_num(-torch.inf, posinf=0.0).clamp(max=0.0).exp()


def sanitize_start(energy: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Energy and gradient of a chain's first point. NaN counts as infinitely high, and where there
    is no finite force none acts: the chain then walks at random and takes the first finite energy
    that it meets. (No proposal is ever accepted from NaN.)"""
    high = energy.nan_to_num(torch.inf, torch.inf, -torch.inf)
    return high, gradient.nan_to_num(0.0, 0.0, 0.0)


def choose(accept: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`yes` for the chains that accept, `no` for the others."""
    return torch.where(unsqueeze_like(accept, yes), yes, no)


def choose_optional(accept: Tensor, yes: Tensor | None, no: Tensor | None) -> Tensor | None:
    """`choose` for what may not be there; it is there for both or for neither."""
    return None if yes is None or no is None else choose(accept, yes, no)
