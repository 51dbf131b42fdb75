"""The perceptron in C++ is the one that is written out in torch's operations."""

from __future__ import annotations

import copy
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest
import torch
from processes import HANG_S
from torch import Tensor

from ebmtrain.models.mlp import MLP
from ebmtrain.models.perceptron import dispatch as perceptron
from ebmtrain.models.perceptron import functional, selfcheck
from ebmtrain.models.perceptron.ops import Network
from ebmtrain.runtime import native
from ebmtrain.runtime.devices import Device
from ebmtrain.score import energy_and_gradient, freeze, score

# (dims, Fourier features, width, depth, points): of no size that fits a register, but for the last.
SIZES = [
    (1, 0, 1, 1, 1), (2, 0, 5, 1, 31), (3, 7, 37, 2, 33), (6, 0, 40, 3, 100), (70, 2, 9, 2, 65),
    (2, 64, 128, 2, 256),
]  # fmt: skip

TASKS = Path("/proc/self/task")


pytestmark = pytest.mark.usefixtures("cpp")


def model(sizes: tuple[int, ...], activation: str, seed: int = 0) -> MLP:
    dims, m, width, depth, _ = sizes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = MLP(
            event_shape=(dims,), width=width, depth=depth, activation=activation,
            input_scale=1.7, fourier_features=m, fourier_scale=2.0, base_std=1.5,
        )  # fmt: skip
        for layer in made.layers():
            torch.nn.init.normal_(layer.bias)
    return made


def points(sizes: tuple[int, ...], seed: int = 1) -> Tensor:
    return torch.randn(sizes[-1], sizes[0], generator=torch.Generator().manual_seed(seed))


def is_close(found: Tensor, exact: Tensor) -> bool:
    """By rounding of float32, as a part of the whole."""
    return bool((found.double() - exact).norm() <= 1e-5 * exact.norm() + 1e-6)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("activation", sorted(perceptron.ACTIVATIONS))
class TestAgainstFloat64:
    """Which C++ does not know."""

    def test_energy_and_score(self, sizes, activation):
        energy, x = model(sizes, activation), points(sizes)
        exact = copy.deepcopy(energy).double()
        with torch.no_grad():
            assert energy.native_supports(x, energy.network())
            assert not exact.native_supports(x.double(), exact.network())
            assert is_close(energy(x), exact(x.double()))
        y = x.double().requires_grad_()
        (gradient,) = torch.autograd.grad(exact(y).sum(), y)
        found = energy_and_gradient(energy, x)
        assert is_close(found[0], exact(y).detach())
        assert is_close(found[1], gradient)

    def test_weight_gradients_of_an_energy(self, sizes, activation, monkeypatch):
        monkeypatch.setattr(perceptron, "MIN_MULTIPLY_ADDS", 0)
        energy, x = model(sizes, activation), points(sizes)
        exact = copy.deepcopy(energy).double()
        v = torch.randn(len(x), generator=torch.Generator().manual_seed(2))
        found = energy(x)
        assert "Perceptron" in str(found.grad_fn.next_functions)
        (found * v).sum().backward()
        (exact(x.double()) * v).sum().backward()
        for mine, theirs in zip(energy.parameters(), exact.parameters(), strict=True):
            assert is_close(mine.grad, theirs.grad)

    def test_weight_gradients_of_a_score(self, sizes, activation):
        """Also those that autograd leaves out: the last bias does not move a gradient."""
        energy, x = model(sizes, activation), points(sizes)
        exact = copy.deepcopy(energy).double()
        target = points(sizes, 3)
        assert energy.differentiable_gradient(x) is not None
        assert exact.differentiable_gradient(x.double()) is None
        (score(energy, x) - target).square().sum().backward()
        (score(exact, x.double()) - target).square().sum().backward()
        for mine, theirs in zip(energy.parameters(), exact.parameters(), strict=True):
            assert is_close(
                mine.grad, torch.zeros_like(mine) if theirs.grad is None else theirs.grad
            )


def test_energy_and_score_in_one_call():
    """v and u together: the gradient of sum_p v_p f + u_p . df/dx."""
    sizes = SIZES[2]
    energy, x = model(sizes, "silu"), points(sizes)
    u, v = points(sizes, 4), points(sizes, 5)[:, 0]
    f, gradient = functional.derivatives(x, energy.network(), 1)
    ((f * v).sum() + (gradient * u).sum()).backward()
    exact = copy.deepcopy(energy).double()
    exact.zero_grad()
    y = x.double().requires_grad_()
    f = exact.outputs(y, exact.network())[:, 0]
    (gradient,) = torch.autograd.grad(f.sum(), y, create_graph=True)
    ((f * v).sum() + (gradient * u).sum()).backward()
    for mine, theirs in zip(energy.parameters(), exact.parameters(), strict=True):
        assert is_close(mine.grad, theirs.grad)


@contextmanager
def default_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def line(activation: str, x: Tensor) -> Tensor:
    """f(x) itself, of a perceptron with one unit."""
    one, zero = torch.ones(1, 1), torch.zeros(1)
    network = Network(1.0, activation, torch.zeros(0, 1), [one, one], [zero, zero])
    return functional.derivatives(x[:, None], network)[0]


def test_silu_over_the_whole_range():
    """To some units of the last place; beyond e^88 it is as small as can be, not nothing."""
    x = torch.linspace(-120, 120, 40_001)
    exact = torch.nn.functional.silu(x.double())
    error = (line("silu", x).double() - exact).abs()
    assert (error <= 1e-6 * exact.abs() + 1e-35).all()


def test_fourier_features_over_the_whole_circle():
    """cos and sin of large phases, to some units of the last place of 1."""
    x = torch.linspace(-3e4, 3e4, 40_001)[:, None]
    for place, function in ((1, torch.cos), (2, torch.sin)):
        first = torch.zeros(1, 3)
        first[0, place] = 1.0
        network = Network(
            1.0, "leaky_relu", torch.ones(1, 1), [first, torch.ones(1, 1)],
            [torch.full((1,), 2.0), torch.zeros(1)],
        )  # fmt: skip
        found = (
            functional.derivatives(x, network)[0].double() - 2.0
        )  # above 0, where nothing is bent
        assert (found - function(x.double()[:, 0])).abs().max() < 1e-6


def test_a_nan_affects_only_its_own_point():
    energy, x = model(SIZES[2], "silu"), points(SIZES[2])
    whole = energy_and_gradient(energy, x)
    for bad in (torch.nan, torch.inf, 1e30):
        y = x.clone()
        y[5] = bad
        for found, good in zip(energy_and_gradient(energy, y), whole, strict=True):
            rest = torch.arange(len(x)) != 5
            assert torch.equal(found[rest], good[rest])
        assert not energy_and_gradient(energy, y)[0][5].abs() < 1e4


def test_results_do_not_depend_on_the_row():
    """Bit by bit: neither block nor lane nor the number of threads."""
    energy, x = model(SIZES[-1], "silu"), points(SIZES[-1])
    f, gradient = energy_and_gradient(energy, x)
    for start, threads in ((0, 2), (1, 1), (37, 3), (255, 1)):
        torch.set_num_threads(threads)
        part_f, part_gradient = energy_and_gradient(energy, x[start:])
        assert torch.equal(part_f, f[start:])
        assert torch.equal(part_gradient, gradient[start:])


@pytest.mark.parametrize("threads", [2, 3, 50])
def test_several_threads_give_the_sum(threads):
    energy, x = model(SIZES[-1], "silu"), points(SIZES[-1])
    grads = []
    for n in (1, threads, threads):
        torch.set_num_threads(n)
        energy.zero_grad()
        energy(x).sum().backward()
        grads.append([p.grad.clone() for p in energy.parameters()])
    for one, several, again in zip(*grads, strict=True):
        assert is_close(several, one.double())
        assert torch.equal(several, again)


@pytest.mark.skipif(not TASKS.exists(), reason="counts threads as Linux does")
def test_there_are_no_more_threads_than_blocks():
    """On busy cores one point would wait milliseconds for threads that have nothing to do."""
    energy, one, many = model(SIZES[-1], "silu"), torch.zeros(1, 2), torch.zeros(256, 2)
    more = []

    def count() -> None:  # in a thread of its own, which has helped nobody yet
        torch.set_num_threads(5)
        for x in (one, many):
            before = len(list(TASKS.iterdir()))
            energy_and_gradient(energy, x)
            score(energy, x).sum().backward()
            more.append(len(list(TASKS.iterdir())) - before)

    alone = Thread(target=count)
    alone.start()
    alone.join()
    assert more[0] == 0
    assert more[1] in (0, 4)  # 0 of a compiler without OpenMP


@pytest.mark.parametrize("activation", sorted(perceptron.ACTIVATIONS))
def test_vmapped_members_agree_with_single_ones(activation):
    """By vmap, with what they share and what they do not."""
    sizes = SIZES[2]
    several = [model(sizes, activation, seed) for seed in range(3)]
    networks = [m.network() for m in several]
    x = torch.stack([points(sizes, seed) for seed in range(3)])
    v, u = x[..., 0].contiguous(), x.roll(1, 0)
    stacked = [
        torch.stack([n.frequencies for n in networks]),
        [torch.stack(ws) for ws in zip(*(n.weights for n in networks), strict=True)],
        [torch.stack(bs) for bs in zip(*(n.biases for n in networks), strict=True)],
    ]
    op = torch.ops.ebmtrain
    kept = [
        torch.stack([
            functional.forward(x[i], n, order, x[i] if order == 2 else None)[-1]
            for i, n in enumerate(networks)
        ])
        for order in range(3)
    ]  # fmt: skip
    with torch.no_grad():
        for name, others in (
            *(("perceptron", [w, order, keep]) for w, order in ((None, 0), (None, 1), (u, 2))
              for keep in (False, True)),
            ("perceptron_at_once", [v, None, None, None, None, None, None]),
            ("perceptron_at_once", [v, u, x, -v, v, x, v]),
            ("perceptron_weights", [v, None, None, None, kept[0]]),
            ("perceptron_weights", [v, u, None, None, kept[1]]),
            ("perceptron_weights", [v, u, x, -v, kept[2]]),
        ):  # fmt: skip
            function = getattr(op, name)

            def asked(x, w, ws, bs, *others, function=function):
                found = function(x, 1.7, activation, w, ws, bs, *others)
                return found if isinstance(found, tuple) else (found,)

            tensors = [isinstance(t, Tensor) for t in others]
            dims = (0, 0, 0, 0, *(0 if tensor else None for tensor in tensors))
            mapped = torch.vmap(asked, in_dims=dims)(x, *stacked, *others)
            for i, n in enumerate(networks):
                mine = [t[i] if isinstance(t, Tensor) else t for t in others]
                alone = asked(x[i], n.frequencies, n.weights, n.biases, *mine)
                assert all(torch.equal(a[i], b) for a, b in zip(mapped, alone, strict=True))
            turned = torch.vmap(asked, in_dims=(1, *dims[1:]))(x.movedim(0, 1), *stacked, *others)
            assert all(map(torch.equal, turned, mapped))
            shared = torch.vmap(asked, in_dims=(None, *dims[1:]))(x[0], *stacked, *others)
            assert torch.equal(shared[0][0], mapped[0][0])


def test_the_forward_pass_is_the_same_with_saved_activations():
    x, network = points(SIZES[2]), model(SIZES[2], "silu").network()
    with torch.no_grad():
        curvature = functional.derivatives(x, network, 2, x)
        for order in range(3):
            found = functional.forward(x, network, order, x if order == 2 else None)
            assert all(map(torch.equal, found[: order + 1], curvature))
            assert [t.numel() > 0 for t in found[:-1]] == [True, order > 0, order > 1]
            whole = [
                functional.forward(t, network, 0)[-1].numel() for t in (x[:16], x[:16].repeat(4, 1))
            ]
            assert whole[1] in (whole[0] * 2, whole[0] * 4)  # by the lanes of the processor


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("offset", [1, 4, 16])
def test_saved_activations_may_have_any_alignment(offset, order):
    """C++ takes it for vectors, which begin at certain places."""
    x, network = points(SIZES[2]), model(SIZES[2], "silu").network()
    with torch.no_grad():
        kept = functional.forward(x, network, order, x if order == 2 else None)[-1]
        elsewhere = torch.cat([torch.zeros(offset), kept])[offset:]
        others = [x, x, x[:, 1]][: (0, 1, 3)[order]]
        found = [
            functional.parameter_vjp(x, network, k, x[:, 0], *others) for k in (kept, elsewhere)
        ]
    assert torch.equal(*found)


def test_nothing_is_saved_without_weight_gradients():
    """Of a loaded run, though autograd is on."""
    energy, x = model(SIZES[-1], "silu"), points(SIZES[-1])
    network, v = energy.network(), torch.ones(len(x))
    for learnt in (True, False):
        energy.requires_grad_(learnt)
        found = [
            functional.derivatives(x, network)[0], *functional.derivatives(x, network, 1),
            *functional.derivatives(x, network, 2, x),
        ]  # fmt: skip
        assert all(t.requires_grad == learnt for t in found)
        assert energy(x).requires_grad == learnt
    energy.output.bias.requires_grad_()  # alone
    (energy(x) * v).sum().backward()
    assert energy.output.bias.grad == len(x)


@pytest.mark.parametrize("activation", sorted(perceptron.ACTIVATIONS))
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("order", [0, 1, 2])
def test_forward_and_backward_in_one_call(sizes, activation, order):
    """As one after the other: to the bit, or, where the derivatives depend on what is found, but
    for the rounding of these."""
    x, u, w, c = (points(sizes, seed) for seed in (1, 2, 3, 4))
    v, b, a, d = (points(sizes, seed)[:, 0] for seed in (5, 6, 7, 8))
    network = model(sizes, activation).network()
    given = [(v,), (v, u), (v, u, w, b)][order]
    with torch.no_grad():
        *found, kept = functional.forward(x, network, order, w if order == 2 else None)
        *there, flat = functional.forward_and_vjp(x, network, *given)
        assert all(map(torch.equal, there, found))
        assert torch.equal(flat, functional.parameter_vjp(x, network, kept, *given))

        depending, slopes = [v + a * found[0]], [a, None, None]
        if order > 0:
            depending, slopes[1] = [*depending, u + c * found[1]], c
        if order > 1:
            depending, slopes[2] = [*depending, w, b + d * found[2]], d
        *there, flat = functional.forward_and_vjp(x, network, *given, slopes=slopes)
        assert all(map(torch.equal, there, found))
        assert is_close(flat, functional.parameter_vjp(x, network, kept, *depending).double())


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_forward_and_backward_in_one_call_with_several_threads(threads):
    """Each has memory of its own."""
    x, u, w = (torch.cat([points(SIZES[-1], 4 * i + j) for j in range(4)]) for i in range(3))
    v, b = x[:, 0].contiguous(), u[:, 0].contiguous()
    network, before = model(SIZES[-1], "silu").network(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.no_grad():
            *found, kept = functional.forward(x, network, 2, w)
            expected = functional.parameter_vjp(x, network, kept, v, u, w, b)
            for _ in range(20):
                *there, flat = functional.forward_and_vjp(x, network, v, u, w, b)
                assert all(map(torch.equal, there, found))
                assert torch.equal(flat, expected)
    finally:
        torch.set_num_threads(before)


def test_memory_of_saved_activations_is_reused():
    """And not while somebody has it."""
    x, network = points(SIZES[-1]), model(SIZES[-1], "silu").network()
    with torch.no_grad():
        first = functional.forward(x, network, 1)[-1]
        place, numbers = first.data_ptr(), first.clone()
        second = functional.forward(x + 1, network, 1)[-1]
        assert second.data_ptr() != place
        assert torch.equal(first, numbers)
        part = first[1:]
        del first
        assert functional.forward(x + 1, network, 1)[-1].data_ptr() != place  # a part is in use
        assert torch.equal(part, numbers[1:])
        del part
        again = functional.forward(x, network, 1)[-1]
        assert again.data_ptr() == place
        assert torch.equal(again, numbers)
        longer = functional.forward(torch.cat([x, x]), network, 1)[-1]
        assert longer.numel() == 2 * again.numel()


@pytest.mark.slow
@pytest.mark.slow
def test_memory_of_saved_activations_is_bounded():
    """In a process of its own: what other tests have freed would be counted as well."""
    here = Path(__file__).parent
    places = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])}
    program = "import test_perceptron; test_perceptron.check_memory_of_saved_activations()"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=HANG_S, env=places)


def check_memory_of_saved_activations() -> None:
    """Of sizes that do not come again no more than a few buffers stay."""
    assert selfcheck.self_check()  # loads the library
    network = model(SIZES[-1], "silu").network()

    def resident() -> int:  # bytes
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    if not Path("/proc/self/statm").exists():
        pytest.skip("tells memory as Linux does")
    with torch.no_grad():
        for n in range(2000, 2020):
            functional.forward(torch.zeros(n, 2), network, 2, torch.zeros(n, 2))
        before = resident()
        for n in range(2020, 2400, 10):  # 20 MB each
            functional.forward(torch.zeros(n, 2), network, 2, torch.zeros(n, 2))
        assert resident() - before < 200 * 2**20
        for n in (12_000, 12_500, 13_000, 13_500):  # more than 64 MiB each
            functional.forward(torch.zeros(n, 2), network, 2, torch.zeros(n, 2))
    assert resident() - before < 250 * 2**20


def test_an_empty_batch():
    energy = model(SIZES[2], "silu")
    f, gradient = energy_and_gradient(energy, torch.empty(0, 3))
    assert f.shape == (0,)
    assert gradient.shape == (0, 3)


def test_non_contiguous_weights():
    energy, x = model(SIZES[2], "silu"), points(SIZES[2])
    network = energy.network()
    turned = network._replace(weights=[w.T.contiguous().T for w in network.weights])
    assert torch.equal(functional.derivatives(x, turned)[0], functional.derivatives(x, network)[0])


@pytest.mark.parametrize(
    "first",
    [
        torch.inference_mode,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
        lambda: torch.device("meta"),
        default_float64,
    ],
)
def test_the_first_call_runs_the_self_check_in_any_mode(first):
    selfcheck.self_check.cache_clear()
    try:
        with first():
            assert selfcheck.self_check()
    finally:
        selfcheck.self_check.cache_clear()


class TestRefused:
    """Is refused, where C++ would read and write what is not its own."""

    @pytest.mark.parametrize("sizes", [SIZES[1], SIZES[2]])
    @pytest.mark.parametrize("dims", [1, 4])
    def test_points_of_wrong_shape(self, sizes, dims):
        energy, x = model(sizes, "silu"), torch.zeros(33, dims)
        with torch.no_grad():
            for of_points in (energy, energy.energy_and_gradient, energy.differentiable_gradient):
                with pytest.raises(ValueError, match=r"\(33, \d\) do not fit a perceptron"):
                    of_points(x)

    @pytest.mark.parametrize(
        "change",
        [
            lambda n: {"frequencies": n.frequencies[:, :2]},
            lambda n: {"weights": [n.weights[0][:5], *n.weights[1:]]},
            lambda n: {"weights": [*n.weights[:-1], torch.zeros(2, 37)]},
            lambda n: {
                "weights": [*n.weights[:-1], n.weights[-1].repeat(2, 1)],
                "biases": [*n.biases[:-1], n.biases[-1].repeat(2)],
            },
            lambda n: {"weights": [n.weights[0][0], *n.weights[1:]]},
            lambda n: {"weights": [n.weights[0][0, 0], *n.weights[1:]]},
            lambda n: {"frequencies": n.frequencies[None]},
            lambda n: {"weights": n.weights[1:]},
            lambda n: {"weights": [], "biases": []},
            lambda n: {"biases": [n.biases[0][:1], *n.biases[1:]]},
            lambda n: {"biases": [n.biases[0].double(), *n.biases[1:]]},
            lambda n: {"biases": [n.biases[0].half(), *n.biases[1:]]},
        ],
    )
    def test_layers_of_wrong_shape(self, change):
        network = model(SIZES[2], "silu").network()
        with torch.no_grad(), pytest.raises(ValueError, match="do not fit a perceptron"):
            functional.derivatives(points(SIZES[2]), network._replace(**change(network)))[0]

    def test_unknown_activation(self):
        network = model(SIZES[2], "silu").network()._replace(activation="tanh")
        with torch.no_grad(), pytest.raises(ValueError, match="no activation tanh: silu, leaky"):
            functional.derivatives(points(SIZES[2]), network)[0]

    @pytest.mark.parametrize("order", [-1, 1, 3])
    def test_directions_of_wrong_shape(self, order):
        x, network = points(SIZES[2]), model(SIZES[2], "silu").network()
        with torch.no_grad(), pytest.raises(ValueError, match=f"belong to order 2, .* {order}"):
            functional.forward(x, network, order, x)

    def test_two_axes_of_members(self):
        x, network = points(SIZES[2]), model(SIZES[2], "silu").network()
        once = torch.vmap(lambda x: torch.ops.ebmtrain.perceptron(x, *network, None, 0, False)[0])
        twice = torch.vmap(once)
        with torch.no_grad(), pytest.raises(ValueError, match="do not fit a perceptron"):
            twice(x.expand(2, 3, *x.shape))

    def test_gradients_of_wrong_shape(self):
        x, network = points(SIZES[2]), model(SIZES[2], "silu").network()
        v = x[:, 0]
        with torch.no_grad():
            energies, gradients = (functional.forward(x, network, order)[-1] for order in (0, 1))
            for wrong in (
                (energies, v[1:]), (gradients, v, x[:, :2]), (energies, v, x), (gradients, v),
                (energies[1:], v), (energies.double(), v),
            ):  # fmt: skip
                with pytest.raises(ValueError, match="does not fit"):
                    functional.parameter_vjp(x, network, *wrong)
            for order, directions in ((2, None), (1, x), (0, x)):
                with pytest.raises(ValueError, match="belong to order 2"):
                    functional.forward(x, network, order, directions)

    def test_derivatives_of_wrong_shape(self):
        x, network = points(SIZES[2]), model(SIZES[2], "silu").network()
        v = x[:, 0]
        with torch.no_grad():
            for wrong in (
                (v[1:],), (v, x[:, :2]), (v, x, x[1:], v), (v, x, x, v[1:]), (v.double(),),
                (v, x, x, v, (v[1:], None, None)), (v, x, x, v, (None, v, None)),
                (v, x, x, v, (None, None, x)),
            ):  # fmt: skip
                with pytest.raises(ValueError, match="does not fit"):
                    functional.forward_and_vjp(x, network, *wrong)
            for wrong in ((v, x, x, None), (v, x, None, v), (v, None, x, v)):
                with pytest.raises(ValueError, match="w and b belong together, and to u"):
                    functional.forward_and_vjp(x, network, *wrong)
            for slopes in ((None, x, None), (None, None, v)):
                with pytest.raises(ValueError, match="slopes belong to the u and b that have them"):
                    functional.forward_and_vjp(x, network, v, slopes=slopes)


class TestFallbackToTorch:
    """What C++ does not know is done as before, and right."""

    def test_second_derivatives_in_x(self):
        energy, x = model(SIZES[2], "silu"), points(SIZES[2]).requires_grad_()
        assert torch.autograd.grad(energy(x).sum(), x)[0].abs().sum() > 0

    def test_functional_transforms(self):
        energy, x = model(SIZES[2], "silu"), points(SIZES[2])
        with freeze(energy):
            found = torch.func.grad(lambda y: energy(y).sum())(x)
        assert torch.allclose(found, energy_and_gradient(energy, x)[1], atol=1e-4)

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, about itself
    def test_forward_mode_derivatives(self):
        energy, x = model(SIZES[2], "silu"), points(SIZES[2])
        u = points(SIZES[2], 4)
        with torch.no_grad(), torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, u)
            _, along = torch.autograd.forward_ad.unpack_dual(energy(dual))
        expected = (energy_and_gradient(energy, x)[1] * u).sum(1)
        assert torch.allclose(along, expected, rtol=1e-4, atol=1e-3)

    def test_wide_layers(self):
        """Whose weights come from memory for each block of points; torch's products block those."""
        for width, known in ((512, True), (513, False)):
            energy = MLP(event_shape=(2,), width=width, fourier_features=0)
            with torch.no_grad():
                assert energy.native_supports(torch.zeros(3, 2), energy.network()) == known

    def test_other_activations_and_classes(self):
        x = points(SIZES[2])
        for options in ({"activation": "tanh"}, {"activation": "softplus"}, {"classes": 3}):
            energy = MLP(event_shape=(3,), **options)
            with torch.no_grad():
                assert not energy.native_supports(x, energy.network())
                assert energy(x).shape == (len(x),)

    def test_native_off(self):
        energy, x = model(SIZES[2], "silu"), points(SIZES[2])
        Device(native=False).set_up_process()
        with torch.no_grad():
            assert not energy.native_supports(x, energy.network())
        assert energy.differentiable_gradient(x) is None
        Device().set_up_process()
        assert energy.differentiable_gradient(x) is not None

    def test_without_a_library(self, monkeypatch):
        monkeypatch.setattr(native, "library", lambda source: None)
        selfcheck.self_check.cache_clear()
        try:
            assert not selfcheck.self_check()
        finally:
            selfcheck.self_check.cache_clear()

    def test_second_derivatives_are_refused(self):
        """And not silently wrong."""
        energy, x = model(SIZES[-1], "silu"), points(SIZES[-1])
        (first, *_) = torch.autograd.grad(
            energy(x).square().sum(), list(energy.parameters()), create_graph=True
        )
        with pytest.raises(RuntimeError, match="once_differentiable"):
            first.sum().backward()
