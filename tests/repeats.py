"""Random numbers from a seed, and what the mean of repeated experiments must be."""

from __future__ import annotations

import torch
from torch import Tensor


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def assert_mean(values: Tensor, truth: float, sigmas: float = 4.0) -> None:
    """The mean of independent values is the truth, within `sigmas` standard errors."""
    error = float(values.std()) / len(values) ** 0.5
    found = float(values.mean())
    assert abs(found - truth) < sigmas * error, (
        f"mean {found:.5f}, expected {truth:.5f} +- {error:.5f}"
    )


def assert_share(hits: int, of: int, p: float) -> None:
    """`hits` of `of` independent trials, each with probability p, within 4 standard errors."""
    assert abs(hits - of * p) < 4 * (of * p * (1 - p)) ** 0.5, f"{hits} of {of}, expected {p:g}"
