"""The joint energy model: its two terms, what it asks of data and model, and points of a class."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from repeats import normal, seeded
from torch import nn

from ebmtrain.datasets.points import Points
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.errors import ConfigError
from ebmtrain.evaluation.classification import Classification, _calibration_error
from ebmtrain.evaluation.protocol import EvaluationInput
from ebmtrain.methods.contrast import add_noise
from ebmtrain.methods.joint_energy_model import JointEnergyModel
from ebmtrain.methods.persistent_contrastive_divergence import PersistentContrastiveDivergence
from ebmtrain.models.convolutional import Convolutional
from ebmtrain.models.mlp import MLP
from ebmtrain.models.residual import Residual
from ebmtrain.models.wrappers import ClassConditionalEnergy, ClassEnergies
from ebmtrain.runs.sampling import _class_log_weights
from ebmtrain.samplers.mala import Mala
from ebmtrain.score import energy_and_gradient
from ebmtrain.types import Batch, Labels, Standardization

SAMPLER = Mala(step_size=0.2)


class Wells(nn.Module):
    """E(x, y) = ||x - c_y||^2 / 2 - b_y for two classes on the line: p(x, y) is known."""

    classes = 2

    def __init__(self) -> None:
        super().__init__()
        self.b = nn.Parameter(torch.tensor([0.0, math.log(3)], dtype=torch.float64))
        self.register_buffer("c", torch.tensor([-2.0, 2.0], dtype=torch.float64))

    def joint(self, x):
        return (x - self.c).square() / 2 - self.b

    def forward(self, x):
        return -torch.logsumexp(-self.joint(x), 1)


def slopes(method, x, y):
    energy = Wells()
    out = method.loss(energy, Batch(x, y), method.init(x, seeded(1)), seeded(2))
    (slope,) = torch.autograd.grad(out.loss, energy.b)
    return out, slope


def test_the_loss_is_pcd_plus_cross_entropy():
    """d/db_z of -log softmax_y(b - ...) = p(z | x) - [z = y], worked out by hand."""
    x, y = normal(40, 1), torch.arange(40) % 2
    options = {"sampler": SAMPLER, "k": 2, "slots": 50, "energy_regularization": 0.1}
    plain, slope = slopes(PersistentContrastiveDivergence(**options), x, y)
    both, with_classes = slopes(JointEnergyModel(**options, classification=2.5), x, y)
    p = torch.sigmoid(4 * x[:, 0] + math.log(3))  # of class 1: exp(-(x-2)^2/2 + (x+2)^2/2) * 3
    surprise = -torch.where(y == 1, p, 1 - p).log().mean()
    torch.testing.assert_close(both.loss - plain.loss, 2.5 * surprise)
    added = 2.5 * (p - y).mean()
    torch.testing.assert_close(with_classes - slope, torch.stack([-added, added]))
    assert both.metrics["cross_entropy"].item() == pytest.approx(surprise.item())
    right = ((p > 0.5).long() == y).double().mean()
    assert both.metrics["accuracy_train"].item() == pytest.approx(right.item())
    assert all(torch.equal(plain.state[name], both.state[name]) for name in plain.state)


def test_the_cross_entropy_uses_the_noisy_points():
    """With noise on the data: of the noised points."""
    x, y = normal(40, 1), torch.arange(40) % 2
    method = JointEnergyModel(sampler=SAMPLER, k=1, slots=50, data_noise=0.7)
    out, _ = slopes(method, x, y)
    seen = add_noise(x, 0.7, seeded(2))
    p = torch.sigmoid(4 * seen[:, 0] + math.log(3))
    surprise = -torch.where(y == 1, p, 1 - p).log().mean()
    assert out.metrics["cross_entropy"].item() == pytest.approx(surprise.item())
    assert out.metrics["energy_data"].item() == pytest.approx(Wells()(seen).mean().item())


def test_a_batch_without_labels_is_refused():
    x, method = normal(8, 1), JointEnergyModel(sampler=SAMPLER, slots=8)
    with pytest.raises(ValueError, match="without labels"):
        method.loss(Wells(), Batch(x), method.init(x, seeded(1)), seeded(2))


@pytest.mark.parametrize("base_std", [None, 1.5])
@pytest.mark.parametrize(
    ("kind", "options"),
    [(MLP, {"width": 16}), (Convolutional, {"widths": [4, 8]}), (Residual, {"widths": [4, 8]})],
)
def test_the_energy_is_minus_logsumexp_over_classes(kind, options, base_std):
    """E(x) = -log sum_y exp(-E(x, y)), and so is a written-out gradient."""
    model = kind(event_shape=(4, 4), classes=3, base_std=base_std, **options).double()
    nn.init.normal_(model.output.bias)
    x = normal(20, 4, 4).requires_grad_()
    joint = ClassEnergies(model)(x)
    assert joint.shape == (20, 3)
    expected = -joint.neg().exp().sum(1).log()
    torch.testing.assert_close(model(x), expected)
    (gradient,) = torch.autograd.grad(expected.sum(), x)
    energy, written_out = energy_and_gradient(model, x.detach())
    torch.testing.assert_close(energy, expected)
    torch.testing.assert_close(written_out, gradient)
    torch.testing.assert_close(ClassConditionalEnergy(model, 2)(x), joint[:, 2])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_chains_are_weighted_by_the_class_probability(temperature):
    """p(x | y) / p(x) is proportional to exp(-(E(x, y) - E(x)) / T), at any temperature."""
    x, energy = normal(30, 1), Wells()
    own = torch.linspace(0, 1, 30, dtype=torch.float64)
    weighted = _class_log_weights(energy, {"chains": x, "log_weights": own}, 1, temperature)[
        "log_weights"
    ]
    rest = weighted - own - (energy(x) - energy.joint(x)[:, 1]) / temperature
    torch.testing.assert_close(rest, rest[0].expand(30))
    assert _class_log_weights(energy, {}, 1, temperature) == {}


def test_calibration_error_is_its_formula():
    """Two bins of (0, 1]: 0.5 belongs to the lower one. |1/2 - 0.4| * 2/4 + |1 - 0.8| * 2/4."""
    confidence = torch.tensor([0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
    right = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    assert _calibration_error(confidence, right, 2) == pytest.approx(0.15)
    assert _calibration_error(torch.ones(3), torch.ones(3), 15) == 0.0
    # Too little in one bin does not make up for too much in the other: 0.6 * 2/4 + 0.3 * 2/4.
    right = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    assert _calibration_error(confidence, right, 2) == pytest.approx(0.45)
    # Bins count by their points: |1 - 0.7| * 3/4 + |0 - 0.2| * 1/4.
    confidence = torch.tensor([0.7, 0.7, 0.7, 0.2], dtype=torch.float64)
    right = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    assert _calibration_error(confidence, right, 2) == pytest.approx(0.275)


def test_classification_of_held_out_points():
    """Points of the data's own units, at a temperature that p(y | x) does not know of."""
    u, draw = normal(500, 1).double(), seeded(5)
    p = torch.sigmoid(4 * u[:, 0] + math.log(3))  # of class 1
    y = (torch.rand(500, generator=draw, dtype=torch.float64) < p**0.2).long()  # not that often
    units = Standardization(*torch.tensor([[1000.0], [20.0]]).double())
    points = Points(
        units.to_data(u[:40]), units.to_data(u), standardization=units,
        labels=Labels(1 - y[:40], y, ("a", "b")),
    )  # fmt: skip
    found = Classification(every=1, bins=10)(
        EvaluationInput(
            energy=Wells(), temperature=3.0, region=DataSpec.of(points).region,
            standardization=units, dataset=points, draw=unused, generator=unused,
            sampler=SAMPLER, method={}, trace=unused,
        )
    ).metrics  # fmt: skip
    right = ((p > 0.5).long() == y).double()
    accuracy, confidence = right.mean().item(), torch.maximum(p, 1 - p)
    assert 0.55 < accuracy < 0.95
    assert found["accuracy"] == pytest.approx(accuracy)
    assert found["accuracy_se"] == pytest.approx((right.var(correction=0).item() / 500) ** 0.5)
    surprise = -torch.where(y == 1, p, 1 - p).log().mean()
    assert found["cross_entropy_holdout"] == pytest.approx(surprise.item())
    ece = sum(
        abs((right - confidence)[(low / 10 < confidence) & (confidence <= (low + 1) / 10)].sum())
        for low in range(10)
    )
    assert found["ece"] == pytest.approx(float(ece) / 500)


def unused(*_):
    raise AssertionError


WORDS = ("method=jem", "dataset=iris", "model.classes=3", "train.batch_size=32", "method.slots=256")


@pytest.mark.slow
def test_classes_of_points_outside_of_the_bounds_are_refused(command, tiny_file, folder):
    import ebmtrain

    outcome = command(
        *tiny_file, *WORDS, "train.steps=2", "dataset.support=positive", "hydra.run.dir=bounded"
    )
    assert outcome.code == 0, outcome.err
    run = ebmtrain.load(folder / "bounded")
    inside = [5.0, 3.0, 1.0, 0.2]
    assert run.class_probabilities([inside, inside]).isfinite().all()
    for bad in (-1.0, 0.0):
        with pytest.raises(ConfigError, match=r"point 2 .* is outside of dataset.support"):
            run.class_probabilities([inside, [bad, *inside[1:]]])
    with pytest.raises(ValueError, match="one point is"):
        run.class_probabilities(inside)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("method=jem", "dataset.n_train=500"), "these data have none: method=pcd"),
        (("method=jem", "dataset=iris", "model=gaussian"), "model=mlp"),
        (("method=jem", "dataset=iris", "model.classes=4"), "model.classes is 4, the data have 3"),
    ],
)
def test_invalid_classes_are_refused(command, words, remedy):
    outcome = command(*words, "train.batch_size=32")
    assert outcome.code == 2
    assert remedy in outcome.err
    assert len(outcome.err.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_run_classifies_and_samples_each_class(command, tiny_file, folder):
    """Iris: the first species is easily told, the centres of the classes lie apart."""
    import ebmtrain

    outcome = command(*tiny_file, *WORDS, "train.steps=400", "model.width=32", "method.k=3",
                      "samples.burn_in=100", "hydra.run.dir=run")  # fmt: skip
    assert outcome.code == 0, outcome.err
    run = ebmtrain.load(folder / "run")
    metrics = run.result["metrics"]
    assert metrics["accuracy"] > 0.8
    assert f"accuracy {metrics['accuracy']:.4f}" in outcome.out
    assert 0 <= metrics["ece"] < 0.3
    data = run.experiment.dataset
    assert data is not None
    labels = data.labels  # type: ignore[attr-defined]
    p = run.class_probabilities(data.holdout)
    torch.testing.assert_close(p.sum(1), torch.ones(len(p), dtype=p.dtype))
    found = (p.argmax(1) == labels.holdout).double().mean().item()
    assert found == pytest.approx(metrics["accuracy"])
    for label in range(3):
        drawn = run.sample(300, label=label).mean(0)
        centres = torch.stack([data.train[labels.train == y].mean(0) for y in range(3)])
        scaled = (centres - drawn) / data.standardization.scale
        assert scaled.norm(dim=1).argmin() == label
    assert command("sample", "run", "count=20", "label=2").code == 0
    refused = command("sample", "run", "label=3")
    assert refused.code == 2
    assert "classes of this model are 0 to 2" in refused.err
    assert run._class_index(labels.names[1]) == 1


def test_classes_are_chosen_by_their_numbers_in_the_data(command, folder, tiny_file):
    """1 is the class of that name, and not the second one."""
    x = np.random.default_rng(0).normal(size=(60, 2))
    names = np.arange(60) % 3 + 1
    lines = [f"{a},{b},{name}" for (a, b), name in zip(x, names, strict=True)]
    (folder / "x.csv").write_text("\n".join(["a,b,kind", *lines]))
    words = ["dataset=file", "dataset.path=x.csv", "dataset.labels=kind", "method=jem",
             "method.slots=64", "train.batch_size=16", "plots.every=0"]  # fmt: skip
    outcome = command(*tiny_file, *words, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    import ebmtrain

    run = ebmtrain.load(folder / "run")
    assert [run._class_index(name) for name in (1, 2, 3)] == [0, 1, 2]
    assert command("sample", "run", "label=3", "count=5").code == 0
    refused = command("sample", "run", "label=0")
    assert "label is 0; classes of this model are 1, 2, 3" in refused.err
