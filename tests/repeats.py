"""Repeats of a random experiment, and what their mean must be."""

from __future__ import annotations

import torch
from torch import Tensor


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=stream(seed), dtype=torch.float64)


def assert_mean(values: Tensor, truth: float) -> None:
    """Of independent values, within 4 standard errors."""
    error = float(values.std()) / len(values) ** 0.5
    found = float(values.mean())
    assert abs(found - truth) < 4 * error, f"{found:.5f}, expected {truth:.5f} +- {error:.5f}"


def assert_share(hits: int, of: int, p: float) -> None:
    """`hits` of `of` independent trials, each with probability p, within 4 standard errors."""
    assert abs(hits - of * p) < 4 * (of * p * (1 - p)) ** 0.5, f"{hits} of {of}, expected {p:g}"
