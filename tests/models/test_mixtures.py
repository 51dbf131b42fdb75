"""Mixtures of low-rank Gaussians against torch's own, and where they begin."""

from __future__ import annotations

import torch
from torch.distributions import Categorical, LowRankMultivariateNormal, MixtureSameFamily

from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.models.mixtures import Mixtures


def random_mixtures(mixtures: int, event: tuple[int, ...] = (2, 3), rank: int = 2) -> Mixtures:
    """With parameters far from where they start."""
    model = Mixtures(event_shape=event, mixtures=mixtures, components=4, rank=rank).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(generator=generator)
    return model


def points(n: int, *event: int) -> torch.Tensor:
    return torch.randn(n, *event, generator=torch.Generator().manual_seed(1)).double()


def density(model: Mixtures, which: int) -> MixtureSameFamily:
    """One of its mixtures by torch."""
    rows = slice(4 * which, 4 * which + 4)
    variance = (2 * model.log_std[rows]).exp()[:, None].expand(-1, 6)
    parts = LowRankMultivariateNormal(model.centres[rows], model.directions[rows], variance)
    return MixtureSameFamily(Categorical(logits=model.logits[which]), parts)


def test_one_mixture_is_a_normalised_density():
    model, x = random_mixtures(1), points(20, 2, 3)
    torch.testing.assert_close(-model(x), density(model, 0).log_prob(x.flatten(1)))
    assert model.log_z(1.0) == 0
    assert model.log_z(2.0) is None


def test_several_mixtures_are_their_unnormalised_geometric_mean():
    model, x = random_mixtures(3), points(20, 2, 3)
    each = [density(model, i).log_prob(x.flatten(1)) for i in range(3)]
    torch.testing.assert_close(-model(x), torch.stack(each).mean(0))
    assert model.log_z(1.0) is None


def test_closed_form_score_is_that_of_autograd():
    model, x = random_mixtures(3), points(20, 2, 3).requires_grad_()
    energy = model(x)
    (gradient,) = torch.autograd.grad(energy.sum(), x)
    closed = model.energy_and_gradient(x)
    torch.testing.assert_close(closed[0], energy)
    torch.testing.assert_close(closed[1], gradient)


def test_initial_components_are_different_training_points_for_each_mixture():
    x = points(50, 2, 3)
    model = Mixtures(event_shape=(2, 3), mixtures=2, components=30, training_points=x)
    flat = x.flatten(1).float()
    rows = [int((flat == c).all(1).nonzero()) for c in model.centres.detach()]
    first, second = rows[:30], rows[30:]
    assert len(set(first)) == len(set(second)) == 30
    assert set(first) != set(second)
    many = Mixtures(event_shape=(2, 3), components=120, training_points=x)
    assert len(many.centres.unique(dim=0)) == 50


def test_a_rank_above_the_dimension_is_refused(command):
    outcome = command("check", "model=mixtures", "model.rank=3")
    assert outcome.code == 2
    assert outcome.err == (
        "ebmtrain: model: model.rank=3 must be at most 2, the coordinates of a point: lower it\n"
    )


def test_initial_components_are_standardized_training_points():
    words = ["model=mixtures", "method=dsm", "dataset=wine", "device.threads=1", "seed=3",
             "train.batch_size=64"]  # fmt: skip
    experiment = build(presets.to_plain(presets.compose_config(words)))
    assert experiment.dataset is not None
    u = experiment.standardization.to_standard(experiment.dataset.train).float()
    assert all((u == c).all(1).any() for c in experiment.energy.centres)  # type: ignore[union-attr]
