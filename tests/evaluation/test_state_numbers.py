"""Numbers of models of binary states, by independent enumeration."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from repeats import assert_share, seeded
from states import distribution, every_state, small_ising, small_rbm

from ebmtrain.datasets.bars_and_stripes import bars_and_stripes
from ebmtrain.datasets.ising_samples import ising_samples
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.potts_samples import potts_samples
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.datasets.support import BINARY
from ebmtrain.evaluation.couplings import CouplingRecovery, _of_symbols
from ebmtrain.evaluation.exact import Quadrature
from ebmtrain.evaluation.protocol import EvaluationInput
from ebmtrain.evaluation.quality import pseudo_likelihood_metrics
from ebmtrain.evaluation.state_ais import StateAnnealedImportanceSampling
from ebmtrain.models.potts import Potts
from ebmtrain.models.rbm import Rbm
from ebmtrain.samplers.block_gibbs import BlockGibbs


class Net(torch.nn.Module):
    """Knows neither its log Z nor its flips."""

    def __init__(self, rbm: Rbm):
        super().__init__()
        self.rbm = rbm

    def forward(self, x):
        return self.rbm(x)


def inputs(energy, dataset, seed: int = 0, temperature: float = 1.0) -> EvaluationInput:
    """With independent samples of the model."""

    def unused(*_):
        raise AssertionError

    spec = DataSpec.of(dataset)
    x, p = distribution(energy, tuple(dataset.train.shape[1:]), temperature)
    return EvaluationInput(
        energy=energy, temperature=temperature, region=spec.region, dataset=dataset,
        standardization=spec.standardization, sampler=BlockGibbs(), method={}, trace=unused,
        draw=lambda n: x[torch.multinomial(p, n, True, generator=seeded(seed))],
        generator=lambda purpose: seeded(seed + 1000 * len(purpose)), support=BINARY,
    )  # fmt: skip


@pytest.mark.parametrize("kind", [lambda rbm: rbm, Net])
@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_exact_numbers_are_those_of_enumeration(kind, temperature):
    data = bars_and_stripes(copies=1)
    energy = kind(small_rbm((3, 3), std=0.7))
    metrics, warnings = Quadrature(every=1)(inputs(energy, data, temperature=temperature))
    assert not warnings
    x, p = distribution(energy, (3, 3), temperature)
    log_p = {tuple(v.flatten().tolist()): float(q.log()) for v, q in zip(x, p, strict=True)}
    held = [log_p[tuple(v.flatten().tolist())] for v in data.holdout]
    own_z = math.fsum(math.exp(-float(energy(v[None])) / temperature) for v in x)
    expected = {
        "log_z": math.log(own_z),
        "nll": -sum(held) / 16,
        "log_likelihood_total": sum(held),
        "model_entropy": -float((p * p.log()).sum()),
        "kl": -sum(held) / 16 - data.truth.entropy,  # the held-out points are the distribution
        "regret": -sum(held) / 16 - data.truth.entropy,
    }
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-6), name


def test_a_wrong_log_z_of_the_model_is_found():
    class Wrong(Net):
        def log_z(self, temperature):
            return self.rbm.log_z(temperature) + 1e-3

    metrics, (warning,) = Quadrature(every=1)(
        inputs(Wrong(small_rbm((3, 3), std=0.7)), bars_and_stripes(copies=1))
    )
    assert metrics == {}
    assert "by the sum over all states" in warning


def test_many_sites_take_the_log_z_of_the_model_or_are_refused():
    x = (torch.rand(20, 23, generator=seeded()) < 0.5).double()
    data = Points(x, x, standardization=BINARY.standardization(x, False), support=BINARY)
    model = small_rbm((23,), 3)
    spec = DataSpec.of(data)
    given = replace(
        inputs(small_rbm((3, 3)), bars_and_stripes(copies=1)),
        dataset=data, standardization=spec.standardization, region=spec.region,
    )  # fmt: skip
    metrics = Quadrature(every=1)(replace(given, energy=model)).metrics
    assert metrics["nll"] == pytest.approx(float(model(x).mean() + model.log_z(1.0)), abs=1e-9)
    metrics, (notice,) = Quadrature(every=1)(replace(given, energy=Net(model)))
    assert metrics == {}
    assert "22 sites, the data have 23; choose evaluation=ais_states" in notice


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_pseudo_likelihood_is_that_of_conditional_probabilities(temperature):
    model = small_rbm()
    states, p = distribution(model, (2, 3), temperature)
    x, index = every_state(6)[5::9].view(-1, 2, 3), torch.arange(64)
    total = []
    for v in x:
        value = 0.0
        for site in range(6):
            same = (states.flatten(1) == v.flatten()).sum(1)
            rest = states.flatten(1)[:, index[:6] != site] == v.flatten()[index[:6] != site]
            value += float((p[same == 6] / p[rest.all(1)].sum()).log())
        total.append(value)
    found = pseudo_likelihood_metrics(model, x, temperature)["pseudo_likelihood"]
    assert found == pytest.approx(sum(total) / len(total), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [lambda rbm: rbm, Net])
def test_annealing_bounds_hold_the_enumerated_log_z(kind):
    """Of 40 repetitions the 99 % bounds miss it in few, and the estimate is within its error. The
    path of the RBM has block Gibbs, that of another energy Gibbs sweeps."""
    data, rbm = bars_and_stripes(copies=1), small_rbm((3, 3), std=1.0)
    truth, inside, widths, z = float(rbm.log_z(1.0)), 0, [], []
    ais = StateAnnealedImportanceSampling(every=1, chains=60, temperatures=12, bootstrap=200)
    for seed in range(40):
        metrics = ais(inputs(kind(rbm), data, seed)).metrics
        inside += metrics["log_z_lower"] <= truth <= metrics["log_z_upper"]
        widths.append(metrics["log_z_upper"] - metrics["log_z_lower"])
        if "log_z" in metrics:
            z.append((metrics["log_z"] - truth) / metrics["log_z_se"])
    assert_share(inside, 40, 0.97)
    assert sum(widths) / 40 < 1.5
    assert len(z) > 20
    assert max(map(abs, z)) < 5


def test_errors_of_couplings_are_those_of_their_definition():
    data = ising_samples(side=3, sigma=0.2, n_train=300, n_holdout=300, seed=0)
    energy = small_ising((3, 3), std=0.2)
    given = inputs(energy, data)
    found = CouplingRecovery(ours=Quadrature(every=1))(given).metrics
    errors = [float(energy.couplings[i, j] - data.truth.couplings[i, j])
              for i in range(9) for j in range(9)]  # fmt: skip
    rmse = math.sqrt(sum(e * e for e in errors) / 81)
    assert found["neg_log_rmse"] == pytest.approx(-math.log(rmse))
    assert found["oracle_neg_log_rmse"] > found["neg_log_rmse"] + 0.5
    assert found["true_log_z"] == data.truth.log_z
    assert "log_z" in found


def potts_inputs(energy, data, seed: int = 0, temperature: float = 1.0) -> EvaluationInput:
    """With independent samples of the model, by enumeration."""
    d, q = energy.fields.shape
    x = torch.cartesian_prod(*[torch.arange(q, dtype=torch.float64)] * d)
    p = (-energy(x) / temperature).softmax(0)
    spec = DataSpec.of(data)
    return replace(
        inputs(small_rbm((3, 3)), bars_and_stripes(copies=1), seed, temperature),
        energy=energy, dataset=data, support=data.support, region=spec.region,
        standardization=spec.standardization,
        draw=lambda n: x[torch.multinomial(p, n, True, generator=seeded(seed))],
    )  # fmt: skip


def potts_of(data) -> Potts:
    """The true distribution as a model."""
    sites, states = data.truth.fields.shape
    model = Potts(event_shape=(sites,), states=states).double().requires_grad_(False)
    model.fields.data, model.weight.data = data.truth.fields, data.truth.couplings
    return model


def small_potts_data():
    return potts_samples(sites=6, states=3, contacts=5, n_train=300, n_holdout=200, seed=2)


def test_errors_of_couplings_of_symbols_do_not_depend_on_the_gauge():
    """By loops over the pairs, of couplings with terms that the fields compensate."""
    data, evaluator = small_potts_data(), CouplingRecovery(ours=Quadrature(every=1))
    model, g = potts_of(data), seeded(5)
    found = evaluator(potts_inputs(model, data)).metrics
    assert found["coupling_rmse"] == pytest.approx(0, abs=1e-12)
    assert found["log_z"] == pytest.approx(found["true_log_z"], abs=1e-9)

    error = torch.randn(6, 3, 6, 3, generator=g, dtype=torch.float64)
    model.weight.data = model.weight + error
    difference = (model.couplings - data.truth.couplings).tolist()
    total = 0.0
    for i, j in itertools.combinations(range(6), 2):
        e = [[difference[i][a][j][b] for b in range(3)] for a in range(3)]
        mean = sum(map(sum, e)) / 9
        rows, columns = [sum(r) / 3 for r in e], [sum(c) / 3 for c in zip(*e, strict=True)]
        total += sum((e[a][b] - rows[a] - columns[b] + mean) ** 2
                     for a in range(3) for b in range(3))  # fmt: skip
    found = evaluator(potts_inputs(model, data)).metrics
    assert found["coupling_rmse"] == pytest.approx(math.sqrt(total / (15 * 9)), abs=1e-12)

    before = model(data.holdout)
    shift = torch.randn(6, 3, 6, generator=g, dtype=torch.float64)  # c_i(a) of each j
    shift[range(6), :, range(6)] = 0
    model.weight.data = model.weight + 2 * shift[..., None]
    model.fields.data = model.fields - shift.sum(2)
    torch.testing.assert_close(model(data.holdout), before)
    again = evaluator(potts_inputs(model, data)).metrics
    assert again["coupling_rmse"] == pytest.approx(found["coupling_rmse"], abs=1e-12)
    assert again["ppv"] == found["ppv"]


def test_the_precision_of_contacts_is_the_share_of_true_pairs():
    """Of 30 true pairs 6 are moved to pairs that do not interact."""
    for seed in range(3):
        true = potts_samples(n_train=10, n_holdout=10, seed=seed).truth.couplings
        assert _of_symbols(true, true)["ppv"] == 1
        interacts = true.abs().amax((1, 3)) > 0
        found, (k, m) = true.clone(), interacts.triu().nonzero()[::5].T
        i, j = (~interacts).triu(1).nonzero()[::20][:6].T
        found[i, :, j], found[j, :, i] = true[k, :, m], true[m, :, k]
        found[k, :, m] = found[m, :, k] = 0
        assert _of_symbols(found, true)["ppv"] == pytest.approx(24 / 30)
    assert "ppv" not in _of_symbols(true, torch.zeros_like(true))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_couplings_of_symbols_are_in_units_of_the_temperature(temperature):
    data, model = small_potts_data(), potts_of(small_potts_data())
    model.weight.data, model.fields.data = model.weight * temperature, model.fields * temperature
    given = potts_inputs(model, data, temperature=temperature)
    found = CouplingRecovery(ours=Quadrature(every=1))(given).metrics
    assert found["coupling_rmse"] == pytest.approx(0, abs=1e-12)


@pytest.mark.slow
def test_annealing_bounds_of_symbols_hold_the_exact_nll():
    """Of 40 repetitions the 99 % bounds miss it in few."""
    data = small_potts_data()
    model, inside, widths = potts_of(data), 0, []
    model.weight.data = model.weight + 0.3 * torch.randn(6, 3, 6, 3, generator=seeded(1))
    exact = float(Quadrature(every=1)(potts_inputs(model, data)).metrics["nll"])
    ais = StateAnnealedImportanceSampling(every=1, chains=60, temperatures=12, bootstrap=200)
    for seed in range(40):
        metrics = CouplingRecovery(ours=ais)(potts_inputs(model, data, seed)).metrics
        inside += metrics["nll_lower"] <= exact <= metrics["nll_upper"]
        widths.append(metrics["nll_upper"] - metrics["nll_lower"])
    assert_share(inside, 40, 0.97)
    assert sum(widths) / 40 < 1.0


@pytest.mark.slow
def test_the_path_of_pairs_has_the_log_z_of_the_base():
    data, energy = bars_and_stripes(copies=1), small_ising((3, 3), std=0.3)
    truth = float((-energy(every_state(9).view(-1, 3, 3)) / 1.3).logsumexp(0))
    ais = StateAnnealedImportanceSampling(every=1, chains=400, temperatures=30, bootstrap=200)
    metrics = ais(inputs(energy, data, temperature=1.3)).metrics
    assert abs(metrics["log_z"] - truth) < 4.5 * metrics["log_z_se"]
    assert metrics["log_z_se"] < 0.1
