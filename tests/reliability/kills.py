"""Kills runs at named points, resumes them, and compares what they leave with what a run leaves
that was never stopped. Used by the tests with small counts and by soak.py with large ones."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from same_state import differences, load, result, run_differences

from ebmtrain.config import presets

METHODS: dict[str, tuple[str, ...]] = {
    "cd": ("method=cd",),
    "cnce": ("method=cnce",),
    "dsm": ("method=dsm",),
    "ed": ("method=ed",),
    "fd_ssm": ("method=fd_ssm",),
    "improved_cd": ("method=improved_cd", "method.slots=64"),
    "jarzynski": ("method=jarzynski", "method.walkers=64", "method.moved=32"),
    "jem": (
        "method=jem",
        "method.slots=64",
        "dataset=iris",
        "model.classes=3",
        "checkpoint.best=cross_entropy_holdout",
    ),
    "ksd": ("method=ksd",),
    "dual": ("method=dual",),
    "multi_dsm": ("method=multi_dsm", "model=noise_conditional_mlp"),
    "nce": ("method=nce",),
    "pseudo_likelihood": (
        "method=pseudo_likelihood",
        "dataset=ising_samples",
        "dataset.side=3",
        "sampler=gibbs",
    ),
    "pcd": ("method=pcd", "method.slots=64", "method.reinit=0.1"),
    "sm": ("method=sm",),
    "ssm": ("method=ssm",),
}

# Rows at 4, 8 and 9, saves at 0, 3, 6 and 9, evaluations at 0, 5 and 9: the grids differ.
SMALL = (
    "model.width=8", "model.fourier_features=0", "train.steps=9", "train.batch_size=32",
    "train.log_every=4", "plots.every=5", "samples.count=50", "samples.chains=50",
    "samples.burn_in=5", "samples.thin=2", "evaluation.resolution=32", "evaluation.every=5",
    "evaluation.tolerance=1", "checkpoint.every=3", "checkpoint.keep=2",
    "optimizer.schedule.warmup_steps=0", "device.threads=1", "dataset.n_train=200",
    "dataset.n_holdout=200", "quality.points=50", "quality.shuffles=20", "diagnostics.chains=4",
    "diagnostics.draws=8", "diagnostics.thin=1",
)  # fmt: skip


def configuration(*words: str) -> dict[str, Any]:
    # A table comes with its own number of points.
    small = [w for w in SMALL if "dataset=iris" not in words or not w.startswith("dataset.")]
    return presets.to_plain(presets.compose_config([*small, *words]))


class Server:
    """See server.py."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process

    def __call__(self, path: Path, **job: Any) -> Any:
        """The exit code; with `runners`, those of all."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"path": str(path), **job}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@contextmanager
def server(errors: Path | None = None) -> Iterator[Server]:
    """
    Args:
        errors: file for what the jobs write to standard error.
    """
    program = Path(__file__).with_name("server.py")
    places = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with (
        (errors or Path("/dev/stderr")).open("ab") as stderr,
        subprocess.Popen(
            [sys.executable, str(program)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
            env=places,
        ) as process,
    ):  # fmt: skip
        yield Server(process)
        assert process.stdin is not None
        process.stdin.close()


def left(a: Path, b: Path) -> list[str]:
    """Differences between all that two runs left: checkpoints, rows, results, samples, pictures,
    and which files there are."""
    files = [
        {str(p.relative_to(run)) for p in run.rglob("*") if p.is_file()} - {"run.json"}
        for run in (a, b)
    ]
    if files[0] != files[1]:
        return [f"files {sorted(files[0] ^ files[1])}"]
    found = run_differences(a, b)
    for name in sorted(files[0]):
        if name.endswith(".pt"):
            one, two = load(a / name), load(b / name)
            for state in (one, two):
                del state["seconds"], state["metrics_size"]
            found += differences(one, two, name)
        elif name.startswith("plots/") or name == "config.yaml":
            found += [] if (a / name).read_bytes() == (b / name).read_bytes() else [name]
    return found


class Reference:
    """A run of one method that is never stopped, and the points that it passes."""

    def __init__(self, do: Server, method: str, folder: Path):
        self.do = do
        self.method = method
        self.folder = folder
        self.config = configuration(*METHODS[method])
        self.path = folder / f"{method}-whole"
        names = folder / f"{method}.json"
        assert do(self.path, config=self.config, points=str(names)) == 0
        self.points: list[str] = json.loads(names.read_text())

    def killed(self, name: str, fatal: list[int]) -> list[str]:
        """Differences that are left after a run was killed at these points, one after the other:
        each is counted from where the run goes on."""
        path = self.folder / f"{self.method}-{name}"
        for number in fatal:
            code = self.do(path, config=self.config, fatal=number)
            if code == 0:  # it ended before it came to that point
                return [f"no kill at {number}"]
            assert code == -signal.SIGKILL, f"{path}: exit code {code}"
            if (path / "result.json").exists() and result(path)["status"] == "finished":
                return left(self.path, path)  # only its last words were lost
        code = self.do(path, config=self.config)
        return left(self.path, path) if code == 0 else [f"exit code {code}"]


def spread(points: list[str], shift: int, count: int) -> list[int]:
    """`count` numbers of points of different names, beginning with the name of number `shift`: with
    a shift for each method, all of them together meet all names soon. Of a name that is passed
    several times, which one changes with the shift."""
    names = list(dict.fromkeys(points))
    chosen = []
    for i in range(count):
        name = names[(shift + i * max(1, len(names) // count)) % len(names)]
        places = [number for number, passed in enumerate(points, 1) if passed == name]
        chosen.append(places[(shift + i) % len(places)])
    return chosen


def several(points: list[str], seed: int, kills: int = 5) -> list[int]:
    """Numbers of points for a run that dies again and again: a resumed run passes as many as are
    left, so the later ones come soon."""
    draw = random.Random(seed)
    return [draw.randint(1, len(points) // (1 + 2 * i)) for i in range(kills)]
