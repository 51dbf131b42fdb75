"""A signal ends every phase of a run within two seconds of CPU time, its state saved.

The parent process sends SIGTERM after the phase has used some CPU time, and counts the CPU time of
the process from then to its end: other programs on the machine do not matter.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import pkgutil
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from forked import Child, Ended
from hydra.utils import get_object
from processes import HANG_S
from same_state import load

import ebmtrain.evaluation
from ebmtrain.cli import main as cli
from ebmtrain.cli.main import main
from ebmtrain.runs.figures import RunFigures

# Torch's compiler, to itself.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

LIMIT_S = 2.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, its children that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * _TICK_S


def interrupt(work: Callable[[], int], folder: Path, after_s: float) -> tuple[Ended, float]:
    """Sends SIGTERM to a child when `after_s` of CPU time have passed since `mark` was called.

    Returns:
        How the child ended, and its CPU seconds from the signal on.
    """
    child, mark = Child(work, folder), folder / "mark"
    deadline = time.monotonic() + HANG_S
    while not mark.exists():
        assert time.monotonic() < deadline, child.files[1].read_text()
        assert not os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), (
            "the phase was not reached: " + " ".join(p.read_text() for p in child.files)
        )
        time.sleep(0.002)
    begin = cpu_seconds(child.pid)
    while cpu_seconds(child.pid) < begin + after_s:
        time.sleep(0.002)
    before = cpu_seconds(child.pid)
    os.kill(child.pid, signal.SIGTERM)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    spent = cpu_seconds(child.pid) - before
    return child.ended(), spent


def marking(place: str, words: list[str], folder: Path) -> Callable[[], int]:
    """Runs the command; the first call of the function at this place writes the mark."""

    def work() -> int:
        with pytest.MonkeyPatch.context() as patch:
            owner, _, name = place.rpartition(".")
            original = getattr(get_object(owner), name)

            def marked(*args: Any, **kwargs: Any) -> Any:
                (folder / "mark").touch()
                return original(*args, **kwargs)

            patch.setattr(get_object(owner), name, marked)
            return main(words)

    return work


SMALL = (
    "model.width=8", "model.fourier_features=0", "train.batch_size=32", "train.steps=4",
    "train.log_every=2", "device.threads=1", "plots.gif=false", "hydra.run.dir=run",
)  # fmt: skip
IMAGES = (
    "dataset=digits", "model=conv", "model.widths=[4,8]", "sampler.jumps=null", "train.steps=1",
    "train.batch_size=32", "device.threads=1", "hydra.run.dir=run",
)  # fmt: skip
WAVES = (
    "dataset=sine_waves", "dataset.n_train=500", "dataset.n_holdout=2000", "model.width=8",
    "sampler.jumps=null", "train.steps=1", "device.threads=1", "hydra.run.dir=run",
)  # fmt: skip
LENGTHS = (
    "dataset=file", "dataset.path=lengths.npy", "model=conv1d", "sampler.jumps=null",
    "train.batch_size=32", "train.steps=1", "device.threads=1", "hydra.run.dir=run",
)  # fmt: skip
STATES = (
    "model=rbm", "sampler=block_gibbs", "method=cd", "train.batch_size=8", "train.steps=1",
    "device.threads=1", "hydra.run.dir=run",
)  # fmt: skip

# Every evaluator, with sizes that take seconds where it has sizes.
EVALUATORS = {
    "exact.Quadrature": (*SMALL, "evaluation.resolution=4096"),
    "ais.AnnealedImportanceSampling": (*SMALL, "evaluation=ais", "evaluation.chains=5000"),
    "baselines.Baselines": (*SMALL, "evaluation=peers", "dataset.n_train=5000"),
    "quality.Quality": (*SMALL, "quality.points=20000"),
    "diagnostics.Diagnostics": (*SMALL, "diagnostics.chains=500", "diagnostics.draws=2000"),
    "classification.Classification": (*IMAGES, "method=jem", "model.classes=10"),
    "ood_detection.OutlierBaselines": (*IMAGES, "dataset.without=3", "evaluation=anomalies"),
    "wave_tests.WaveTests": (*WAVES, "evaluation=sine_waves"),
    "state_ais.StateAnnealedImportanceSampling": (
        *STATES, "dataset=bars_and_stripes", "evaluation=ais_states", "evaluation.chains=5000"
    ),
    "rbm_baseline.RbmBaseline": (
        *STATES, "dataset=digits_binary", "evaluation=rbm_peers", "evaluation.iterations=1000",
        "evaluation.ours.every=1", "evaluation.ours.temperatures=10",
    ),
    "couplings.CouplingRecovery": (
        "dataset=ising_samples", "model=ising", "method=pseudo_likelihood", "sampler=gibbs",
        "evaluation=couplings", "train.steps=1", "device.threads=1", "hydra.run.dir=run",
        "evaluation.ours.chains=5000",
    ),
    "ragged_quality.RaggedQuality": LENGTHS,
    "ragged_quality.RaggedDiagnostics": LENGTHS,
}  # fmt: skip
TRAINING = {
    "build": ("ebmtrain.config.build.check_energy", SMALL),
    "update": ("ebmtrain.samplers.mala.Mala.step", (*SMALL, "method.k=100000")),
    "compilation": (
        "ebmtrain.training.compiled.inductor.trace_update", (*SMALL, "device.compile=true")
    ),
    "landscape": ("ebmtrain.runs.figures.RunFigures.draw_landscape", (*SMALL, "plots.every=1")),
    "samples": (
        "ebmtrain.runs.session.draw_samples", (*SMALL, "samples.count=4000", "samples.thin=1000000")
    ),
    "pictures": ("ebmtrain.runs.figures.RunFigures.draw_all", SMALL),
    "animation": (
        "ebmtrain.plots.animation.animate",
        (*SMALL, "plots.every=1", "plots.gif=true"),
    ),
    "ensemble": (
        "ebmtrain.evaluation.exact.Quadrature.__call__",
        (*SMALL, "train.ensemble=4", "evaluation.resolution=4096"),
    ),
    "leave one out": (
        "ebmtrain.evaluation.quality.Quality.__call__", (*IMAGES, "train.leave_one_out=true")
    ),
}  # fmt: skip


def test_every_evaluator_is_interrupted_by_a_test():
    found = set()
    for module in pkgutil.iter_modules(ebmtrain.evaluation.__path__, "ebmtrain.evaluation."):
        for name, kind in vars(importlib.import_module(module.name)).items():
            if inspect.isclass(kind) and kind.__module__ == module.name and name != "Evaluator":
                periodic = hasattr(kind, "every") or "every" in inspect.signature(kind).parameters
                if periodic and "__call__" in vars(kind):
                    found.add(f"{module.name.rpartition('.')[2]}.{name}")
    assert found == set(EVALUATORS)


@pytest.mark.slow
@pytest.mark.parametrize("evaluator", EVALUATORS)
def test_a_signal_interrupts_an_evaluator(folder: Path, evaluator):
    numpy.save("lengths.npy", sequences_of_different_lengths())
    place = f"ebmtrain.evaluation.{evaluator}.__call__"
    ended, spent = interrupt(marking(place, [*EVALUATORS[evaluator]], folder), folder, 0.1)
    assert (ended.code, ended.err) == (128 + signal.SIGTERM, "")
    assert spent < LIMIT_S
    told = json.loads((folder / "run/result.json").read_text())
    saved = load(folder / "run/checkpoints/last.pt")
    assert (told["status"], told["signal"]) == ("interrupted", signal.SIGTERM)
    assert saved["step"] == told["step"]
    assert saved["pending"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("phase", TRAINING)
def test_a_signal_interrupts_a_phase_of_training(folder: Path, phase):
    place, words = TRAINING[phase]
    ended, spent = interrupt(marking(place, [*words], folder), folder, 0.1)
    assert (ended.code, ended.err) == (128 + signal.SIGTERM, "")
    assert spent < LIMIT_S
    for path in folder.rglob("result.json"):
        assert json.loads(path.read_text())["status"] == "interrupted"


# RUN is a directory with a finished run.
VERBS = {
    "evaluate": (
        "ebmtrain.evaluation.exact.Quadrature.__call__", "evaluate RUN evaluation.resolution=4096"
    ),
    "sample": ("ebmtrain.samplers.draw.run_burn_in", "sample RUN burn_in=1000000"),
    "plot": ("ebmtrain.runs.figures.RunFigures.draw_all", "plot RUN"),
    "score": ("ebmtrain.score.in_chunks", "score RUN --data points.npy --out scores.npy"),
    "check": ("ebmtrain.samplers.mala.Mala.step", "check method.k=100000"),
    "verify": ("ebmtrain.runs.evaluate.check_properties", "verify"),
    "resume": ("ebmtrain.samplers.mala.Mala.step", "resume RUN train.steps=100000"),
    "search": (
        "ebmtrain.samplers.mala.Mala.step", "search optimizer.lr=1e-3,1e-2 method.k=100000"
    ),
    "sweep": ("ebmtrain.samplers.mala.Mala.step", "-m seed=1,2 method.k=100000"),
}  # fmt: skip
AT_ONCE = {
    "completion",
    "export",
    "init",
    "list",
    "report",
}  # verbs that read or write a few small files


def test_every_verb_is_interrupted_by_a_test():
    assert set(VERBS) - {"sweep"} | AT_ONCE == set(cli.VERBS)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFigures, "draw_landscape", lambda *_: None)
        patch.setattr(RunFigures, "draw_all", lambda *_: [])
        assert main([*SMALL[:-1], "samples.burn_in=5", f"hydra.run.dir={path}"]) == 0
    return path


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_signal_interrupts_a_verb(finished_run, folder: Path, verb):
    shutil.copytree(finished_run, "run")
    numpy.save("points.npy", numpy.zeros((3_000_000, 2), numpy.float32))
    place, line = VERBS[verb]
    words = line.replace("RUN", "run").split()
    ended, spent = interrupt(marking(place, words, folder), folder, 0.1)
    assert (ended.code, ended.err) == (128 + signal.SIGTERM, "")
    assert spent < LIMIT_S


def sequences_of_different_lengths() -> numpy.ndarray:
    """(300, 16, 2): NaN after the end of each."""
    generator = numpy.random.default_rng(0)
    x = generator.normal(size=(300, 16, 2)).astype(numpy.float32)
    for row, length in zip(x, generator.integers(6, 17, len(x)), strict=True):
        row[length:] = numpy.nan
    return x
