"""What a perceptron finds and its derivative by the weights in one go: where a graph allows it."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ebmtrain.config.build import build
from ebmtrain.models.mlp import MLP
from ebmtrain.models.perceptron import dispatch as perceptron
from ebmtrain.models.perceptron import functional
from ebmtrain.models.perceptron.ops import AT_ONCE, BACK, THERE
from ebmtrain.training.compiled import trace as capture
from ebmtrain.training.compiled.decompositions import VMAP_DECOMPOSITIONS
from ebmtrain.training.compiled.fusion import in_one_go
from ebmtrain.training.compiled.inductor import _compile_update, _mismatch, _program_from
from ebmtrain.training.compiled.trace import trace_update
from ebmtrain.training.compiled.vmap import BatchedGraph, verify
from ebmtrain.training.ema import ema_weight
from ebmtrain.training.loop import StepRequest, run_step
from ebmtrain.training.state import TrainSpec, TrainState, initial_state

# Torch's compiler, to itself.
own_warnings = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
pytestmark = [pytest.mark.usefixtures("cpp"), own_warnings]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """C++ for the small networks of tests as well."""
    monkeypatch.setattr(perceptron, "MIN_MULTIPLY_ADDS", 0)


def begun(configured, *words: str) -> tuple[TrainSpec, TrainState]:
    parts = build(configured("sampler=langevin", *words))
    assert parts.job is not None
    state = initial_state(parts.job, parts.energy, parts.generator("train"))
    run_step(parts.job, state)
    return parts.job, state


def graph_of(job: TrainSpec, state: TrainState) -> capture.UpdateGraph:
    batch = job.dataset.batch(state.step, job.batch_size, job.seed)
    weight = None if job.ema is None else ema_weight(job.ema, state.step + 1)
    return trace_update(job, state, batch, weight)


APART, TOGETHER = (1, 1, 0), (0, 0, 1)


def counts(graph: torch.fx.Graph) -> tuple[int, int, int]:
    targets = [node.target for node in graph.nodes]
    return targets.count(THERE), targets.count(BACK), targets.count(AT_ONCE)


def both_ways(configured, monkeypatch, *words: str) -> tuple[list[TrainState], list, list]:
    """Two states after two updates, of which only the first one's second is in one go; the metrics
    of that update, and the operations of its graph."""
    states, rows, found = [], [], []
    for join in (in_one_go, lambda graph: None):
        monkeypatch.setattr(capture, "in_one_go", join)
        job, state = begun(configured, *words)
        graph = graph_of(job, state)
        found.append(counts(graph.graph.graph))
        program = _program_from(graph, graph.graph)
        rows.append(run_step(job, state, lambda job, *update, p=program: p(*update)))
        states.append(state)
    return states, rows, found


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["silu", "leaky_relu"])
def test_updates_are_the_same_to_the_bit(configured, monkeypatch, activation):
    words = "method.energy_regularization=0", f"model.activation={activation}"
    states, rows, found = both_ways(configured, monkeypatch, *words)
    assert found == [TOGETHER, APART]
    one, other = (s.state_dict() for s in states)
    assert all(map(torch.equal, one["energy"].values(), other["energy"].values()))
    assert all(map(torch.equal, one["method"].values(), other["method"].values()))
    assert rows[0] == rows[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["method.energy_regularization=0.1"],  # 2 a f of each energy f
        ["method=cd", "method.energy_regularization=0.3"],
        ["method=dsm"],
        ["method=dsm", "model.fourier_features=8", "model.activation=leaky_relu"],
        ["method=ssm"],
        ["method=ssm", "method.n_projections=2"],  # the first points' gradients alone
    ],
)
def test_updates_are_the_same_but_for_rounding(configured, monkeypatch, words):
    """By a rate without Adam, which makes much of rounding."""
    words = [*words, "optimizer=sgd", "optimizer.lr=0.1", "optimizer.schedule.warmup_steps=0"]
    states, rows, found = both_ways(configured, monkeypatch, *words)
    assert found == [TOGETHER, APART]
    for name, value in rows[1].items():
        assert torch.allclose(rows[0][name], value, rtol=1e-5, atol=1e-6), name
    one, other = (s.state_dict()["energy"] for s in states)
    for name, value in other.items():
        assert (one[name] - value).norm() <= 1e-6 * value.norm() + 1e-7, name


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["method=ed"],
        ["method=nce"],
        ["method=ssm", "method.variance_reduced=false"],  # of s, not of its numbers one by one
    ],
)
def test_not_where_the_derivative_depends_otherwise(configured, words):
    assert counts(graph_of(*begun(configured, *words)).graph.graph) == APART


def parts() -> tuple[perceptron.Network, Tensor, Tensor]:
    energy = MLP(event_shape=(2,), width=8, activation="leaky_relu").requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    return energy.network(), torch.randn(40, 2, generator=draw), torch.randn(40, generator=draw)


def joined(step, network: perceptron.Network, *arguments: Tensor) -> tuple[Any, tuple[int, ...]]:
    """What is made of step(network, *arguments), to be called with the latter, and its counts."""
    layers = [network.frequencies, [*network.weights], [*network.biases]]

    def whole(frequencies: Tensor, weights: list[Tensor], biases: list[Tensor], *others: Tensor):
        return step(network._replace(
            frequencies=frequencies, weights=weights, biases=biases), *others)  # fmt: skip

    graph = make_fx(whole)(*layers, *(t.clone() for t in arguments))
    in_one_go(graph.graph)
    graph.graph.lint()
    graph.recompile()
    return partial(graph, *layers), counts(graph.graph)


def test_what_it_needs_is_computed_earlier():
    network, x, v = parts()

    def step(network: perceptron.Network, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        f, _, _, kept = functional.forward(x, network, 0)
        weights = (torch.zeros_like(f) + v).neg() / 2
        return f.sum(), functional.parameter_vjp(x, network, kept, weights)

    graph, found = joined(step, network, x, v)
    assert found == TOGETHER
    assert all(map(torch.equal, graph(x, v), step(network, x, v)))


def test_not_across_what_changes_a_tensor():
    network, x, v = parts()

    def step(network: perceptron.Network, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        f, _, _, kept = functional.forward(x, network, 0)
        x.add_(1)  # what was kept is of what it was
        return f.sum(), functional.parameter_vjp(x, network, kept, v)

    graph, found = joined(step, network, x, v)
    assert found == APART
    assert all(map(torch.equal, graph(x.clone(), v), step(network, x.clone(), v)))


def test_not_where_what_is_kept_is_wanted_twice():
    network, x, v = parts()

    def step(network: perceptron.Network, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        _, _, _, kept = functional.forward(x, network, 0)
        return tuple(functional.parameter_vjp(x, network, kept, w) for w in (v, -v))

    graph, found = joined(step, network, x, v)
    assert found == (1, 2, 0)
    assert all(map(torch.equal, graph(x, v), step(network, x, v)))


def pair(x: Tensor, network: perceptron.Network, v: Tensor, points: Tensor) -> Tensor:
    """A derivative by the weights that ends in what is found of other points."""
    f, _, _, kept = functional.forward(x, network, 0)
    return functional.parameter_vjp(points, network, kept, v + 2 * f)


def test_not_where_there_and_back_differ():
    network, x, v = parts()
    graph, found = joined(lambda n, x, v: pair(x, n, v, x + 1), network, x, v)
    assert found == APART
    graph, found = joined(lambda n, x, v: pair(x, n, v, x), network, x, v)
    assert found == TOGETHER
    torch.testing.assert_close(graph(x, v), pair(x, network, v, x))


def test_not_where_the_network_differs():
    network, x, v = parts()

    def step(network: perceptron.Network, x: Tensor, v: Tensor) -> Tensor:
        other = network._replace(biases=[b + 1 for b in network.biases])
        _, _, _, kept = functional.forward(x, network, 0)
        return functional.parameter_vjp(x, other, kept, v)

    assert joined(step, network, x, v)[1] == APART


def test_not_where_directions_differ():
    network, x, v = parts()
    network = network._replace(activation="silu")

    def step(network: perceptron.Network, x: Tensor, v: Tensor) -> Tensor:
        _, _, _, kept = functional.forward(x, network, 2, x)
        return functional.parameter_vjp(x, network, kept, v, x, 2 * x, v)

    assert joined(step, network, x, v)[1] == APART


def test_a_derivative_that_is_made_of_the_shape_alone():
    network, x, v = parts()

    def step(network: perceptron.Network, x: Tensor, v: Tensor) -> Tensor:
        f, gradient, _, kept = functional.forward(x, network, 1)
        return functional.parameter_vjp(
            x, network, kept, torch.ones_like(f), torch.zeros_like(gradient)
        )

    graph, found = joined(step, network, x, v)
    assert found == TOGETHER
    torch.testing.assert_close(graph(x, v), step(network, x, v))


def test_not_where_what_is_kept_comes_from_elsewhere():
    network, x, v = parts()
    kept = functional.forward(x, network, 0)[-1]

    def step(network: perceptron.Network, x: Tensor, v: Tensor, kept: Tensor) -> Tensor:
        return functional.parameter_vjp(x, network, kept, v)

    graph, found = joined(step, network, x, v, kept)
    assert found == (0, 1, 0)
    assert torch.equal(graph(x, v, kept), step(network, x, v, kept))


def test_two_of_which_the_second_is_a_part_of_the_first_one():
    network, x, v = parts()

    def step(network: perceptron.Network, x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        f, _, _, kept = functional.forward(x, network, 0)
        y = x + 1
        g, _, _, kept_too = functional.forward(y, network, 0)
        second = functional.parameter_vjp(y, network, kept_too, v - g)
        return second, functional.parameter_vjp(x, network, kept, v * f + g)

    graph, found = joined(step, network, x, v)
    assert found == (0, 0, 2)
    for one, other in zip(graph(x, v), step(network, x, v), strict=True):
        torch.testing.assert_close(one, other)


def test_what_nobody_asks_for_is_left_out():
    network, x, v = parts()

    def step(network: perceptron.Network, x: Tensor, v: Tensor) -> Tensor:
        for _ in range(2):
            _, _, _, kept = functional.forward(x, network, 0)
            functional.parameter_vjp(x, network, kept, v)
        return v

    graph, found = joined(step, network, x, v)
    assert found == (0, 0, 0)
    assert torch.equal(graph(x, v), v)


@pytest.mark.slow
@pytest.mark.parametrize("words", [["method.energy_regularization=0.1"], ["method=dsm"]])
def test_compiled_and_of_several_members(configured, words):
    """As of every graph: what inductor and vmap make of it is the update."""
    job, state = begun(configured, *words)
    batch = job.dataset.batch(state.step, job.batch_size, job.seed)
    weight = None if job.ema is None else ema_weight(job.ema, state.step + 1)
    graph = graph_of(job, state)
    assert counts(graph.graph.graph) == TOGETHER
    program = _program_from(graph, _compile_update(graph, state, batch, weight))
    assert _mismatch(job, state, batch, weight, program) is None
    group = [
        StepRequest(*begun(configured, *words, f"seed={seed}"), batch, weight) for seed in (0, 1)
    ]
    verify(BatchedGraph(trace_update(*group[0], table=VMAP_DECOMPOSITIONS), group), group)
