"""The compiled update does what the ordinary one does."""

from __future__ import annotations

import copy
import os
import shutil
import signal
from dataclasses import dataclass, field, replace

import pytest
import torch
from same_state import differences, load
from torch import nn
from torch._dynamo.utils import counters
from torch._inductor import config as inductor

from ebmtrain.config.build import build
from ebmtrain.errors import ConfigError
from ebmtrain.methods.denoising_score_matching import DenoisingScoreMatching
from ebmtrain.runs.launch import resume, run_experiment
from ebmtrain.runtime.compiler_cache import _processor_id, use_disk_cache
from ebmtrain.runtime.signals import Interruption, StopRequest
from ebmtrain.training.compiled.inductor import CompiledTrainStep, SingleGraph
from ebmtrain.training.compiled.select import MIN_STEPS_TO_COMPILE, select_stepper
from ebmtrain.training.compiled.trace import clone_state, graph_inputs, trace_update
from ebmtrain.training.compiled.verify import _allclose, _parameter_distance, verify
from ebmtrain.training.ema import ema_weight
from ebmtrain.training.loop import StepRequest, run_step, train_step
from ebmtrain.training.state import TrainSpec, TrainState, initial_state
from ebmtrain.types import LossOutput

# Torch's compiler, to itself.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

SMALL_JARZYNSKI = "method.walkers=64 method.moved=32 method.moved_measuring=32"
CASES = [
    "method=pcd", "method=cd sampler=langevin optimizer.clip_norm=0.01 train.ema=null",
    "method=cd sampler=hmc method.k=2", "method=pcd sampler=underdamped optimizer=sgd",
    "method=pcd sampler=tempering method.k=2", "method=cd sampler=annealed method.k=5",
    "method=pcd model.spectral_norm=true method.k=2",
    f"method=jarzynski {SMALL_JARZYNSKI} method.k=2",
    "method=improved_cd optimizer=adamw method.k=2", "method=sm", "method=ssm", "method=fd_ssm",
    "method=ksd", "method=dsm", "method=nce", "method=ed", "method=cnce",
    "method=multi_dsm model=noise_conditional_mlp",
    "method=dual",
    "method=jem dataset=iris model.classes=3 method.slots=64",
]  # fmt: skip


def warm(config) -> tuple[TrainSpec, TrainState]:
    """A training specification and its state after the first update, which is never compiled."""
    experiment = build(config)
    assert experiment.train_spec is not None
    state = initial_state(experiment.train_spec, experiment.energy, experiment.generator("train"))
    run_step(experiment.train_spec, state)
    return experiment.train_spec, state


@pytest.mark.slow
@pytest.mark.parametrize("words", CASES)
def test_the_traced_graph_is_the_update(configured, words):
    """Not yet compiled: the same operations from the same random numbers."""
    spec, plain = warm(configured(*words.split(), "device.dtype=float64"))
    batch = spec.dataset.batch(plain.step, spec.batch_size, spec.seed)
    weight = None if spec.ema is None else ema_weight(spec.ema, 2)
    before = clone_state(spec, plain)
    graph = trace_update(spec, plain, batch, weight)
    assert differences(before.state_dict(), plain.state_dict()) == []  # it was done on a copy
    other = clone_state(spec, plain)
    metrics, points = train_step(spec, plain, batch, weight)
    drawn = [draw.replay(other.generator) for draw in graph.draws]
    with torch.no_grad():
        vector, *new = graph.graph(*graph_inputs(other, batch, weight, drawn))
    other.method.update(zip(graph.replaced, new, strict=True))
    assert graph.metrics == metrics.names
    assert graph.points == points
    assert torch.equal(other.generator.get_state(), plain.generator.get_state())
    torch.testing.assert_close(vector, metrics.vector, rtol=1e-9, atol=1e-9)
    for name, value in plain.method.items():
        torch.testing.assert_close(other.method[name], value, rtol=1e-9, atol=1e-9)
    assert _parameter_distance(plain, other) < 1e-6 * _parameter_distance(plain, before)
    assert _parameter_distance(plain, before) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures", "compiler_cache")
def test_a_compiled_run_agrees_with_the_eager_run(configured, tmp_path, lines):
    """Close to the ordinary run, and the same to the bit where it was stopped between."""
    words = ("sampler=langevin", "method.k=2", "model.depth=1", "train.steps=20")
    more = ("checkpoint.every=10", "train.log_every=10", "method.energy_regularization=0.1")
    config = configured(*words, *more, "device.compile=true")
    plain, whole, half = (tmp_path / name for name in ("plain", "whole", "half"))
    run_experiment(build(configured(*words, *more)), plain, {}, quiet=True)
    run_experiment(build(config), whole, {}, quiet=True)
    log = (whole / "run.log").read_text()
    assert "recompilations: 0" in log
    assert "warning: device.compile" not in log
    a, b = load(plain / "checkpoints/last.pt"), load(whole / "checkpoints/last.pt")
    assert a["evaluations"] == b["evaluations"]
    for name, value in a["energy"].items():
        torch.testing.assert_close(b["energy"][name], value, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(b["method"]["chains"], a["method"]["chains"], rtol=1e-3, atol=1e-3)

    shutil.copytree(whole, half)
    for path in half.glob("checkpoints/*.pt"):  # as if it had been killed after step 10
        if path.name != "step_00000010.pt":
            path.unlink()
    (half / "result.json").unlink()
    found = counters["inductor"]["fxgraph_cache_hit"]
    resume(half, quiet=True)
    assert counters["inductor"]["fxgraph_cache_hit"] == found + 1  # on disk, not compiled again
    c = load(half / "checkpoints/last.pt")
    assert c["step"] == 20
    drop = ("/seconds", "/metrics_size")  # rows tell seconds as well
    assert [d for d in differences(b, c) if not d.startswith(drop)] == []


# Where it cannot be


@dataclass(frozen=True, kw_only=True)
class DataDependent(DenoisingScoreMatching):
    """Asks for the value of a tensor in each step."""

    def loss(self, energy, batch, state, generator) -> LossOutput:
        if batch.x.sum() > -1e9:
            return super().loss(energy, batch, state, generator)
        raise AssertionError


@dataclass(frozen=True, kw_only=True)
class Dropout(DenoisingScoreMatching):
    def loss(self, energy, batch, state, generator) -> LossOutput:
        return super().loss(
            energy, batch._replace(x=nn.functional.dropout(batch.x)), state, generator
        )


@pytest.mark.slow
@pytest.mark.parametrize("method", [Dropout(), DataDependent()])
def test_a_failed_compilation_gives_one_warning_and_runs_eagerly(configured, method, lines):
    spec, state = warm(configured("method=dsm"))
    spec, stepper = replace(spec, method=method), CompiledTrainStep()
    reason = "global random numbers" if isinstance(method, Dropout) else "RuntimeError"
    other = clone_state(spec, state)
    torch.manual_seed(0)
    for _ in range(3):
        run_step(spec, state, stepper)
    torch.manual_seed(0)
    for _ in range(3):
        run_step(spec, other)
    warnings = [line for line in lines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert reason in warnings[0]
    assert "update is not compiled" in warnings[0]
    assert differences(other.state_dict(), state.state_dict()) == []


@pytest.mark.slow
def test_without_a_compiler_training_runs_eagerly(configured, lines, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    spec, state = warm(configured("method=dsm", "model.depth=1"))
    other = clone_state(spec, state)
    stepper = CompiledTrainStep()
    # Not by monkeypatch, which leaves torch's settings as ones that do not exist.
    with inductor.patch({"cpp.cxx": ("no-such-compiler",), "fx_graph_cache": False}):
        for _ in range(2):
            run_step(spec, state, stepper)
            run_step(spec, other)
    assert differences(other.state_dict(), state.state_dict()) == []
    warnings = [line for line in lines() if line.startswith("warning")]
    assert len(warnings) == 1
    assert "compiler" in warnings[0].lower()


def test_a_signal_interrupts_the_compilation(configured, monkeypatch):
    spec, state = warm(configured("method=dsm"))
    before = copy.deepcopy(state.state_dict())
    del before["optimizer"]["param_groups"]  # the learning rate is set at each update

    def compile_it(request):
        torch.randn(3, generator=state.generator)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the compilation went on")

    stepper, stop = CompiledTrainStep(), StopRequest()
    monkeypatch.setattr(stepper, "compile", compile_it)
    with stop, stop.in_this_context(), pytest.raises(Interruption):
        run_step(spec, state, stepper)
    assert stop.signal == signal.SIGTERM
    after = state.state_dict()
    del after["optimizer"]["param_groups"]
    assert differences(before, after) == []
    assert not stepper.programs
    assert not stepper.failed


@pytest.mark.slow
def test_a_compiled_update_with_other_results_is_rejected(configured):
    spec, state = warm(configured("method=pcd", "sampler=langevin"))
    batch = spec.dataset.batch(1, spec.batch_size, spec.seed)

    def same(group):
        return [train_step(*group[0])]

    def frozen_weights(group):
        energy = group[0].state.energy
        kept = [p.detach().clone() for p in energy.parameters()]
        found = same(group)
        with torch.no_grad():
            for p, k in zip(energy.parameters(), kept, strict=True):
                p.copy_(k)
        return found

    def wrong_chains(group):
        found, method = same(group), group[0].state.method
        method["chains"] = method["chains"] * 1.1
        return found

    group = [StepRequest(spec, state, batch, 0.1)]
    verify(same, group)
    with pytest.raises(ValueError, match=r"compiled update differs .* in the weights"):
        verify(frozen_weights, group)
    with pytest.raises(ValueError, match=r"compiled update differs .* in chains"):
        verify(wrong_chains, group)


@dataclass(frozen=True)
class LateUse(DenoisingScoreMatching):
    """Learns the bias of the output from the second update on."""

    calls: list = field(default_factory=list)

    def loss(self, energy, batch, state, generator) -> LossOutput:
        loss, metrics, state = super().loss(energy, batch, state, generator)
        self.calls.append(None)
        if len(self.calls) > 1:
            loss = loss + energy.output.bias.square().sum()
        return LossOutput(loss, metrics, state)


@pytest.mark.slow
def test_a_parameter_without_gradient_is_not_compiled(configured):
    """A moment that begins in the graph would be initialized with each update."""
    experiment = build(configured("method=dsm"))
    assert experiment.train_spec is not None
    spec = replace(experiment.train_spec, method=LateUse(sigma=0.1))
    state = initial_state(spec, experiment.energy, experiment.generator("train"))
    experiment.energy.output.bias.requires_grad_(False)
    run_step(spec, state)
    experiment.energy.output.bias.requires_grad_()
    batch = spec.dataset.batch(1, spec.batch_size, spec.seed)
    with pytest.raises(ValueError, match="has its first gradient in an update that is not the"):
        trace_update(spec, state, batch, None)


@pytest.mark.slow
def test_a_parameter_with_fewer_updates(configured):
    """Adam divides its first ones by more."""
    spec, state = warm(configured("method=dsm", "optimizer=adam"))
    for _ in range(5):
        run_step(spec, state)
    parameter = next(state.energy.parameters())
    state.optimizer.state[parameter]["step"].sub_(4)
    batch = spec.dataset.batch(state.step, spec.batch_size, spec.seed)
    weight = None if spec.ema is None else ema_weight(spec.ema, state.step + 1)
    graph = trace_update(spec, state, batch, weight)
    plain = clone_state(spec, state)
    SingleGraph(graph, graph.graph)([StepRequest(spec, state, batch, weight)])
    train_step(spec, plain, batch, weight)
    for one, other in zip(state.energy.parameters(), plain.energy.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_closeness_allows_only_rounding():
    x = torch.tensor([1.0, torch.nan, torch.inf])
    assert _allclose(x, x.clone())
    assert _allclose(torch.tensor(1.0), torch.tensor(1.0005))
    assert not _allclose(torch.tensor(1.0), torch.tensor(1.01))
    assert not _allclose(x, torch.tensor([1.0, 1.0, torch.inf]))


# When


def test_auto_compiles_long_runs(configured):
    spec, _ = warm(configured("method=dsm"))
    for wanted, n_steps, compiles in [
        (True, 10, True), (False, 10**9, False), ("auto", MIN_STEPS_TO_COMPILE - 1, False),
        ("auto", MIN_STEPS_TO_COMPILE, True),
    ]:  # fmt: skip
        assert (select_stepper(wanted, replace(spec, n_steps=n_steps)) is not None) == compiles


def test_the_cache_is_private_to_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "elsewhere")
    use_disk_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == "elsewhere"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    use_disk_cache()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(
        tmp_path / "ebmtrain/inductor" / _processor_id()
    )
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    use_disk_cache()  # no folder can be made there
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ


@pytest.mark.slow
def test_an_unknown_value_of_compile_is_refused(configured):
    for word in ("sometimes", "1", "null"):
        with pytest.raises(ConfigError) as raised:
            build(configured(f"device.compile={word}"))
        assert "device.compile must be true, false, auto or cuda_graph, got" in str(raised.value)
        assert "problems" not in str(raised.value)  # one
