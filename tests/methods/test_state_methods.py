"""What every method of binary states promises, with every sampler of them."""

from __future__ import annotations

import math

import pytest
import torch
from repeats import seeded
from states import every_state, small_ising, small_rbm

from ebmtrain.datasets.support import BINARY
from ebmtrain.evaluation.properties.methods import _check_optimum
from ebmtrain.methods.contrastive_divergence import ContrastiveDivergence
from ebmtrain.methods.energy_discrepancy import EnergyDiscrepancy
from ebmtrain.methods.jarzynski import Jarzynski
from ebmtrain.methods.noise import NOISE_DISTRIBUTIONS
from ebmtrain.methods.noise_contrastive_estimation import NoiseContrastiveEstimation
from ebmtrain.methods.persistent_contrastive_divergence import PersistentContrastiveDivergence
from ebmtrain.methods.pseudo_likelihood import PseudoLikelihood
from ebmtrain.models.pair_selection import fit_couplings
from ebmtrain.samplers.block_gibbs import BlockGibbs
from ebmtrain.samplers.gibbs import Gibbs
from ebmtrain.samplers.gibbs_with_gradients import GibbsWithGradients
from ebmtrain.types import Batch

SAMPLERS = (BlockGibbs(), Gibbs(), GibbsWithGradients(proposals=6))
PLAIN = {"energy_regularization": 0.0, "support": BINARY}
METHODS = {
    "pcd": lambda s: PersistentContrastiveDivergence(
        sampler=s, k=1, slots=256, reinit=0.1, **PLAIN
    ),
    "cd": lambda s: ContrastiveDivergence(sampler=s, k=1, **PLAIN),
    "cd from noise": lambda s: ContrastiveDivergence(sampler=s, k=3, start="noise", **PLAIN),
    "jarzynski": lambda s: Jarzynski(
        sampler=s, k=1, walkers=256, moved=128, moved_measuring=64, **PLAIN
    ),
    "pseudo_likelihood": lambda _: PseudoLikelihood(),
    "pseudo_likelihood of some sites": lambda _: PseudoLikelihood(sites=2, l2=1e-3),
    "ed": lambda _: EnergyDiscrepancy(support=BINARY),
    "nce": lambda _: NoiseContrastiveEstimation(noise="frequencies"),
}


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("which", METHODS)
def test_chains_stay_at_states_and_a_step_is_deterministic(which, sampler):
    method, energy = METHODS[which](sampler), small_rbm().requires_grad_(True)
    x = (torch.rand(20, 2, 3, generator=seeded()) < 0.3).double()
    outputs = []
    for _ in range(2):
        state, generator = method.init(x, seeded(1)), seeded(2)
        world = torch.get_rng_state()
        for _ in range(2):
            out = method.loss(energy, Batch(x), state, generator)
            state = out.state
        assert torch.equal(torch.get_rng_state(), world)
        outputs.append(out)
    assert torch.equal(outputs[0].loss, outputs[1].loss)
    chains = out.state.get("chains", x)
    assert ((chains == 0) | (chains == 1)).all()
    out.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in energy.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    "which",
    ["pcd", "cd", "jarzynski", "pseudo_likelihood", "pseudo_likelihood of some sites", "ed"],
)
def test_the_optimum_is_at_the_data(which):
    (finding,) = _check_optimum(METHODS[which](BlockGibbs()), 128, "binary")
    assert finding.holds, finding


def test_the_walkers_estimate_the_log_z_of_states():
    """Before any move mean exp(A) is an unbiased estimate of Z, from uniform states."""
    model = small_rbm(std=0.5)
    method = METHODS["jarzynski"](BlockGibbs())
    x = torch.zeros(4, 2, 3).double()
    found = [float(method.log_z(model, method.init(x, seeded(i))).exp()) for i in range(60)]
    values, truth = torch.tensor(found), float(model.log_z(1.0).exp())
    assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / 60**0.5


def test_the_gradient_of_some_sites_is_that_of_all_on_average():
    model, x = small_ising().requires_grad_(True), every_state(6).view(-1, 2, 3)[::5]

    def slope(**options) -> torch.Tensor:
        method, g = PseudoLikelihood(**options), seeded(3)
        draws = range(300 if options else 1)
        losses = [method.loss(model, Batch(x), {}, g).loss for _ in draws]
        return torch.autograd.grad(sum(losses) / len(draws), model.h)[0]

    torch.testing.assert_close(slope(sites=2), slope(), rtol=0.15, atol=0.05)


def test_couplings_of_pairs_that_are_not_selected_stay_at_zero():
    """And the others are fitted without a penalty."""
    truth = small_ising((6,), std=0.0, fields=False)
    truth.weight.data[0, 1] = truth.weight.data[1, 0] = 0.5
    x = every_state(6)
    p = torch.softmax(-truth(x), 0)
    x = x[torch.multinomial(p, 2000, True, generator=seeded())]
    method, model = PseudoLikelihood(l1=0.2), small_ising((6,), std=0.0, fields=False)
    state = method.init(x, seeded())
    assert int(state["selected_pairs"].sum()) == 2
    optimizer = torch.optim.Adam(model.requires_grad_(True).parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        method.loss(model, Batch(x), state, seeded()).loss.backward()
        optimizer.step()
    j = model.couplings.detach()
    torch.testing.assert_close(j, fit_couplings(x, state["selected_pairs"]), atol=1e-4, rtol=0)
    assert float(j[0, 1]) == pytest.approx(0.5, abs=0.05)


def test_the_noise_of_states_is_symmetric_and_ends_at_the_uniform_distribution():
    """Changed with probability (1 - exp(-t)) / 2 from either state."""
    for state in (0.0, 1.0):
        x = torch.full((4000, 3), state)
        for t, p in ((0.3, (1 - math.exp(-0.3)) / 2), (50.0, 0.5)):
            changed = (BINARY.diffuse(x, t, seeded()) != x).double().mean(0)
            assert ((changed - p).abs() < 4.5 * (p * (1 - p) / 4000) ** 0.5).all()


def test_noise_of_frequencies_is_normalised():
    x = (torch.rand(50, 4, generator=seeded()) < torch.tensor([0.1, 0.4, 0.5, 0.9])).double()
    method = NoiseContrastiveEstimation(noise="frequencies")
    noise, fitted = NOISE_DISTRIBUTIONS["frequencies"], method.init(x, seeded())
    assert float(noise.log_prob(fitted, every_state(4)).exp().sum()) == pytest.approx(1)
    drawn = noise.sample(fitted, 4000, seeded())
    p = (x.sum(0) + 1) / 52
    assert ((drawn.mean(0) - p).abs() < 4.5 * (p * (1 - p) / 4000).sqrt()).all()
