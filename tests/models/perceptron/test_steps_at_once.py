"""Steps of chains that the perceptron in C++ makes in one go are those made one by one."""

from __future__ import annotations

import copy

import pytest
import torch
from test_perceptron import SIZES, model, points
from torch import Generator, Tensor, nn

from ebmtrain.models.perceptron import dispatch as perceptron
from ebmtrain.models.perceptron import functional
from ebmtrain.runtime import native
from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.hmc import Hmc
from ebmtrain.samplers.langevin import Langevin, _draw_noise
from ebmtrain.samplers.metropolis import MetropolisState
from ebmtrain.score import count_evaluations, energy_and_gradient

SAMPLERS = [
    Langevin(step_size=0.01),
    Langevin(step_size=0.02, step_size_end=0.001, anneal_steps=4, temperature=0.5),
    Hmc(step_size=0.05, n_leapfrog=3, temperature=2.0),
]


pytestmark = pytest.mark.usefixtures("cpp")


class WithoutNative(nn.Module):
    """An energy of float32 points that is computed by torch, in float64, step by step."""

    def __init__(self, energy: nn.Module):
        super().__init__()
        self.exact = copy.deepcopy(energy).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.exact(x.double()).float()


def final_points(sampler, energy, x: Tensor, n_steps: int) -> tuple[Tensor, Tensor]:
    """Of chains, and the next random number after them."""
    draw = Generator().manual_seed(3)
    chain = run_chain(sampler, energy, x, n_steps, draw)
    bounds = sampler.gradient_clip is not None or sampler.clamp is not None
    assert ("clipped" in chain.metrics) == bounds
    return chain.x, torch.rand(1, generator=draw)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("activation", sorted(perceptron.ACTIVATIONS))
@pytest.mark.parametrize("sampler", SAMPLERS, ids=["langevin", "annealed", "hmc"])
def test_chains_agree_with_torch(sampler, activation, sizes):
    energy, x = model(sizes, activation), points(sizes)
    assert energy.supports_chains(x)
    found, after = final_points(sampler, energy, x, 6)
    exact, after_exact = final_points(sampler, WithoutNative(energy), x, 6)
    assert torch.equal(after, after_exact)
    assert torch.allclose(found, exact, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(found, x, rtol=1e-3, atol=1e-3)


def test_outputs_of_a_trajectory():
    """Points, momenta, gradient and energy, with a step size for each chain."""
    sizes, draw = SIZES[2], Generator().manual_seed(4)
    energy, x = model(sizes, "silu"), points(sizes)
    sampler = Hmc(step_size=0.1, n_leapfrog=4, temperature=0.7)
    momentum, eps = torch.randn(x.shape, generator=draw), torch.rand(len(x), generator=draw) / 10
    e, force = energy_and_gradient(energy, x)
    found = energy.leapfrog(x, momentum, force, eps, 0.7, 4)
    state = MetropolisState(x, e, force, None, 0)
    *exact, clipped, cut = sampler._leapfrog(WithoutNative(energy), state, momentum, eps)
    assert clipped is cut is None
    for mine, theirs in zip(found, exact, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4)
    again = energy.leapfrog(x, momentum, force, eps, 0.7, 4)  # what went in is as it was
    assert all(map(torch.equal, found, again))


def test_one_step_is_the_langevin_formula():
    """x - eta dE/dx + sqrt(2 eta T) xi."""
    energy, x = model(SIZES[2], "silu"), points(SIZES[2])
    sampler = Langevin(step_size=0.03, temperature=1.7)
    noise = torch.randn(x.shape, generator=Generator().manual_seed(3))
    _, gradient = energy_and_gradient(energy, x)
    expected = x - 0.03 * gradient + (2 * 0.03 * 1.7) ** 0.5 * noise
    assert torch.allclose(final_points(sampler, energy, x, 1)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bound", [{"gradient_clip": 0.1}, {"clamp": 0.3}])
@pytest.mark.parametrize("kind", [Langevin, Hmc])
def test_clamp_and_gradient_clip_are_applied(kind, bound):
    """By the steps one by one."""
    sampler = kind(step_size=0.05, **bound)
    energy, x = model(SIZES[2], "silu"), points(SIZES[2])
    found, exact = (
        final_points(sampler, energy, x, 3)[0],
        final_points(sampler, WithoutNative(energy), x, 3)[0],
    )
    free = final_points(kind(step_size=0.05), energy, x, 3)[0]
    assert torch.allclose(found, exact, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(found, free, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["langevin", "annealed", "hmc"])
def test_a_chain_does_not_depend_on_its_row(sampler):
    """Nor the number of threads, to the bit."""
    energy, x = model(SIZES[-1], "silu"), points(SIZES[-1])
    torch.set_num_threads(1)
    one = final_points(sampler, energy, x, 5)[0]
    torch.set_num_threads(3)
    assert torch.equal(final_points(sampler, energy, x, 5)[0], one)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["langevin", "annealed", "hmc"])
@pytest.mark.parametrize("n_steps", [0, 5])
def test_evaluations_are_counted(sampler, n_steps):
    energy, x = model(SIZES[2], "silu"), points(SIZES[2])
    tallies = []
    for wanted in (True, False):
        native.set_enabled(wanted)
        with count_evaluations(energy) as tally:
            run_chain(sampler, energy, x, n_steps, Generator().manual_seed(0))
        tallies.append(tally.points)
    assert tallies[0] == tallies[1]
    assert (tallies[0] > 0) == (n_steps > 0 or isinstance(sampler, Hmc))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=["langevin", "annealed", "hmc"])
@pytest.mark.parametrize("sizes", [SIZES[2], SIZES[-1]])
def test_a_run_in_two_parts_is_the_whole_run(sampler, sizes):
    """From its state: where it is in its annealing as well."""
    energy, x = model(sizes, "silu"), points(sizes)
    whole = final_points(sampler, energy, x, 5)[0]
    draw = Generator().manual_seed(3)
    chain = run_chain(sampler, energy, x, 3, draw)
    chain = run_chain(sampler, energy, chain.x, 2, draw, state=chain.state)
    assert torch.equal(chain.x, whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(8, 2), (12, 2), (5, 2), (1, 1), (3, 16, 4), (1024, 2)])
def test_noise_is_that_of_single_steps(shape, dtype):
    draw, again = (Generator().manual_seed(7) for _ in range(2))
    found = _draw_noise(torch.zeros(shape, dtype=dtype), 6, draw)
    single = [torch.empty(shape, dtype=dtype).normal_(generator=again) for _ in range(6)]
    assert torch.equal(found, torch.stack(single))
    assert torch.equal(draw.get_state(), again.get_state())


@pytest.mark.parametrize("limit", ["MAX_STEPS_PER_CALL", "MAX_NOISE_ELEMENTS"])
def test_a_long_run_is_split(limit, monkeypatch):
    """Between which signals are heard; and noise of all steps would take too much memory."""
    energy, x = model(SIZES[-1], "silu"), points(SIZES[-1])
    whole = final_points(SAMPLERS[1], energy, x, 7)
    most = 3 if limit == "MAX_STEPS_PER_CALL" else 3 * x.numel() + 1
    monkeypatch.setattr(f"ebmtrain.samplers.langevin._{limit}", most)
    parts, langevin = [], energy.langevin
    energy.langevin = lambda x, noise, *others: (
        parts.append(len(noise)) or langevin(x, noise, *others)
    )
    assert all(map(torch.equal, final_points(SAMPLERS[1], energy, x, 7), whole))
    assert parts == [3, 3, 1]


def test_keyword_arguments_are_accepted():
    energy, x = model(SIZES[2], "silu"), points(SIZES[2])
    with count_evaluations(energy) as tally:
        energy.leapfrog(x, momentum=x, gradient=x, eps=x[:, 0], temperature=1.0, steps=3)
        energy.langevin(x, noise=x.expand(2, *x.shape), sizes=[0.1, 0.1], scales=[0.0, 0.0])
    assert tally.points == 5 * len(x)


def test_vmapped_members_agree_with_single_ones():
    """By vmap, with what they share and what they do not."""
    sizes, draw = SIZES[2], Generator().manual_seed(5)
    networks = [model(sizes, "silu", seed).network() for seed in range(3)]
    n, dims = sizes[-1], sizes[0]
    x, momentum, gradient = torch.randn(3, 3, n, dims, generator=draw)
    noise, eps = torch.randn(3, 4, n, dims, generator=draw), torch.rand(3, n, generator=draw) / 10
    stacked = [
        torch.stack([n.frequencies for n in networks]),
        [torch.stack(ws) for ws in zip(*(n.weights for n in networks), strict=True)],
        [torch.stack(bs) for bs in zip(*(n.biases for n in networks), strict=True)],
    ]
    op = torch.ops.ebmtrain

    def langevin(x, noise, w, ws, bs):
        sizes, scales = [0.01, 0.02, 0.03, 0.04], [0.1, 0.2, 0.3, 0.4]
        return (op.perceptron_langevin(x, 1.7, "silu", w, ws, bs, noise, 0.3, sizes, scales),)

    def leapfrog(x, momentum, gradient, eps, w, ws, bs):
        return op.perceptron_leapfrog(
            x, 1.7, "silu", w, ws, bs, momentum, gradient, eps, 0.3, 2.0, 3
        )

    with torch.no_grad():
        for function, given in ((langevin, (x, noise)), (leapfrog, (x, momentum, gradient, eps))):
            mapped = torch.vmap(function)(*given, *stacked)
            for i, one in enumerate(networks):
                mine = [t[i] for t in given]
                alone = function(*mine, one.frequencies, one.weights, one.biases)
                assert all(torch.equal(a[i], b) for a, b in zip(mapped, alone, strict=True))
            shared = torch.vmap(function, in_dims=(None, *[0] * (len(given) + 2)))
            first = shared(given[0][0], *given[1:], *stacked)
            assert all(torch.equal(a[0], b[0]) for a, b in zip(first, mapped, strict=True))


@pytest.mark.parametrize("wrong", [lambda t: t[1:], lambda t: t.double(), lambda t: t.half()])
@pytest.mark.parametrize("change", ["noise", "scales", "momentum", "gradient", "eps"])
def test_tensors_of_wrong_shape_are_refused(change, wrong):
    """C++ would read and write what is not its own."""
    x, network = points(SIZES[2]), model(SIZES[2], "silu").network()
    noise, scales = x.expand(2, *x.shape), [0.1, 0.1]
    given = {"momentum": x, "gradient": x, "eps": x[:, 0]}
    if change == "noise":
        noise = wrong(noise)
    elif change == "scales":
        scales = scales[:1]
    else:
        given[change] = wrong(given[change])
    with pytest.raises(ValueError, match=r"(do|does) not fit"):  # noqa: PT012
        if change in given:
            functional.leapfrog(x, network, **given, precision=0.0, temperature=1.0, steps=1)
        else:
            functional.langevin(x, network, noise, 0.0, [0.1, 0.1], scales)
