"""Runs jobs, each in a process of its own that is forked from this one, which has torch loaded: to
kill a run costs no start of Python.

One line of JSON comes in per job, and one goes out: the exit code, negative for a signal; of a race
those of all who took part.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kills import configuration
from points import Points

import ebmtrain.runs.launch
from ebmtrain.cli.main import print_error
from ebmtrain.config.build import build
from ebmtrain.errors import EbmtrainError
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.launch import resume, run_experiment
from ebmtrain.score import energies
from ebmtrain.training.state import initial_state


def fingerprint(figures: RunFigures, energy: torch.nn.Module, points: torch.Tensor) -> bytes:
    """In place of a picture, which takes a second: a number that tells what it would show."""
    points = points.to(next(energy.parameters()))
    shown = energies(energy, points).detach().cpu().numpy().tobytes()
    return hashlib.sha256(shown + figures.to_data(points).cpu().numpy().tobytes()).digest()


def landscape(self: RunFigures, energy, points, title: str, name: str) -> None:
    data = fingerprint(self, energy, points) + title.encode()
    self.run.write_bytes(f"plots/landscape_{name}.png", data)


def final(self: RunFigures, model, samples, title: str, *_: Any) -> list[str]:
    frames = sorted(self.run.plots.glob("landscape_[0-9]*.png"))
    self.draw_landscape(model.energy, samples, title, "final")
    self.run.write_bytes("plots/landscape.gif", b"".join(path.read_bytes() for path in frames))
    return []


def do(job: dict[str, Any]) -> int:
    """One job: the words of a run and how it is to end.

    Keys: path; config: None to resume; fatal: the number of the point at which to die; points: a
    file for the names of all that were passed; drop: what a checkpoint is to be without; largest:
    bytes of the largest file that the system allows.
    """
    path = Path(job["path"])
    ebmtrain.runs.provenance._git_state = lambda: None
    RunFigures.draw_landscape, RunFigures.draw_all = landscape, final
    if job.get("largest"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest"], job["largest"]))
    points = Points(path, job.get("fatal"))
    if job.get("fatal") or job.get("points"):
        points.watch()
    try:
        if job.get("config") and not (path / "config.yaml").exists():
            run_experiment(build(job["config"], set_up_process=True), path, {}, quiet=True)
        else:
            resume(path, quiet=True)
    except EbmtrainError as error:
        return print_error(error, [])
    if job.get("points"):
        Path(job["points"]).write_text(json.dumps(points.passed))
    return 0


def forked(act: Callable[[], int]) -> int:
    """The number of a process that does this, and nothing else, and ends with what it returns."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = act()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def race(path: Path, config: dict[str, Any] | None, runners: int) -> list[int]:
    """All want to work in one directory and wait for one pipe to be closed. Who gets it keeps it
    until all others have ended (another pipe), and is killed with the lock in its hands."""
    experiment = build(config, set_up_process=True) if config else None
    gate, go = os.pipe()
    over, last = os.pipe()

    def hold(*_: Any, **__: Any) -> None:
        os.close(last)
        os.read(over, 1)  # comes back when the last of the others has let go of its end
        os.kill(os.getpid(), signal.SIGKILL)

    def run() -> int:
        ebmtrain.runs.launch.session_steps = hold
        ebmtrain.runs.provenance.run_info = lambda *_: {}
        os.close(go)
        os.read(gate, 1)
        try:
            run_experiment(experiment, path, {}, quiet=True) if experiment else resume(
                path, quiet=True
            )
        except EbmtrainError as error:
            return print_error(error, [])
        return 98

    children = [forked(run) for _ in range(runners)]
    for end in (go, last):
        os.close(end)
    codes = [exit_code(child) for child in children]
    for end in (gate, over):
        os.close(end)
    return codes


def warm(config: dict[str, Any]) -> None:
    """Imports what a run imports when it first needs it: two seconds, once instead of in each job.
    No derivative is taken: autograd cannot be forked after that."""
    for name in ("arviz_stats.base.array", "sklearn.datasets"):
        importlib.import_module(name)
    experiment = build(config, set_up_process=True)
    assert experiment.train_spec is not None
    initial_state(experiment.train_spec, experiment.energy, experiment.generator("train"))


def main() -> None:
    torch.set_num_threads(1)
    warm(configuration())
    for line in sys.stdin:
        job = json.loads(line)
        if "runners" in job:
            answer: Any = race(Path(job["path"]), job.get("config"), job["runners"])
        else:
            answer = exit_code(forked(lambda job=job: do(job)))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
