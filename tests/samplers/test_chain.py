"""run_chain: chains are independent of each other, of the graph, and of how long they run."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

import pytest
import torch
from exact_energies import Quadratic
from repeats import seeded
from torch import Tensor, nn

from ebmtrain.samplers.adaptation import StepSizeAdaptation
from ebmtrain.samplers.chain import init_adaptation, run_chain
from ebmtrain.samplers.hmc import Hmc
from ebmtrain.samplers.langevin import Langevin
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import StepInfo

SAMPLERS = pytest.mark.parametrize(
    "sampler",
    [
        Langevin(step_size=0.3),
        Mala(step_size=0.8),
        Hmc(step_size=1.0),
        Mala(step_size=0.8, gradient_clip=1.0),
    ],
    ids=["langevin", "mala", "hmc", "mala-clipped"],
)


class Net(nn.Module):
    """An energy without a closed form, so that chains go through autograd."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 8)
        self.noise = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.noise(self.layer(x)).cos().sum(1) + x.square().sum(1)


class Scripted:
    """Stands in for a generator's draws: the i-th draw of each run is the i-th table, of which a
    batch of n takes the first n rows. So a chain sees the same noise in any batch."""

    def __init__(self, monkeypatch, rows: int):
        self.index = 0
        generator = seeded(5)
        for name in ("normal_", "uniform_"):
            tables = [
                getattr(torch.empty(rows, 2, dtype=torch.float64), name)(generator=generator)
                for _ in range(50)
            ]
            monkeypatch.setattr(torch.Tensor, name, self.draw(tables))

    def draw(self, tables: list[Tensor]):
        def fill(tensor: Tensor, generator: torch.Generator) -> Tensor:
            if tensor.dim() == 3:  # of several steps
                return torch.stack([fill(part, generator) for part in tensor])
            table = tables[self.index % len(tables)]
            self.index += 1
            rows = table[: len(tensor)]
            return tensor.copy_(rows if tensor.dim() == 2 else rows[:, 0])

        return fill


@SAMPLERS
def test_a_chain_does_not_depend_on_the_batch(sampler, monkeypatch):
    """With the same noise, row 0 of 64 and a batch of 1: the gradient is of a sum, not a mean, and
    acceptance is of each chain."""
    x = torch.randn(64, 2, generator=seeded(), dtype=torch.float64)
    noise = Scripted(monkeypatch, 64)
    together = run_chain(sampler, Quadratic(1.5), x, 6, seeded()).x
    noise.index = 0
    alone = run_chain(sampler, Quadratic(1.5), x[:1], 6, seeded()).x
    torch.testing.assert_close(alone, together[:1])
    assert not torch.equal(alone, x[:1])


@SAMPLERS
def test_parameters_and_modes_are_unchanged(sampler):
    """Every .grad stays what it was, negatives carry no graph, the energy stays in train mode while
    the chain itself sees no dropout, and the data are not written to."""
    energy = Net().train()
    energy.layer.weight.grad = torch.ones_like(energy.layer.weight)
    before = {name: p.detach().clone() for name, p in energy.named_parameters()}
    x = torch.randn(8, 2, generator=seeded())
    kept = x.clone()
    first = run_chain(sampler, energy, x, 4, seeded())
    second = run_chain(sampler, energy, x, 4, seeded())  # dropout would draw other masks
    assert torch.equal(first.x, second.x)
    assert first.x.grad_fn is None
    assert not first.x.requires_grad
    assert (energy.layer.weight.grad == 1).all()
    assert energy.layer.bias.grad is None
    assert all(torch.equal(p, before[name]) for name, p in energy.named_parameters())
    assert all(p.requires_grad for p in energy.parameters())
    assert all(module.training for module in energy.modules())
    assert torch.equal(x, kept)


@SAMPLERS
def test_chains_keep_no_autograd_graph(sampler):
    """Though the first points require a gradient, the last ones carry none."""
    x = torch.randn(8, 2, generator=seeded()).requires_grad_()
    for energy in (Net(), Quadratic()):
        assert not run_chain(sampler, energy, x, 2, seeded()).x.requires_grad


@dataclass
class Recording:
    """Remembers, without keeping it alive, every state that a sampler made."""

    sampler: object
    seen: list = field(default_factory=list)
    most: int = 0

    def init(self, energy, x):
        return self.sampler.init(energy, x)

    def step(self, energy, state, generator):
        state, info = self.sampler.step(energy, state, generator)
        assert all(v.grad_fn is None for v in (*state, *info) if isinstance(v, Tensor))
        self.seen.append(weakref.ref(state.x))
        self.most = max(self.most, sum(ref() is not None for ref in self.seen))
        return state, info


@SAMPLERS
def test_memory_does_not_grow_with_k(sampler):
    """However long the chain, two states of it live at once: the old and the new."""
    watched = Recording(sampler)
    run_chain(watched, Net(), torch.zeros(4, 2), 30, seeded())
    assert len(watched.seen) == 30
    assert watched.most <= 2


@SAMPLERS
def test_two_runs_are_one_run_of_all_steps(sampler):
    """A run of 5 steps and one of 3, with one generator, is a run of 8."""
    x = torch.randn(5, 2, generator=seeded(), dtype=torch.float64)
    energy, generator = Quadratic(), seeded(1)
    middle = run_chain(sampler, energy, x, 5, generator).x
    end = run_chain(sampler, energy, middle, 3, generator).x
    torch.testing.assert_close(end, run_chain(sampler, energy, x, 8, seeded(1)).x)


@dataclass(frozen=True)
class Reports:
    """A kernel that moves nothing and reports a given acceptance, which may not be a number."""

    acceptance: float
    step_size: float | Tensor = 0.5
    adaptation: StepSizeAdaptation | None = None

    def init(self, energy, x):
        return type("State", (), {"x": x})()

    def step(self, energy, state, generator):
        n = len(state.x)
        return state, StepInfo(torch.full((n,), self.acceptance), torch.zeros(n))


@pytest.mark.parametrize(("acceptance", "counted"), [(0.9, 0.9), (0.2, 0.2), (torch.nan, 0.0)])
def test_adaptation_formula(acceptance, counted):
    """log eta += rate * (acceptance - target) * (1 + t)^-decay; NaN is a rejection."""
    adaptation = StepSizeAdaptation(target=0.6, rate=0.3, decay=0.7)
    sampler = Reports(acceptance, adaptation=adaptation)
    adaptation_state, expected = init_adaptation(sampler, torch.zeros(1)), torch.tensor(0.5).log()
    for t in range(3):
        run = run_chain(sampler, Quadratic(), torch.zeros(3, 2), 2, seeded(), adaptation_state)
        adaptation_state = run.adaptation_state
        expected = expected + 0.3 * (counted - 0.6) * (1 + t) ** -0.7
        assert run.metrics["step_size"].log().item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize(
    ("sampler", "target"), [(Mala(step_size=0.01), 0.574), (Hmc(step_size=0.05), 0.7)]
)
def test_adaptation_reaches_its_target(sampler, target):
    """From a step far too small, within 100 runs of 400 chains."""
    adapted = type(sampler)(
        step_size=sampler.step_size, adaptation=StepSizeAdaptation(target=target, rate=0.5)
    )
    energy, generator = Quadratic(2.0), seeded()
    x, adaptation_state, seen = (
        energy.draw(400, generator),
        init_adaptation(adapted, torch.zeros(1)),
        [],
    )
    for _ in range(150):
        chain = run_chain(adapted, energy, x, 1, generator, adaptation_state)
        x, adaptation_state = chain.x, chain.adaptation_state
        seen.append(chain.metrics["acceptance"])
    late = torch.stack(seen[-50:])
    assert abs(late.mean().item() - target) < 0.02
    assert sampler.step_size * 5 < adaptation_state["step_size"].item()


def test_adapted_values_are_applied_before_the_run():
    """The kernel steps with the adaptation_state step size, not with the configured one."""
    sampler = Mala(step_size=1e-12, adaptation=StepSizeAdaptation(target=0.5))
    adaptation_state = {"step_size": torch.tensor(1.0), "updates": torch.zeros(())}
    x = torch.zeros(50, 2)
    moved = run_chain(sampler, Quadratic(), x, 1, seeded(), adaptation_state).x
    assert moved.abs().max() > 0.1
    assert run_chain(sampler, Quadratic(), x, 1, seeded()).x.abs().max() < 1e-4


def test_metrics_are_means_over_chains_and_steps():
    chain = run_chain(Reports(0.25), Quadratic(), torch.zeros(3, 2), 4, seeded())
    assert set(chain.metrics) == {"acceptance", "clipped"}
    assert chain.metrics["acceptance"].item() == 0.25
    assert all(value.shape == () for value in chain.metrics.values())
