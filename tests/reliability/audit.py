"""Prints what a process opens for writing, runs, loads and imports, as audit hooks report it.

    python tests/reliability/audit.py FOLDER [WORDS ...]

runs every verb on small data in FOLDER, or the command of WORDS alone, and prints one JSON list per
event: kind, subject. A path begins with the name of its place: FOLDER, HOME, SITE (the installed
packages), SOURCE (this repository), PYTHON (its standard library) or TMP.
"""

from __future__ import annotations

import json
import os
import site
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = {"os.mkdir": 2, "os.remove": 1, "os.rmdir": 1, "os.truncate": None, "os.chmod": 2,
           "os.utime": 3, "os.symlink": 2, "os.link": 2}  # fmt: skip
"""Events that change a path, and where their `dir_fd` is; os.rename has two."""
PROGRAMS = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.fork",
            "os.forkpty", "pty.spawn")  # fmt: skip
NETWORK = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "urllib.Request",
           "ftplib.", "smtplib.", "webbrowser.", "http.client.")  # fmt: skip

found: set[tuple[str, str]] = set()
busy = False
open_folder: int | None = None  # the `dir_fd` of the call of os.open in progress
os_open = os.open


def open_in_folder(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """os.open, which does not tell audit hooks its `dir_fd`."""
    global open_folder
    open_folder = dir_fd
    try:
        return os_open(path, flags, mode, dir_fd=dir_fd)
    finally:
        open_folder = None


def absolute(path: Any, folder: int | None) -> str:
    if isinstance(path, int):
        return str(Path(f"/proc/self/fd/{path}").readlink())
    base = Path.cwd() if folder in (None, -1) else Path(f"/proc/self/fd/{folder}").readlink()
    return os.path.normpath(base / os.fsdecode(path))


def subjects(event: str, details: tuple) -> list[tuple[str, str]]:
    """The kind and the subject of an event; none for an event that is of no interest."""
    if event == "open" and details[2] & WRITING and not isinstance(details[0], int):
        return [("write", absolute(details[0], open_folder))]
    if event == "os.rename":
        return [("write", absolute(path, folder)) for path, folder in
                zip(details[:2], details[2:], strict=True)]  # fmt: skip
    if event in CHANGES:
        where = CHANGES[event]
        path = details[1] if event in ("os.symlink", "os.link") else details[0]
        return [("write", absolute(path, None if where is None else details[where]))]
    if event in PROGRAMS:
        first = details[0] if details else ""
        return [("run", Path(os.fsdecode(first)).name if first else event)]
    if event.startswith(NETWORK):
        return [("network", event)]
    if event == "ctypes.dlopen" and details[0]:
        return [("load", os.fsdecode(details[0]))]
    if event in ("os.putenv", "os.unsetenv"):
        return [("environment", os.fsdecode(details[0]))]
    return []


def hook(event: str, details: tuple) -> None:
    global busy
    if busy:
        return
    busy = True
    try:
        found.update(subjects(event, details))
    finally:
        busy = False


TINY = (
    "model.width=8", "model.fourier_features=0", "train.steps=2", "train.batch_size=32",
    "samples.count=20", "samples.chains=20", "samples.burn_in=1", "samples.thin=1",
    "evaluation.resolution=32", "evaluation.tolerance=1", "optimizer.schedule.warmup_steps=0",
    "dataset.n_train=100", "dataset.n_holdout=50", "diagnostics.chains=4", "diagnostics.draws=8",
    "quality.points=20", "quality.shuffles=4", "method.slots=64", "device.threads=1",
)  # fmt: skip
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("list",),
    ("init", "presets"),
    (*TINY, "hydra.run.dir=run"),
    ("resume", "run", "train.steps=3"),
    ("evaluate", "run"),
    ("plot", "run"),
    ("sample", "run", "count=3", "out=points.csv"),
    ("score", "run", "--data", "points.csv", "--out", "scores.csv"),
    ("check", *TINY),
    ("verify", *TINY),
    ("-m", *TINY, "seed=0,1", "hydra.sweep.dir=sweep"),
    ("resume", "sweep"),
    ("search", *TINY, "optimizer.lr=1e-3,1e-2", "search.trials=1", "hydra.sweep.dir=search"),
    ("report", "sweep"),
    ("export", "sweep", "tracker=tensorboard"),
)


def main() -> None:
    folder = Path(sys.argv[1]).resolve()
    os.chdir(folder)
    before = set(sys.modules)
    os.open = open_in_folder
    sys.addaudithook(hook)
    from ebmtrain.cli import main as cli

    out, sys.stdout = sys.stdout, sys.stderr
    for words in [tuple(sys.argv[2:])] if sys.argv[2:] else COMMANDS:
        if code := cli.main(list(words)):
            raise SystemExit(f"{words}: exit code {code}")
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_absolute():  # some modules of torch have the name of no file
            found.add(("import", file))
    places = {
        str(folder): "FOLDER", str(Path.home()): "HOME", tempfile.gettempdir(): "TMP",
        site.getsitepackages()[0]: "SITE", sysconfig.get_path("stdlib"): "PYTHON",
        str(Path(__file__).parents[2]): "SOURCE",
    }  # fmt: skip
    ordered = sorted(places.items(), key=lambda place: -len(place[0]))
    for kind, subject in sorted(found):
        inside = [x for x in ordered if f"{subject}/".startswith(f"{x[0]}/")]
        shown = inside[0][1] + subject[len(inside[0][0]) :] if inside else subject
        print(json.dumps([kind, shown]), file=out)


if __name__ == "__main__":
    main()
