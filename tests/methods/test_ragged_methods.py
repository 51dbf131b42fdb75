"""What a method learns from padded sequences is what it learns from each of them alone."""

from __future__ import annotations

import pytest
import torch
from ragged import KINDS, alone, model, padded, resized
from repeats import seeded
from torch import Tensor

from ebmtrain.masks import lengths
from ebmtrain.methods.contrastive_divergence import ContrastiveDivergence
from ebmtrain.methods.denoising_score_matching import DenoisingScoreMatching
from ebmtrain.methods.persistent_chains import _spread_evenly
from ebmtrain.methods.persistent_contrastive_divergence import PersistentContrastiveDivergence
from ebmtrain.samplers.langevin import Langevin
from ebmtrain.score import score
from ebmtrain.types import Batch

EVERY = pytest.mark.parametrize("which", sorted(KINDS))
STEPS = [4, 16, 9, 12, 9]
DESCENT = Langevin(step_size=0.05, temperature=0.0)  # draws noise that it does not use


def gradients(energy, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(energy.parameters()), allow_unused=True))


def assert_same(found, expected) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def langevin_descent(energy, one: Tensor, k: int) -> Tensor:
    for _ in range(k):
        one = (one + DESCENT.step_size * score(energy, one)).detach()
    return one


@EVERY
def test_denoising_loss_does_not_depend_on_padding(which):
    energy, x, sigma = model(which), padded(STEPS), 0.3
    out = DenoisingScoreMatching(sigma=sigma).loss(energy, Batch(x), {}, seeded())
    xi = torch.empty_like(x).normal_(generator=seeded())
    losses = []
    for one, noise in zip(alone(x), xi, strict=True):
        n = one.shape[1]
        s = score(resized(energy, n), one + sigma * noise[None, :n])
        losses.append((sigma * s + noise[None, :n]).square().sum() / 2)
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(out.loss, expected)
    assert_same(gradients(energy, out.loss), gradients(energy, expected))


@EVERY
def test_cd_loss_does_not_depend_on_padding(which):
    energy, x, k = model(which), padded(STEPS), 3
    method = ContrastiveDivergence(sampler=DESCENT, k=k, energy_regularization=0.1)
    out = method.loss(energy, Batch(x), {}, seeded())
    gaps = []
    for one in alone(x):
        by_itself = resized(energy, one.shape[1])
        up, down = by_itself(one), by_itself(langevin_descent(by_itself, one, k))
        gaps.append(up - down + 0.1 * (up**2 + down**2))
    expected = torch.cat(gaps).mean()
    torch.testing.assert_close(out.loss, expected)
    assert_same(gradients(energy, out.loss), gradients(energy, expected))


@EVERY
def test_pcd_loss_does_not_depend_on_padding(which):
    energy, x, k = model(which), padded(STEPS), 2
    method = PersistentContrastiveDivergence(
        sampler=DESCENT, k=k, slots=len(x), energy_regularization=0.0
    )
    state = method.init(x, seeded())
    out = method.loss(energy, Batch(x), state, seeded())
    gaps = []
    for one, chain in zip(alone(x), alone(state["chains"]), strict=True):
        walker = resized(energy, chain.shape[1])
        gaps.append(resized(energy, one.shape[1])(one) - walker(langevin_descent(walker, chain, k)))
    expected = torch.cat(gaps).mean()
    torch.testing.assert_close(out.loss, expected)
    assert_same(gradients(energy, out.loss), gradients(energy, expected))


@pytest.mark.parametrize("start", ["data", "noise"])
def test_chains_of_cd_have_the_lengths_of_the_batch(start, monkeypatch):
    seen = []
    energy, x = model("lstm"), padded(STEPS)
    energy.register_forward_pre_hook(lambda _, inputs: seen.append(lengths(inputs[0]).tolist()))
    method = ContrastiveDivergence(sampler=Langevin(step_size=0.01), k=2, start=start)
    method.loss(energy, Batch(x), {}, seeded())
    assert seen == [STEPS, STEPS, STEPS + STEPS]


@pytest.mark.parametrize("reinit", [0.0, 1.0])
def test_slots_have_lengths_of_the_data_and_keep_them(reinit):
    x = padded([3] * 5 + [7] * 10 + [16] * 5)[torch.randperm(20, generator=seeded(4))]
    method = PersistentContrastiveDivergence(
        sampler=Langevin(step_size=0.01), k=1, slots=40, reinit=reinit
    )
    state = method.init(x, seeded())
    first = lengths(state["chains"])
    assert first.bincount()[[3, 7, 16]].tolist() == [10, 20, 10]
    before = state["chains"]
    state = method.loss(model("transformer"), Batch(x), state, seeded()).state
    assert lengths(state["chains"]).tolist() == first.tolist()
    moved = (state["chains"] != before) & ~before.isnan()
    assert int(moved.flatten(1).any(1).sum()) == len(x)


def test_fractions_of_lengths_are_exact_to_one_slot():
    x = padded(sorted(1 + i % 16 for i in range(37)))
    for count in (5, 36, 100):
        found = lengths(_spread_evenly(x, count)).bincount(minlength=17) / count
        wanted = lengths(x).bincount(minlength=17) / len(x)
        assert float((found - wanted).abs().max()) <= 1 / count


@pytest.mark.parametrize(
    ("count", "wanted"), [(1, [6]), (2, [3, 9]), (4, [2, 5, 7, 10]), (11, range(1, 12))]
)
def test_slots_have_the_lengths_in_the_middle_of_equal_parts(count, wanted):
    """Neither the shortest nor the longest sequences are preferred."""
    x = padded(list(range(1, 12)))[torch.randperm(11, generator=seeded(4))]
    assert sorted(lengths(_spread_evenly(x, count)).tolist()) == list(wanted)


def test_losses_of_unpadded_points_are_unchanged():
    """Of points that are no sequences too."""
    x = torch.randn(6, 2, generator=seeded(), dtype=torch.float64)

    def energy(x):
        return x.square().sum(1) / 2

    out = DenoisingScoreMatching(sigma=0.5).loss(energy, Batch(x), {}, seeded())
    xi = torch.empty_like(x).normal_(generator=seeded())
    expected = (xi - 0.5 * (x + 0.5 * xi)).square().sum(1).mean() / 2
    torch.testing.assert_close(out.loss.detach(), expected)
