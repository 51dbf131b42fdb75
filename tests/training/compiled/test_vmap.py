"""Many runs whose updates are made as one do what each does by itself."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from same_state import differences

from ebmtrain.config.build import build
from ebmtrain.methods.denoising_score_matching import DenoisingScoreMatching
from ebmtrain.training.compiled.verify import verify
from ebmtrain.training.compiled.vmap import VmapTrainStep, _run_one_by_one
from ebmtrain.training.loop import StepRequest, StepResult, request_step, run_step
from ebmtrain.training.state import TrainSpec, TrainState, initial_state
from ebmtrain.types import LossOutput

Member = tuple[TrainSpec, TrainState]
CASES = [
    "method=pcd method.k=2", "method=cd sampler=langevin method.k=2 optimizer.clip_norm=0.01",
    "method=ed optimizer=sgd train.ema=null", "method=dsm",
]  # fmt: skip


def start_members(configured, count: int, *words: str) -> list[Member]:
    """The states of so many seeds before the first update."""
    found = []
    for seed in range(count):
        experiment = build(configured(*words, f"seed={seed}"))
        assert experiment.train_spec is not None
        found.append(
            (
                experiment.train_spec,
                initial_state(
                    experiment.train_spec, experiment.energy, experiment.generator("train")
                ),
            )
        )
    return found


def run_updates(members: Sequence[Member], stepper: VmapTrainStep, times: int) -> None:
    """As the loops of these runs would."""
    for _ in range(times):
        runs = [request_step(spec, state) for spec, state in members]
        made = stepper([next(run) for run in runs])
        for run, one in zip(runs, made, strict=True):
            with pytest.raises(StopIteration):
                run.send(one)


def max_difference(a: TrainState, b: TrainState) -> float:
    """The largest difference between numbers of two states, of the size of each tensor."""
    one, two = a.state_dict(), b.state_dict()
    assert differences(one["generator"], two["generator"]) == []
    pairs = [
        (value, two[part][name])
        for part in ("energy", "average", "method")
        for name, value in (one[part] or {}).items()
    ]
    pairs += [
        (value, two["optimizer"]["state"][index][name])
        for index, moments in one["optimizer"]["state"].items()
        for name, value in moments.items()
    ]
    pairs = [(x.double(), y.double()) for x, y in pairs if x is not None and x.numel()]
    sizes = [float((x - y).abs().amax() / (0.01 + x.abs().amax())) for x, y in pairs]
    return max(sizes)


@pytest.mark.slow
@pytest.mark.parametrize("words", CASES)
def test_each_member_is_the_run_of_its_seed(configured, words, lines):
    """In float64, after 20 updates, all but for rounding: weights, averages, moments, chains."""
    words = (*words.split(), "device.dtype=float64")
    members, plain = start_members(configured, 2, *words), start_members(configured, 2, *words)
    stepper = VmapTrainStep(compile=False)
    run_updates(members, stepper, 20)
    for spec, state in plain:
        for _ in range(20):
            run_step(spec, state)
    assert "the updates of 2 members are made as one" in lines()[-1]
    assert len(stepper.programs) == 1
    for (_, one), (_, other) in zip(members, plain, strict=True):
        assert one.evaluations == other.evaluations
        assert max_difference(one, other) < 1e-10
    weights = [next(state.energy.parameters()) for _, state in members]
    assert (weights[0] - weights[1]).abs().amax() > 0.01  # and not one of them twice


@pytest.mark.slow
def test_a_member_may_be_restored_or_leave(configured):
    """Like a retry: an earlier state is loaded, with new moments, and the members are at different
    steps. Then fewer are left."""
    words = ("method=dsm", "device.dtype=float64", "optimizer.schedule.shape=linear")
    members, plain = start_members(configured, 3, *words), start_members(configured, 3, *words)
    stepper = VmapTrainStep(compile=False)

    def separate_runs(some: Sequence[Member], times: int) -> None:
        for spec, state in some:
            for _ in range(times):
                run_step(spec, state)

    for some, go_on in [
        (members, lambda some, times: run_updates(some, stepper, times)),
        (plain, separate_runs),
    ]:
        go_on(some, 3)
        saved = copy.deepcopy(some[0][1].state_dict())
        go_on(some, 2)
        some[0][1].load_state_dict(saved)
        go_on(some, 3)
        go_on(some[1:], 3)
    assert [state.step for _, state in members] == [6, 11, 11]
    assert len(stepper.programs) == 2  # of three and of two
    for (_, one), (_, other) in zip(members, plain, strict=True):
        assert max_difference(one, other) < 1e-10


# Where it cannot be


@dataclass(frozen=True, kw_only=True)
class DataDependent(DenoisingScoreMatching):
    """Asks for the value of a tensor in each step."""

    def loss(self, energy, batch, state, generator) -> LossOutput:
        if batch.x.sum() > -1e9:
            return super().loss(energy, batch, state, generator)
        raise AssertionError


def test_a_failed_vmap_updates_members_one_by_one(configured, lines):
    members, plain = (
        start_members(configured, 2, "method=dsm"),
        start_members(configured, 2, "method=dsm"),
    )
    members = [(replace(spec, method=DataDependent()), state) for spec, state in members]
    stepper = VmapTrainStep(compile=False)
    run_updates(members, stepper, 3)
    for spec, state in plain:
        for _ in range(3):
            run_step(spec, state)
    (warning,) = [line for line in lines() if line.startswith("warning")]
    assert "one after the other" in warning
    assert "RuntimeError" in warning
    assert stepper.failed
    for (_, one), (_, other) in zip(members, plain, strict=True):
        assert differences(one.state_dict(), other.state_dict()) == []


def test_a_graph_with_other_results_for_one_member_is_rejected(configured):
    members = start_members(configured, 2, "method=cd", "sampler=langevin", "method.k=1")
    for spec, state in members:
        run_step(spec, state)
    group = [next(request_step(spec, state)) for spec, state in members]
    verify(_run_one_by_one, group)

    def lazy(group: Sequence[StepRequest]) -> list[StepResult]:
        kept = [p.detach().clone() for p in group[1].state.energy.parameters()]
        made = _run_one_by_one(group)
        for p, k in zip(group[1].state.energy.parameters(), kept, strict=True):
            p.data.copy_(k)
        return made

    with pytest.raises(ValueError, match="of member 1 differs from its ordinary one in"):
        verify(lazy, group)


@pytest.mark.slow
def test_without_a_compiler_the_graph_runs_eagerly(configured, lines, monkeypatch):
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler")

    monkeypatch.setattr("ebmtrain.training.compiled.vmap.compile_graph", broken)
    members = start_members(configured, 2, "method=dsm")
    stepper = VmapTrainStep(compile=True)
    run_updates(members, stepper, 3)
    (warning,) = [line for line in lines() if line.startswith("warning")]
    assert "device.compile" in warning
    assert "no compiler" in warning
    assert len(stepper.programs) == 1  # tried against the ordinary update
    assert not stepper.failed
    assert not stepper.compiled
