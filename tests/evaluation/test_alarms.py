"""A model that is not one of the data ends its run as diverged, others do not."""

from __future__ import annotations

import json
import math

import pytest
import torch

from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.evaluation.alarms import GaussianReference, divergence

# What short and long runs of the presets measured: coordinates, energies of data and chains, gap of
# samples and held-out points, acceptance, effective sample size of 64 chains, NLL above Gaussians.
HEALTHY = {
    "20 steps of the default": (2, 0.5, 1.1, 0.5, 0.97, 3422, 1.5),
    "cd, 25 Gaussians": (2, 0.2, 0.5, 0.4, 0.66, 7265, 0.5),
    "dsm, moons": (2, 0, 0, 0.7, 0.96, 2274, 0.7),
    "langevin": (2, -1.1, 0.8, 0.7, None, 110, 0.1),
    "jarzynski": (2, -0.8, 0.0, 1.0, 0.56, 2612, 0.0),
    "wine": (13, 3.5, 6.8, 2.5, 0.70, 9088, 5.0),
    "jem, digits": (64, -0.1, 18.2, 26.1, 0.60, 591, None),
    "jem, 28 x 28 pixels, 60 steps": (784, -3.1, 25.8, 168.8, 0.96, 19, None),
}


def verdict(d, data, model, gap, acceptance, ess, excess):
    reference = GaussianReference(1.42 * d, d)
    metrics = {"energy_gap": gap, "ess_bulk": ess}
    metrics |= {} if acceptance is None else {"chain_acceptance": acceptance}
    metrics |= {} if excess is None else {"nll": reference.nll + excess}
    row = {"energy_data": data, "energy_model": model}
    return divergence(metrics, row, reference, 64)


@pytest.mark.parametrize("numbers", HEALTHY.values(), ids=HEALTHY)
def test_healthy_runs_have_not_diverged(numbers):
    assert verdict(*numbers) is None


@pytest.mark.parametrize(
    ("numbers", "cause"),
    [
        ((784, -27_000, -21_000, 6_000, 0.06, 300, None), "6e+03 nats apart in 784 dimensions"),
        ((784, -27_000, -26_900, 100, 0.06, 300, None), "mean energies reach 2.7e+04 nats"),
        ((784, -9_000, -6_000, 3_000, None, 40, None), "64 chains hold 40 independent draws"),
        ((784, 0, 0, -3_000, None, 40, None), "3e+03 nats apart in 784 dimensions"),
        ((64, -28, 29, 57, 0.54, 9000, 24_328 - 260), "above that of independent Gaussians"),
    ],
)
def test_diverged_models_are_named(numbers, cause):
    found = verdict(*numbers)
    assert found is not None
    assert cause in found.cause
    assert found.slow == (numbers[4] == 0.06)


def test_a_constant_added_to_the_energies_does_not_overrule_a_good_nll():
    assert verdict(2, 150, 150.1, 0.1, 0.6, 40, -0.34) is None
    assert verdict(2, 0, 0, 7, 0.05, 40, -0.34) is None
    assert verdict(2, 150, 150.1, 0.1, 0.6, 40, None) is not None


def test_a_lower_bound_of_the_nll_is_enough():
    reference = GaussianReference(90.0, 64)
    assert divergence({"nll_lower": 24_000.0}, {}, reference, 64)
    assert not divergence({"nll_lower": 200.0}, {}, reference, 64)


def test_the_reference_is_the_entropy_of_independent_gaussians():
    x = torch.randn(50_000, 3, generator=torch.Generator().manual_seed(0)).double()
    x = x * torch.tensor([0.1, 1.0, 30.0]) + 7
    true = math.log(3.0) + 1.5 * math.log(2 * math.pi * math.e)
    for scaling in (True, False, "whiten"):
        found = GaussianReference.of(x, fit_standardization(x, scaling))
        assert found.dimensions == 3
        assert found.nll == pytest.approx(true, abs=0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_run_whose_chains_do_not_follow_ends_with_3(command, folder, tiny):
    """All energies are finite and below the bound of the updates."""
    stuck = ("train.steps=60", "optimizer.lr=0.1", "sampler.step_size=100", "sampler.jumps=null",
             "sampler.adaptation=null", "method.energy_regularization=0",
             "samples.start=noise")  # fmt: skip
    outcome = command(*tiny, *stuck, "hydra.run.dir=run")
    assert outcome.code == 3
    (line,) = outcome.err.splitlines()
    assert "training diverged by step 60" in line
    assert "; lower sampler.step_size, give sampler.adaptation, lower optimizer.lr" in line
    result = json.loads((folder / "run/result.json").read_text())
    assert result["status"] == "diverged"
    assert result["step"] == 60
    assert command("resume", "run").code == 3
    assert command("report", ".").code == 0
    summary = (folder / "summary.md").read_text()
    assert "1 diverged" in summary
