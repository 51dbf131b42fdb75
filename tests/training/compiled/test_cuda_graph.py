"""An update that is recorded and played again does what the graph itself does, bit for bit.

There are no CUDA graphs on the CPU; `tape` keeps to their rules instead: it has the inputs of the
recording, whatever is handed over later, and its outputs are always the same tensors.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from same_state import differences
from test_vmap import run_updates, start_members

from ebmtrain.config.build import build
from ebmtrain.training.compiled import cuda_graph as recorded
from ebmtrain.training.compiled import inductor as compiled
from ebmtrain.training.compiled import vmap as together
from ebmtrain.training.compiled.cuda_graph import CudaGraphFunction, _clone_changed, recorder
from ebmtrain.training.compiled.inductor import CompiledTrainStep, SingleGraph
from ebmtrain.training.compiled.select import select_stepper
from ebmtrain.training.compiled.trace import clone_state, mutated_inputs, trace_update
from ebmtrain.training.compiled.vmap import VmapTrainStep
from ebmtrain.training.ema import ema_weight
from ebmtrain.training.loop import StepRequest, run_step
from ebmtrain.training.state import initial_state

# Torch's compiler, to itself.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def tape(run, inputs, changed):
    outputs = [x.clone() for x in run(*_clone_changed(inputs, changed))]

    def replay():
        for there, value in zip(outputs, run(*inputs), strict=True):
            there.copy_(value)
        return outputs

    return replay


def warm(config):
    """A training specification and its state after the first update, which is never compiled."""
    experiment = build(config)
    assert experiment.train_spec is not None
    state = initial_state(experiment.train_spec, experiment.energy, experiment.generator("train"))
    run_step(experiment.train_spec, state)
    return experiment.train_spec, state


def eager_and_recorded(spec, state):
    """Two makers of this state's updates: its graph by itself, and recorded."""
    batch = spec.dataset.batch(state.step, spec.batch_size, spec.seed)
    weight = None if spec.ema is None else ema_weight(spec.ema, state.step + 1)
    graph = trace_update(spec, state, batch, weight)
    recording = CudaGraphFunction(graph.graph, mutated_inputs(graph, state), tape)
    makers = [SingleGraph(graph, run) for run in (graph.graph, recording)]
    return recording, *(lambda *r, make=make: make([StepRequest(*r)])[0] for make in makers)


def differences_by_name(one, other):
    return [name for name in other if differences(one[name], other[name])]


CASES = [
    "method=pcd", "method=pcd optimizer=sgd train.ema=null method.k=2", "method=dsm",
    "method=cd sampler=hmc method.k=2", "method=pcd model.spectral_norm=true method.k=2",
    "method=jarzynski method.walkers=64 method.moved=32 method.moved_measuring=32 method.k=2",
    "method=nce",  # learns a parameter of its own, which lives in the method's state
    "method=jem dataset=iris model.classes=3 method.slots=64",  # has labels
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("words", CASES)
def test_recorded_updates_agree_with_eager_ones(configured, words):
    spec, state = warm(configured(*words.split()))
    other, saved = clone_state(spec, state), copy.deepcopy(state.state_dict())
    recording, directly, played = eager_and_recorded(spec, state)
    kept, method = [], [(dict(other.method), copy.deepcopy(other.method))]
    for _ in range(4):
        expected, metrics = run_step(spec, state, directly), run_step(spec, other, played)
        kept.append((expected, metrics))
        method.append((dict(other.method), copy.deepcopy(other.method)))
    replay = recording.replay
    assert replay is not None
    # Back to what was saved: the moments are other tensors now, at other addresses.
    for one in (state, other):
        one.load_state_dict(copy.deepcopy(saved))
    for _ in range(3):
        expected, metrics = run_step(spec, state, directly), run_step(spec, other, played)
        kept.append((expected, metrics))
    assert recording.replay is not replay
    assert differences(state.state_dict(), other.state_dict()) == []
    assert differences(saved, other.state_dict()) != []
    for expected, metrics in kept:  # looked at last: no later update has overwritten them
        assert differences(expected, metrics) == []
    for now, then in method:
        learnt = [name for name in then if then[name].requires_grad]  # in place, by the optimizer
        assert set(differences_by_name(now, then)) <= set(learnt)


@pytest.mark.slow
def test_an_update_is_recorded_once(configured):
    spec, state = warm(configured("method=pcd"))
    recording, _, played = eager_and_recorded(spec, state)
    made = []
    recording.record = lambda *words: made.append(words) or tape(*words)
    for _ in range(4):
        run_step(spec, state, played)
    assert len(made) == 1


@pytest.mark.slow
def test_recording_does_not_change_the_state(configured):
    spec, state = warm(configured("method=nce"))
    recording, _, played = eager_and_recorded(spec, state)
    before = clone_state(spec, state)
    found = []

    def inspecting_tape(run, inputs, changed):
        replay = tape(run, inputs, changed)
        found.extend(differences(before.energy.state_dict(), state.energy.state_dict()))
        found.extend(differences(before.method, state.method))
        return replay

    recording.record = inspecting_tape
    run_step(spec, state, played)
    assert found == []


def failing_tape(*_):
    raise RuntimeError("operation not permitted when\nstream is capturing")


@pytest.mark.slow
def test_a_failed_recording_gives_one_warning_and_runs_eagerly(configured, lines):
    spec, state = warm(configured("method=pcd"))
    other = clone_state(spec, state)
    recording, directly, played = eager_and_recorded(spec, state)
    run_step(spec, state, directly)
    run_step(spec, other, played)
    recording.record = failing_tape  # from the second recording on
    other.load_state_dict(copy.deepcopy(other.state_dict()))
    for _ in range(3):
        run_step(spec, state, directly)
        run_step(spec, other, played)
    assert differences(state.state_dict(), other.state_dict()) == []
    warnings = [line for line in lines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert "not recorded as a CUDA graph" in warnings[0]
    assert "RuntimeError: operation not permitted when stream is capturing" in warnings[0]


def stuck(run, inputs, changed):
    """Plays, but does nothing."""
    outputs = run(*_clone_changed(inputs, changed))
    return lambda: outputs


def recording_warnings(lines: list[str]) -> list[str]:
    warnings = [line for line in lines if line.startswith("warning")]
    assert all("not recorded as a CUDA graph" in w and "differs from" in w for w in warnings)
    return warnings


@pytest.mark.slow
@pytest.mark.usefixtures("compiler_cache")
def test_compiled_updates_are_recorded(configured, lines, monkeypatch):
    # The update of test_no_waiting.py: it is compiled once and found in the cache.
    words = ("sampler=langevin", "method.k=2", "model.depth=1")
    spec, state = warm(configured(*words))
    initial, directly, made = clone_state(spec, state), CompiledTrainStep(), []
    for _ in range(3):
        run_step(spec, state, directly)
    for record, count in ((tape, 0), (stuck, 1)):
        other, played = clone_state(spec, initial), CompiledTrainStep(cuda_graph=True)
        made.clear()
        monkeypatch.setattr(
            compiled,
            "recorder",
            lambda _, record=record: lambda *words: made.append(1) or record(*words),
        )
        for _ in range(3):
            run_step(spec, other, played)
        assert made
        assert differences(state.state_dict(), other.state_dict()) == []
        assert len(recording_warnings(lines())) == count


@pytest.mark.slow
def test_vmapped_updates_are_recorded(configured, lines, monkeypatch):
    monkeypatch.setattr(together, "compile_graph", lambda graph, _: graph)  # half a minute less
    made, ends = [], []
    for record, count in ((None, 0), (tape, 0), (stuck, 1)):
        by = record and (lambda *words, record=record: made.append(1) or record(*words))
        made.clear()
        monkeypatch.setattr(together, "recorder", lambda _, by=by: by)
        members = start_members(configured, 2, "method=pcd", "method.k=2")
        stepper = VmapTrainStep(compile=True, cuda_graph=True)
        run_updates(members, stepper, 4)
        saved = copy.deepcopy(members[0][1].state_dict())
        run_updates(members, stepper, 1)
        members[0][1].load_state_dict(saved)
        run_updates(members, stepper, 3)
        assert stepper.compiled
        assert bool(made) == (record is not None)
        ends.append([state.state_dict() for _, state in members])
        assert differences(ends[0], ends[-1]) == []
        assert len(recording_warnings(lines())) == count


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("words", ["method=pcd", "method=cd sampler=hmc", "method=dsm"])
def test_recorded_updates_on_a_gpu(configured, lines, monkeypatch, words):
    """The same bits as by the compiled update itself, and no wait for the device in between."""
    spec, state = warm(configured(*words.split(), "device=cuda"))
    other, saved = clone_state(spec, state), copy.deepcopy(state.state_dict())
    played, directly = CompiledTrainStep(cuda_graph=True), CompiledTrainStep()
    run_step(spec, state, played)
    run_step(spec, other, directly)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            run_step(spec, state, played)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for _ in range(3):
        run_step(spec, other, directly)
    assert differences(state.state_dict(), other.state_dict()) == []
    for one, stepper in ((state, played), (other, directly)):
        one.load_state_dict(copy.deepcopy(saved))
        for _ in range(3):
            run_step(spec, one, stepper)
    assert differences(state.state_dict(), other.state_dict()) == []
    assert [line for line in lines() if line.startswith("warning")] == []


def test_recorded_only_on_request(configured, monkeypatch):
    """Even where the device claims to record."""
    spec, state = warm(configured("method=dsm", "model.depth=1"))
    monkeypatch.setattr(compiled, "compile_graph", lambda graph, _: graph)  # half a minute less
    monkeypatch.setattr(compiled, "use_disk_cache", lambda: None)
    made = []
    monkeypatch.setattr(
        compiled, "recorder", lambda _: lambda *words: made.append(1) or tape(*words)
    )
    long = replace(spec, n_steps=30_000)
    steppers = [
        select_stepper(*choice) for choice in ((True, spec), ("auto", long), ("cuda_graph", spec))
    ]
    for stepper, expected in zip(steppers, (False, False, True), strict=True):
        assert stepper is not None
        run_step(spec, state, stepper)
        assert stepper.compiled
        assert bool(made) == expected


def test_only_cuda_devices_record():
    assert recorder(torch.device("cuda", 0)) is recorded.cuda_graph
    assert recorder(torch.device("cpu")) is None
    assert recorder(torch.device("mps")) is None


def test_updates_with_host_tensors_are_not_recorded():
    """It would be computed once, and stand still ever after."""
    with pytest.raises(ValueError, match="on the GPU"):
        recorded.cuda_graph(lambda x: [x + 1], [torch.zeros(3)], ())
