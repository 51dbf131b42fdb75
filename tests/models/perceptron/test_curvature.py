"""Second derivatives of the perceptron in C++, as sliced score matching asks for them, are those of
autograd in float64, which C++ does not know."""

from __future__ import annotations

import copy

import pytest
import torch
from test_perceptron import SIZES, is_close, model, points
from torch import Generator, Tensor, nn

from ebmtrain.config.build import build
from ebmtrain.methods.sliced_score_matching import SlicedScoreMatching
from ebmtrain.models.mlp import MLP
from ebmtrain.models.perceptron import dispatch as perceptron
from ebmtrain.models.perceptron import functional
from ebmtrain.runtime import native
from ebmtrain.score import count_evaluations, score_and_products
from ebmtrain.training.compiled.trace import trace_update
from ebmtrain.training.compiled.vmap import VmapTrainStep
from ebmtrain.training.ema import ema_weight
from ebmtrain.training.loop import request_step, run_step
from ebmtrain.training.state import TrainSpec, TrainState, initial_state
from ebmtrain.types import Batch

METHODS = [
    SlicedScoreMatching(n_projections=n, variance_reduced=reduced)
    for n in (1, 3)
    for reduced in (True, False)
]


pytestmark = pytest.mark.usefixtures("cpp")


def directions(sizes: tuple[int, ...], n: int = 2) -> Tensor:
    draw = Generator().manual_seed(7)
    return torch.randn(n, sizes[-1], sizes[0], generator=draw)


def coefficients(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(8))


def weight_gradients(energy: nn.Module, total: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(total, list(energy.parameters()), materialize_grads=True))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("activation", sorted(perceptron.ACTIVATIONS))
def test_gradients_agree_with_float64(activation, sizes):
    """Score, products, and the gradient in the weights of a sum of both with any coefficients."""
    energy, x, v = model(sizes, activation), points(sizes), directions(sizes)
    exact = copy.deepcopy(energy).double()
    assert energy.differentiable_gradient_and_curvatures(x, v) is not None
    assert exact.differentiable_gradient_and_curvatures(x.double(), v.double()) is None
    s, products = score_and_products(energy, x, v)
    exact_s, exact_products = score_and_products(exact, x.double(), v.double())
    assert s.shape == x.shape
    assert products.shape == v.shape[:2]
    assert is_close(s, exact_s.detach())
    assert is_close(products, exact_products.detach())
    a, b = coefficients(*s.shape), coefficients(*products.shape)
    found = weight_gradients(energy, (s * a).sum() + (products * b).sum())
    theirs = weight_gradients(exact, (exact_s * a).sum() + (exact_products * b).sum())
    for one, other in zip(found, theirs, strict=True):
        assert is_close(one, other)


def test_energies_alone_and_scores_alone():
    """The other is not asked for, and adds nothing."""
    sizes = SIZES[2]
    energy, x, v = model(sizes, "silu"), points(sizes), directions(sizes)
    exact = copy.deepcopy(energy).double()
    for i in range(2):
        found = weight_gradients(energy, score_and_products(energy, x, v)[i].square().sum())
        pair = score_and_products(exact, x.double(), v.double())
        for one, other in zip(found, weight_gradients(exact, pair[i].square().sum()), strict=True):
            assert is_close(one, other)


@pytest.mark.parametrize("sizes", [SIZES[1], SIZES[2], SIZES[5]])
def test_differences_of_energies_are_precise(sizes):
    """Without autograd: v's = -(E+ - E-) / 2h and v' (ds) v = -(E+ + E- - 2 E) / h^2, and their
    slope along a random change of all weights."""
    energy, x, v = model(sizes, "silu"), points(sizes), directions(sizes, 1)
    exact, h = copy.deepcopy(energy).double(), 1e-3
    a, b = coefficients(2, len(x)).double()
    changes = [coefficients(*p.shape).double() for p in exact.parameters()]

    def differences() -> Tensor:
        with torch.no_grad():
            ahead, here, behind = (exact(x.double() + h * i * v[0]) for i in (1, 0, -1))
        return -torch.stack([(ahead - behind) / (2 * h), (ahead + behind - 2 * here) / h**2])

    def change(size: float) -> None:
        for p, c in zip(exact.parameters(), changes, strict=True):
            p.data.add_(c, alpha=size)

    s, products = score_and_products(energy, x, v)
    along = (s * v[0]).sum(1)
    for found, expected in zip((along, products[0]), differences(), strict=True):
        assert (found - expected).norm() <= 1e-3 * expected.norm()
    found = weight_gradients(energy, (along * a).sum() + (products[0] * b).sum())
    slope = sum((f * c).sum().item() for f, c in zip(found, changes, strict=True))
    values = []
    for size in (1e-4, -2e-4):
        change(size)
        along, products = differences()
        values.append(((along * a).sum() + (products * b).sum()).item())
    assert slope == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-3)


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_losses_are_those_of_torch(method):
    """With all of its metrics and as many evaluations, on events that are no vectors."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        energy = MLP(event_shape=(2, 3), width=24, fourier_features=5, base_std=1.5)
    x = torch.randn(45, 2, 3, generator=Generator().manual_seed(1))
    found = []
    for wanted in (True, False):
        native.set_enabled(wanted)
        with count_evaluations(energy) as tally:
            out = method.loss(energy, Batch(x), {}, Generator().manual_seed(2))
        metrics = list(out.metrics.values())
        found.append((tally.points, [out.loss, *metrics, *weight_gradients(energy, out.loss)]))
    assert found[0][0] == found[1][0] == len(x)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert is_close(one.detach(), other.detach().double())


def test_results_do_not_depend_on_the_row():
    """Bit by bit: neither block nor lane nor the number of threads."""
    sizes = SIZES[-1]
    energy, x, v = model(sizes, "silu"), points(sizes), directions(sizes)
    with torch.no_grad():
        s, products = score_and_products(energy, x, v)
        for first, threads in ((0, 2), (1, 1), (37, 3), (255, 1)):
            torch.set_num_threads(threads)
            part_s, part_products = score_and_products(energy, x[first:], v[:, first:])
            assert torch.equal(part_s, s[first:])
            assert torch.equal(part_products, products[:, first:])


@pytest.mark.parametrize("threads", [2, 3, 50])
def test_several_threads_give_the_sum(threads):
    sizes = SIZES[-1]
    energy, x, v = model(sizes, "silu"), points(sizes), directions(sizes, 1)
    found = []
    for n in (1, threads, threads):
        torch.set_num_threads(n)
        s, products = score_and_products(energy, x, v)
        found.append(weight_gradients(energy, s.square().sum() + products.sum()))
    for one, several, again in zip(*found, strict=True):
        assert is_close(several, one.double())
        assert torch.equal(several, again)


# In training


def first_state(configured, seed: int, native: str) -> tuple[TrainSpec, TrainState]:
    words = ("method=ssm", f"seed={seed}", f"device.native={native}", "model.fourier_features=4")
    experiment = build(configured(*words))
    assert experiment.train_spec is not None
    return experiment.train_spec, initial_state(
        experiment.train_spec, experiment.energy, experiment.generator("train")
    )


def test_updates_agree_with_torch(configured):
    """Ten of them, but for rounding."""
    states = []
    for wanted in ("true", "false"):
        spec, state = first_state(configured, 0, wanted)
        native.set_enabled(wanted == "true")
        before = copy.deepcopy(state.energy)
        for _ in range(10):
            run_step(spec, state)
        states.append(state)
    one, other = states
    assert one.evaluations == other.evaluations
    triples = zip(*(e.parameters() for e in (one.energy, other.energy, before)), strict=True)
    moved = [((a - b).norm(), (b - c).norm()) for a, b, c in triples]
    assert all(far <= 1e-3 * whole for far, whole in moved)
    assert sum(whole for _, whole in moved) > 0.01


def test_the_graph_of_an_update_contains_the_operations(configured):
    spec, state = first_state(configured, 0, "true")
    run_step(spec, state)
    batch = spec.dataset.batch(state.step, spec.batch_size, spec.seed)
    weight = None if spec.ema is None else ema_weight(spec.ema, 2)
    graph = trace_update(spec, state, batch, weight)
    targets = [node.target for node in graph.graph.graph.nodes]
    assert targets.count(torch.ops.ebmtrain.perceptron_at_once.default) == 1
    assert graph.points == len(batch.x)


@pytest.mark.slow
def test_vmapped_updates_agree_with_single_ones(configured, lines):
    """Each is made as by itself, but for rounding."""
    members, plain = (
        [first_state(configured, seed, "true") for seed in range(2)] for _ in range(2)
    )
    stepper = VmapTrainStep(compile=False)
    for _ in range(5):
        runs = [request_step(spec, state) for spec, state in members]
        made = stepper([next(run) for run in runs])
        for run, one in zip(runs, made, strict=True):
            with pytest.raises(StopIteration):
                run.send(one)
        for spec, state in plain:
            run_step(spec, state)
    assert "the updates of 2 members are made as one" in lines()[-1]
    for (_, one), (_, other) in zip(members, plain, strict=True):
        assert one.evaluations == other.evaluations
        for p, q in zip(one.energy.parameters(), other.energy.parameters(), strict=True):
            torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)


# What C++ does not know


@pytest.mark.parametrize(
    "options", [{"activation": "tanh"}, {"activation": "softplus"}, {"classes": 3}]
)
def test_other_energies_are_left_to_autograd(options):
    energy, x = MLP(event_shape=(3,), **options), points(SIZES[2])
    v = directions(SIZES[2])
    assert energy.differentiable_gradient_and_curvatures(x, v) is None
    _, products = score_and_products(energy, x, v)
    assert products.shape == v.shape[:2]


def test_derivatives_in_points_and_directions():
    """Are autograd's as well."""
    energy, x, v = model(SIZES[2], "silu"), points(SIZES[2]), directions(SIZES[2])
    _, products = score_and_products(energy, x, v.requires_grad_())
    (found,) = torch.autograd.grad(products.sum(), v)
    assert torch.allclose((found * v).sum(2), 2 * products, rtol=1e-3, atol=1e-3)
    assert energy.differentiable_gradient_and_curvatures(x.requires_grad_(), v.detach()) is None


def test_third_derivatives_are_refused():
    """And not silently wrong."""
    energy, x, v = model(SIZES[-1], "silu"), points(SIZES[-1]), directions(SIZES[-1])
    _, products = score_and_products(energy, x, v)
    first, *_ = torch.autograd.grad(
        products.square().sum(), list(energy.parameters()), create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_tensors_of_wrong_shape_are_refused():
    """C++ would read what is not its own."""
    x, network = points(SIZES[2]), model(SIZES[2], "silu").network()
    b = x[:, 0]
    with torch.no_grad():
        kept = functional.forward(x, network, 2, x)[-1]
        for wrong in (x[1:], x[:, :2], x.double()):
            with pytest.raises(ValueError, match=r"w \(\d+, \d\).* does not fit"):
                functional.derivatives(x, network, 2, wrong)
            with pytest.raises(ValueError, match=r"w \(\d+, \d\).* does not fit"):
                functional.parameter_vjp(x, network, kept, b, x, wrong, b)
        for wrong in (b[1:], b.double()):
            with pytest.raises(ValueError, match=r"b \(\d+,\).* does not fit"):
                functional.parameter_vjp(x, network, kept, b, x, x, wrong)
        for u, b_or_none in ((None, b), (x, None)):
            with pytest.raises(ValueError, match="belong together"):
                functional.parameter_vjp(x, network, kept, b, u, x, b_or_none)
