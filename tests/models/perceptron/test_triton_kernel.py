"""Steps of chains by Triton's kernels are those that C++ makes, which are those made one by one.

No GPU is needed: kernels are run by Triton's interpreter, and compiled for one that is not there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import HANG_S
from test_perceptron import model, points
from test_steps_at_once import WithoutNative
from torch import Tensor
from torch._subclasses import FakeTensorMode

from ebmtrain.models.mlp import MLP
from ebmtrain.models.perceptron import cuda as perceptron_gpu
from ebmtrain.models.perceptron import dispatch as perceptron
from ebmtrain.models.perceptron import functional, selfcheck
from ebmtrain.models.perceptron.layout import Layout
from ebmtrain.models.perceptron.ops import Network
from ebmtrain.runtime.devices import Device
from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.hmc import Hmc
from ebmtrain.samplers.langevin import Langevin
from ebmtrain.training.compiled.trace import RandomCalls

pytest.importorskip("triton", reason="no wheels of Triton for this machine")
pytestmark = pytest.mark.usefixtures("cpp")

# Activation, members, points, (dims, Fourier features, units), precision of the base.
CASES = [
    ("silu", (), 37, (2, 0, (12, 7)), 0.3), ("leaky_relu", (), 37, (2, 0, (12, 7)), 0.0),
    ("silu", (), 5, (1, 7, (5, 17, 9)), 0.0), ("leaky_relu", (), 16, (3, 5, (20,)), 0.3),
    ("silu", (), 33, (4, 0, (1,)), 0.3), ("silu", (), 18, (5, 1, (33, 33)), 0.3),
    ("silu", (3,), 20, (2, 3, (8, 9)), 0.3), ("leaky_relu", (2,), 3, (5, 0, (4, 3, 2)), 0.0),
    ("silu", (), 17, (2, 64, (128, 128)), 0.3), ("silu", (), 0, (2, 0, (4,)), 0.3),
]  # fmt: skip
SIZES, SCALES = [0.01, 0.02, 0.02, 0.03, 0.03], [0.1, 0.2, 0.2, 0.3, 0.4]


def case(activation, members, n, sizes, precision, seed: int = 0) -> tuple[Any, ...]:
    """Arguments of Langevin steps, of none of them, and of a trajectory."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*members, *shape, generator=draw)

    dims, m, units = sizes
    shapes = list(zip([*units, 1], [dims + 2 * m, *units], strict=True))
    network = Network(
        1.7, activation, normal(m, dims), [normal(*s) / s[1] ** 0.5 for s in shapes],
        [normal(s[0]) for s in shapes],
    )  # fmt: skip
    x, noise, eps = normal(n, dims), normal(len(SIZES), n, dims), normal(n).abs() / 10
    rest = normal(n, dims), normal(n, dims), eps, precision, 2.0, 3
    return (
        ("langevin", x, network, noise, precision, SIZES, SCALES),
        ("langevin", x, network, noise[..., :0, :, :], precision, [], []),
        ("leapfrog", x, network, *rest),
    )


def interpreted(selects: list[Any], folder: Path) -> list[Any]:
    given, found = folder / "given.pt", folder / "found.pt"
    torch.save(selects, given)
    worker = [sys.executable, str(Path(__file__).with_name("by_interpreter.py"))]
    ended = subprocess.run(
        [*worker, str(given), str(found)], env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True, text=True, timeout=HANG_S,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return torch.load(found)


@pytest.fixture(scope="module")
def steps(tmp_path_factory) -> list[tuple[Any, ...]]:
    """By the interpreter, of all cases."""
    selects = [
        (name, x, tuple(network), *others)
        for words in CASES
        for name, x, network, *others in case(*words)
    ]
    found = interpreted(selects, tmp_path_factory.mktemp("interpreted"))
    return list(zip(*[iter(found)] * 3, strict=True))


@pytest.mark.parametrize("i", range(len(CASES)))
class TestInterpreted:
    @pytest.mark.slow
    def test_langevin(self, steps, i):
        (_, x, network, *others), none, _ = case(*CASES[i])
        expected = functional.langevin(x, network, *others)
        assert torch.allclose(steps[i][0], expected, rtol=1e-5, atol=1e-5)
        assert not x.numel() or not torch.allclose(expected, x, rtol=1e-2, atol=1e-2)
        assert torch.equal(steps[i][1], none[1])

    @pytest.mark.slow
    def test_leapfrog(self, steps, i):
        _, _, (_, x, network, *others) = case(*CASES[i])
        expected = functional.leapfrog(x, network, *others)
        for mine, theirs in zip(steps[i][2], expected, strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_kernel_with_wrong_results_is_not_used(tmp_path):
    """Whatever a compiler makes of it."""
    source = Path(perceptron_gpu.__file__).with_name("triton_kernel.py")
    text, files = source.read_text(), [str(source)]
    for i, (right, wrong) in enumerate(WRONG):
        assert text.count(right) == 1, right
        changed = tmp_path / f"changed_{i}.py"
        changed.write_text(text.replace(right, wrong))
        files.append(str(changed))
    found = interpreted(files, tmp_path)
    assert [pair for pair, agrees in zip(WRONG, found[1:], strict=True) if agrees] == []
    assert found[0]


WRONG = [
    ("(1.0 + z * (1.0 - s))", "(1.0 - z * (1.0 - s))"),
    ("tl.where(z > 0, 1.0, 0.01)", "tl.where(z > 0, 1.0, 0.02)"),
    ("* slopes[k - 1]", "* slopes[k]"),
    ("times_transposed(of_sin, g) * cos", "times_transposed(of_sin, g) * sin"),
    ("gradient = precision * x", "gradient = 0.0 * x"),
    ("(member * n_steps + t) * n", "(member * n_steps + begin) * n"),
    ("tl.where(t > 0, 1.0, 0.5)", "1.0"),
    ("begin, end = end,", "begin, end = 0,"),
    ("+ tl.load(net.biases[depth] + i)", ""),
]  # fmt: skip


class OnlyCompiled:
    """A kernel that is not launched."""

    def __init__(self, kernel, compiled):
        self.kernel, self.compiled = kernel, compiled

    def __getitem__(self, grid):
        return lambda *words, **options: self.compiled.append(
            self.kernel.warmup(*words, grid=grid, **options)
        )


class NoGpu:
    """A driver of Triton's that is asked for no more than what to compile for: H100 and H200."""

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 90  # of no GPU that may be here: kernels remember what they are compiled for

    def get_current_stream(self, device: int) -> int:
        return 0


@pytest.fixture(scope="module")
def folder_of_triton(tmp_path_factory):
    """Not the user's own: what is found there is not compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "spilled"),
    [((2, 0, (128, 128)), 0), ((2, 64, (128, 128)), 256), ((2, 0, (30, 7)), 64)],
)
@pytest.mark.parametrize("name", ["langevin", "leapfrog"])
def test_compiled_for_hopper(name, sizes, spilled, folder_of_triton, monkeypatch, tmp_path):
    """It fits the 227 KB and the 255 registers of a thread; and no product is rounded to TF32."""
    from triton import knobs
    from triton.runtime.driver import driver

    from ebmtrain.models.perceptron import triton_kernel as perceptron_triton

    compiled = []
    monkeypatch.setattr(driver, "_active", NoGpu())
    kernel = getattr(perceptron_triton, f"_{name}_kernel")
    monkeypatch.setattr(perceptron_triton, f"_{name}_kernel", OnlyCompiled(kernel, compiled))
    steps, _, trajectory = case("silu", (), 37, sizes, 0.3)
    _, x, network, *others = steps if name == "langevin" else trajectory
    getattr(perceptron_triton, f"run_{name}")(x, network, *others)
    assert len(compiled) == (4 if name == "langevin" else 1)  # steps of a size are one launch
    assert len({id(made) for made in compiled}) == 1  # and all are one compilation
    made = compiled[0]
    layout = Layout.of(x, network)
    assert made.metadata.shared <= layout.shared_memory_bytes()
    assert layout.fits(227 * 1024)
    assert "bf16x6" in made.asm["ttir"]
    assert set(re.findall(r"inputPrecision = (\w+)", made.asm["ttir"])) == {"bf16x6"}
    binary = tmp_path / "kernel.cubin"
    binary.write_bytes(made.asm["cubin"])
    told = subprocess.run(
        [knobs.nvidia.cuobjdump.path, "-res-usage", str(binary)], capture_output=True, text=True
    ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", told)
    assert found is not None
    assert int(found[2]) <= spilled, found[0]  # bytes of a thread


class TestSelection:
    """By points that claim to be on a GPU and hold nothing."""

    def selects(self, monkeypatch, held: int = 227 * 1024, agrees: bool = True, **options) -> bool:
        monkeypatch.setattr(perceptron, "shared_memory_bytes", lambda device: held)
        monkeypatch.setattr(perceptron, "self_check_on", lambda device, layout: agrees)
        Device(native=options.pop("native", "triton")).set_up_process()
        options = {"fourier_features": 0} | options
        energy = MLP(event_shape=(options.pop("dims", 2),), **options)
        with FakeTensorMode():
            x = torch.empty(3, energy.embedding.frequencies.shape[1], device="cuda")
        with torch.no_grad():
            # Energies and gradients are computed by torch.
            assert not energy.native_supports(x, energy.network())
            return energy.supports_chains(x)

    def test_selected_on_hopper(self, monkeypatch):
        assert self.selects(monkeypatch)
        assert self.selects(monkeypatch, fourier_features=64)
        assert self.selects(monkeypatch, depth=3)

    @pytest.mark.parametrize(
        "change",
        [
            {"width": 129}, {"depth": 4}, {"fourier_features": 65}, {"dims": 17},
            {"activation": "tanh"}, {"classes": 2}, {"held": 99 * 1024}, {"held": 0},
            {"agrees": False},
        ],
    )  # fmt: skip
    def test_not_selected(self, monkeypatch, change):
        assert not self.selects(monkeypatch, **change)

    @pytest.mark.parametrize("value", [True, False])
    def test_off_unless_requested(self, monkeypatch, value):
        assert not self.selects(monkeypatch, native=value)
        assert Device().native is True  # the default

    @pytest.mark.parametrize(
        ("found", "why"),
        [
            (lambda *_: ([torch.zeros(2)], [torch.ones(2)]), "its steps disagree with autograd"),
            (lambda *_: 1 / 0, "ZeroDivisionError"),
        ],
    )
    def test_a_failure_gives_one_warning(self, monkeypatch, lines, found, why):
        monkeypatch.setattr(selfcheck, "_chain_steps_on", found)
        selfcheck.self_check_on.cache_clear()
        try:
            for _ in range(2):
                assert not selfcheck.self_check_on(torch.device("cuda"), Layout("silu", 2, 0, (5,)))
        finally:
            selfcheck.self_check_on.cache_clear()
        (line,) = lines()
        assert line.startswith("warning: device.native: chains on cuda are")
        assert why in line

    def test_the_self_check_runs_outside_of_an_update(self):
        """That is written down at this moment; the answer is that of C++ here."""
        selfcheck.self_check_on.cache_clear()
        with RandomCalls(torch.Generator()) as draws, torch.inference_mode():
            assert selfcheck.self_check_on(torch.device("cpu"), Layout("silu", 2, 3, (5, 4)))
        selfcheck.self_check_on.cache_clear()
        assert draws.calls == []


@pytest.mark.parametrize(
    "change",
    [
        lambda x, network, noise: (x[:, :1], network, noise[..., :1]),
        lambda x, network, noise: (x, network, noise[:, 1:]),
        lambda x, network, noise: (x, network, noise.double()),
        lambda x, network, noise: (x, network._replace(activation="tanh"), noise),
        lambda x, network, noise: (x, network._replace(biases=network.biases[::-1]), noise),
        lambda x, network, noise: (
            x, network._replace(weights=[w.half() for w in network.weights]), noise
        ),
    ],
)  # fmt: skip
def test_tensors_of_wrong_shape_are_refused(change):
    """A kernel would read and write what is not its own."""
    (_, x, network, noise, *others), _, _ = case("silu", (), 5, (2, 0, (4, 3)), 0.3)
    x, network, noise = change(x, network, noise)
    with pytest.raises(ValueError, match="not fit"):
        perceptron_gpu._langevin(x, *network, noise, *others)
    with pytest.raises(ValueError, match="not fit"):
        perceptron_gpu._leapfrog(x, *network, noise[0], noise[0], x[:, 0], 0.3, 1.0, 1)


def test_each_point_and_step_has_its_values():
    (_, x, network, noise, *_), _, _ = case("silu", (), 5, (2, 0, (4, 3)), 0.3)
    with pytest.raises(ValueError, match="2 scales do not fit 5 sizes"):
        perceptron_gpu._langevin(x, *network, noise, 0.3, SIZES, SCALES[:2])
    right = {"momentum": noise[0], "gradient": noise[1], "eps": x[:, 0]}
    for name, t in right.items():
        given = right | {name: t[1:]}
        with pytest.raises(ValueError, match=f"{name} .* does not fit"):
            perceptron_gpu._leapfrog(x, *network, *given.values(), 0.3, 1.0, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("sampler", [Langevin(step_size=0.01), Hmc(step_size=0.05)])
def test_chains_on_a_gpu(sampler, lines):
    sizes = (2, 64, 128, 2, 256)
    energy, x = model(sizes, "silu"), points(sizes)
    energy, x = energy.cuda(), x.cuda()
    assert energy.supports_chains(x), lines()
    found, exact = (final_points(sampler, e, x) for e in (energy, WithoutNative(energy)))
    assert torch.allclose(found, exact, rtol=1e-3, atol=1e-3)


def final_points(sampler, energy, x: Tensor) -> Tensor:
    draw = torch.Generator(x.device).manual_seed(3)
    return run_chain(sampler, energy, x, 6, draw).x


def test_operations_have_cuda_implementations():
    for name in ("perceptron_langevin", "perceptron_leapfrog"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"ebmtrain::{name}", "CUDA")
