"""The loops that benchmarks/peers.py compares do the same work: the same losses, a chain that is
right, and the operations that are counted for their floor."""

from __future__ import annotations

import math
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ebmtrain.models.mlp import MLP
from ebmtrain.types import Batch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


class Products(TorchDispatchMode):
    """Counts operations of products of matrices. (torch's own counter follows modules beside that,
    and fails where a gradient is taken of a leaf.)"""

    flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=found)
        return found


@pytest.fixture
def loops(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("setting", "by_hand", "ours", "floor")
    yield dict(zip(names, (import_module(f"loops.{name}") for name in names), strict=True))
    for name in [name for name in sys.modules if name.split(".")[0] == "loops"]:
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dsm", "ssm", "ed"])
def test_the_loop_by_hand_has_the_loss_of_ebmtrain(loops, method):
    s = loops["setting"].Setting(method, 512, 16, 3, 1, points=512)
    points, _, weights = loops["setting"].common(s)
    x, net = torch.from_numpy(points), loops["setting"].network(s, weights)
    energy = MLP(event_shape=(s.dim,), width=s.width, activation="silu", **loops["ours"].PLAIN)
    loops["setting"].filled(energy, weights)
    generator, ours = torch.Generator().manual_seed(1), loops["ours"].method_of(s)
    torch.manual_seed(2)
    loss = loops["by_hand"].loss_of(s, net, x)
    theirs = torch.stack([loss(x).detach() for _ in range(200)])
    mine = torch.stack(
        [ours.loss(energy, Batch(x), {}, generator).loss.detach() for _ in range(200)]
    )
    error = math.hypot(*(float(v.std()) / math.sqrt(len(v)) for v in (theirs, mine)))
    assert abs(float(theirs.mean() - mine.mean())) < 4 * error
    assert error < 0.05 * abs(float(mine.mean())) + 0.01  # a difference would be seen


def test_hmc_by_hand_keeps_a_gaussian(loops):
    torch.manual_seed(0)
    x = torch.randn(20_000, 1)
    for _ in range(4):  # steps of 1.5: without the choice the variance would be 2.3
        x = loops["by_hand"].hmc(lambda y: y.square().sum(1) / 2, x, 3, eps=1.5)
    assert abs(float(x.var()) - 1) < 4 * math.sqrt(2 / len(x))


@pytest.mark.parametrize("method", ["pcd", "hmc", "dsm", "ssm", "ed"])
def test_the_floor_has_the_products_that_an_update_needs(loops, method):
    s = loops["setting"].Setting(method, 32, 48, 40, 3, points=32)
    epoch = loops["by_hand"].by_hand(s)
    with Products() as counted:
        epoch()
    # Beside them autograd makes the gradient of the points, in the first layer, for nobody.
    unasked = 2 * s.batch * s.dim * s.width if method in ("dsm", "ssm") else 0
    assert counted.flops == pytest.approx(s.flops + unasked, rel=1e-2)


def test_the_floor_makes_as_many(loops):
    s = loops["setting"].Setting("ssm", 32, 48, 2, 3, points=96)
    epoch = loops["floor"].floor(s)  # which tries both libraries
    with Products() as counted:
        epoch()
    assert counted.flops == pytest.approx(s.steps * s.flops, rel=0.02)


@pytest.mark.parametrize("method", ["pcd", "hmc", "dsm", "ssm", "ed"])
def test_ebmtrain_trains_by_every_method(loops, method, monkeypatch):
    """An epoch is so many updates, and each of them moves every matrix, by finite steps."""
    s = loops["setting"].Setting(method, 16, 8, 2, 2, points=32)
    seen = []

    def noted(spec, state, metrics, *, last):
        seen.append([p.detach().clone() for p in state.energy.parameters() if p.dim() == 2])

    monkeypatch.setattr(loops["ours"], "collect_metrics", noted)
    loops["ours"].ebmtrain(s)()
    assert len(seen) == s.steps == 2
    before = [torch.from_numpy(w) for w in loops["setting"].common(s)[2] if w.ndim == 2]
    for after in seen:
        for old, new in zip(before, after, strict=True):
            assert 0 < (new - old).abs().max() < 0.01
        before = after
