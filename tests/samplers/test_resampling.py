"""Weights of chains: their mean, their worth, and survivors in proportion to them."""

from __future__ import annotations

import torch

from ebmtrain.samplers.resampling import effective_sample_size, log_mean_exp, systematic_resampling


def test_log_mean_exp_and_effective_sample_size():
    """Of weights 1 and 3: mean 2, effective size 16 / 10; a constant factor shifts the first and
    not the second, however large."""
    a = torch.tensor([[1.0, 3.0], [1.0, 1.0]]).log() + 1_000
    torch.testing.assert_close(log_mean_exp(a), torch.tensor([2.0, 1.0]).log() + 1_000)
    torch.testing.assert_close(effective_sample_size(a), torch.tensor([1.6, 2.0]))


def test_resampling_counts_follow_the_weights():
    """n w_i rounded up or down each time, n w_i on average over 2,000 draws within 4 standard
    errors; each group by its own weights; nothing of weight 0."""
    weights = torch.tensor([[0.0, 0.05, 0.31, 0.0, 0.64], [0.2, 0.2, 0.2, 0.2, 0.2]])
    generator = torch.Generator().manual_seed(0)
    counts = torch.stack(
        [
            torch.stack(
                [
                    row.bincount(minlength=5)
                    for row in systematic_resampling(weights.log(), generator)
                ]
            )
            for _ in range(2_000)
        ]
    ).float()
    expected = 5 * weights
    assert ((counts - expected).abs() < 1 + 1e-4).all()
    error = counts.std(0) / 2_000**0.5
    assert ((counts.mean(0) - expected).abs() <= 4 * error + 1e-4).all()
    assert (counts[:, 1] == 1).all()


def test_indices_never_exceed_the_last():
    """Cumulated float32 weights end anywhere near 1."""
    generator = torch.Generator().manual_seed(0)
    for n in (3, 1_000, 100_000):
        index = systematic_resampling(torch.rand(n, generator=generator), generator)
        assert index.shape == (n,)
        assert 0 <= index.min() <= index.max() <= n - 1
