"""Distances between samples and data of different lengths: none for equal distributions, and each
fault is detected.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput
from ebmtrain.evaluation.ragged_quality import RaggedQuality, _pad_and_flatten
from ebmtrain.masks import truncate
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import Region

NAMES = ("mmd2", "energy_distance", "sliced_wasserstein")
CHECK = RaggedQuality(every=1, points=500, projections=50, shuffles=100)


def waves(n: int, seed: int, *, std=0.1, shortest=6, shuffled=False) -> Tensor:
    """x_t = 10 + 3 sin(t / 2 + phi) + noise, phi uniform, with 6 to 16 steps."""
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(16.0, dtype=torch.float64)
    phase = 2 * math.pi * torch.rand(n, 1, dtype=torch.float64, generator=g)
    x = torch.sin(t / 2 + phase) + std * torch.randn(n, 16, dtype=torch.float64, generator=g)
    if shuffled:  # the law of each step stays, and what binds steps together goes
        x = torch.stack([column[torch.randperm(n, generator=g)] for column in x.T], 1)
    steps = torch.randint(shortest, 17, (n,), generator=g)
    return truncate((10 + 3 * x)[..., None], steps)


def evaluate(samples: Tensor, holdout: Tensor | None = None) -> Evaluation:
    train = waves(1000, 1)
    units = fit_standardization(train, True)
    holdout = waves(1000, 2) if holdout is None else holdout
    box = torch.zeros(16)

    def unused(*_):
        raise AssertionError

    inputs = EvaluationInput(
        energy=nn.Identity(), temperature=1.0, region=Region(box, box + 1), standardization=units,
        dataset=Points(train, holdout, standardization=units), sampler=Mala(step_size=0.1),
        draw=lambda n: units.to_standard(samples[:n]).float(), method={}, trace=unused,
        generator=lambda _: torch.Generator(),
    )  # fmt: skip
    return CHECK(inputs)


def test_embedding_is_injective():
    x = torch.tensor([[[3.0], [0.0]], [[3.0], [torch.nan]]])
    assert _pad_and_flatten(x).tolist() == [[3, 1, 0, 1], [3, 1, 0, 0]]
    two_channels = torch.tensor([[[3.0, 4.0], [torch.nan, torch.nan]]])
    assert _pad_and_flatten(two_channels).tolist() == [[3, 4, 1, 0, 0, 0]]


def test_samples_of_the_data_distribution():
    found, warnings = evaluate(waves(500, 3))
    assert not warnings
    for name in NAMES:
        # 1 of 20 is above its floor, and none 4 times as high.
        assert float(found[name]) < 4 * float(found[f"{name}_floor"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fault", "seen_by"),
    [
        ({"shortest": 10}, ("mmd2", "energy_distance")),
        ({"shuffled": True}, ("mmd2", "energy_distance")),
    ],
)
def test_each_fault_exceeds_a_floor(fault, seen_by):
    found, _ = evaluate(waves(500, 3, **fault))
    for name in seen_by:
        assert float(found[name]) > 4 * float(found[f"{name}_floor"])  # type: ignore[arg-type]


def test_incomparable_samples_give_warnings():
    broken = waves(500, 3)
    broken[7, 2] = math.nan  # in the middle: no end of a sequence
    found, warnings = evaluate(broken)
    assert not found
    assert "1 of 500 samples are not finite" in warnings[0]
    found, warnings = evaluate(waves(500, 3), waves(1, 2))
    assert not found
    assert "a single held-out point" in warnings[0]
