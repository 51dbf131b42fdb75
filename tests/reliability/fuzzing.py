"""Mutated run directories: whatever stands in them, the verbs answer with a documented exit code.

    python tests/reliability/fuzzing.py --configurations 10000 --checkpoints 10000

makes the full counts (`make soak` too); tests/reliability/test_fuzz.py makes some hundred. A case
is a number: the same one is the same mutation again (`--first 4711 --configurations 1`).
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import io
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from ebmtrain.cli.main import main
from ebmtrain.config import presets
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.storage.checkpoint_format import FORMAT, TRAILER_BYTES, encode
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.runtime import memory_limit as memory

DOCUMENTED = {0, 2, 3, 4, 7}
SECONDS = 60  # of wall clock; a case that takes longer is one that hangs
TINY = (
    "model.width=8", "model.fourier_features=0", "train.steps=2", "train.batch_size=32",
    "train.log_every=1", "plots.every=1000000", "samples.count=20", "samples.chains=20",
    "samples.burn_in=1", "samples.thin=1", "evaluation.resolution=32", "checkpoint.every=1",
    "optimizer.schedule.warmup_steps=0", "device.threads=1", "dataset.n_train=100",
    "dataset.n_holdout=50", "plots.gif=false", "evaluation.tolerance=1",
    "diagnostics.chains=4", "diagnostics.draws=8", "diagnostics.thin=1", "quality.points=20",
    "quality.shuffles=4", "quality.projections=4",
)  # fmt: skip
BASES = {
    "pcd": ("method.slots=64",),
    "langevin": ("method=cd", "sampler=langevin"),
    "tempering": ("method=cd", "sampler=tempering"),
    "nce": ("method=nce", "dataset=moons"),
    "gaussian": ("method=dsm", "model=gaussian", "optimizer=sgd"),
}  # fmt: skip

# What the process must not do, observed by an audit hook, which cannot be removed: it is switched
# off.

seen: list[tuple[str, tuple]] = []
home: Path | None = None  # the only folder to write in; None: nothing is observed
opened_in: Path | None = None  # the folder of the `dir_fd` of the call of os.open in progress
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "subprocess.Popen",
             "socket.", "urllib.Request", "os.putenv", "shutil.")  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
os_open = os.open


def open_in_folder(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    """os.open, which does not tell audit hooks its `dir_fd`."""
    global opened_in
    opened_in = None if dir_fd is None else Path(f"/proc/self/fd/{dir_fd}").readlink()
    try:
        return os_open(path, flags, mode, dir_fd=dir_fd)
    finally:
        opened_in = None


def hook(event: str, details: tuple) -> None:
    if home is None:
        return
    if event == "open" and details[2] & WRITING and str(details[0])[-4:] != ".pyc":
        if isinstance(details[0], int) or str(details[0]) == os.devnull:
            return
        path = os.path.normpath((opened_in or Path.cwd()) / os.fsdecode(details[0]))
        if not Path(path).is_relative_to(home):
            seen.append((event, details))
    elif event.startswith(FORBIDDEN):
        seen.append((event, details))


os.open = open_in_folder
sys.addaudithook(hook)


# Mutations

WORDS = ["", "x", "???", "nan", "${oc.env:HOME}", "${seed}", "\x1b[2J", "os.system", "x" * 5000,
         "ä\u202e", "1e999", "../../x", "null", "-", "cuda", "float64"]  # fmt: skip
NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    0.5,
    -0.5,
    1e-300,
    1e300,
    float("nan"),
    float("inf"),
    2**31,
    2**63,
    10**30,
]
LARGE = [10**4, 10**6, 10**9, 10**12]


def targets() -> list[str]:
    """Of all presets, and some that are none."""
    found = [
        "os.system",
        "ebmtrain.cli.main.main",
        "builtins.eval",
        "ebmtrain.models.mlp.torch.load",
    ]
    for path in sorted(presets.BUILT_IN.rglob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        found += [content["_target_"]] if "_target_" in content else []
    return found


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything inside of nested mappings and lists."""
    items: Any = ()
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list):
        items = enumerate(node)
    inside = [p for key, value in items for p in places(value, (*path, key))]
    return ([path] if path else []) + inside


def parent(root: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        root = root[key]
    return root


def mutated(root: Any, rng: random.Random, pool: Callable[[Any], Any]) -> Any:
    """A copy with up to three changes."""
    root = copy.deepcopy(root)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        known = places(root)
        if not known:
            break
        path = rng.choice(known)
        holder, key = parent(root, path), path[-1]
        change = rng.choice(["value", "value", "value", "remove", "add", "swap", "wrap", "rename"])
        if change == "value":
            holder[key] = pool(holder[key])
        elif change == "remove":
            del holder[key]
        elif change == "wrap":
            holder[key] = rng.choice([[holder[key]], {"a": holder[key]}, {0: holder[key]}])
        elif change == "swap":
            other = rng.choice(known)
            held = copy.deepcopy(parent(root, other)[other[-1]])
            parent(root, other)[other[-1]], holder[key] = copy.deepcopy(holder[key]), held
        elif isinstance(holder, dict):
            name = rng.choice(["x", "_target_", "_args_", "event_shape", 3, None, str(key) + "x"])
            holder[name] = pool(None) if change == "add" else holder.pop(key)
        else:
            holder.append(pool(None))
    return root


def configuration(run: Path, rng: random.Random, known: list[str], large: bool) -> None:
    """Another config.yaml."""

    def pool(old: Any) -> Any:
        kind = rng.randrange(10)
        if kind < 4:
            return rng.choice(NUMBERS + (LARGE if large else []))
        if kind < 6:
            return rng.choice(WORDS)
        if kind < 7:
            return {"_target_": rng.choice(known)} | (old if isinstance(old, dict) else {})
        if kind < 8 and isinstance(old, int | float) and not isinstance(old, bool):
            return rng.choice([-old, old + 1, float(old), str(old), [old]])
        return rng.choice([None, True, False, [], {}, [[]], {"a": {}}, [None], rng.choice(known)])

    config = mutated(RunDir(run).config(), rng, pool)
    text = yaml.safe_dump(config, sort_keys=False).encode()
    if rng.random() < 0.1:  # and of the text
        at = rng.randrange(len(text))
        text = (
            text[:at]
            + rng.choice([b"\t", b"&a ", b"*a", b"!!x ", b"\xff", b"{", b"- ", b"\0"])
            + text[at:]
        )
    (run / "config.yaml").write_bytes(text)


class Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)

    def __deepcopy__(self, memo: Any) -> Any:  # or a copy that is made here would execute it
        return self


def tensor(rng: random.Random, old: Any) -> Any:
    small = isinstance(old, torch.Tensor) and old.numel() < 10**6  # or it takes all the memory here
    like = old if small else torch.zeros(3)
    return rng.choice([
        lambda: like.double(), lambda: like.half(), lambda: like.to(torch.int64),
        lambda: like.bool(), lambda: like.to(torch.complex64), lambda: like.float() * torch.nan,
        lambda: like.float() + torch.inf, lambda: like.float() * 1e30, lambda: like[None],
        lambda: like.flatten()[:-1], lambda: torch.zeros(0), lambda: torch.zeros(()),
        lambda: torch.zeros(()).expand(10**9), lambda: torch.zeros(4, 6).t(),
        lambda: torch.zeros(2, device="meta"), lambda: torch.nn.Parameter(like.float()),
        lambda: -like.float(), lambda: torch.full_like(like, 7), lambda: torch.zeros(3).to_sparse(),
    ])()  # fmt: skip


def as_it_is(state: dict[str, Any]) -> bytes:
    """Not by `encode`, which would make dense what is none: four bytes that say they are four
    gigabytes would become four gigabytes."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    body = buffer.getvalue()
    return body + b"\nebmtrain-sha256:" + hashlib.sha256(body).hexdigest().encode()


def checkpoint(run: Path, rng: random.Random) -> None:
    """Other bytes in all of its checkpoints."""

    def pool(old: Any) -> Any:
        kind = rng.randrange(10)
        if kind < 5 or (isinstance(old, torch.Tensor) and kind < 8):
            return tensor(rng, old)
        if kind < 7:
            return rng.choice([*NUMBERS, *LARGE])
        choice = [None, True, "", "\x1b", [], {}, (), {"x": 1}, b"", {1: {2: [3]}}, Runs()]
        return rng.choice(choice)

    state, _ = RunDir(run).load_checkpoint()
    kind = rng.random()
    if kind < 0.8:  # another content, with its digest
        state.pop("format")
        try:
            data = as_it_is(mutated(state, rng, pool))
        except Exception:  # what torch itself cannot save
            data = encode({})
    else:  # bits of the file, with and without the right digest
        body = bytearray(encode({k: v for k, v in state.items() if k != "format"})[:-TRAILER_BYTES])
        digest = hashlib.sha256(body).hexdigest().encode()
        for _ in range(rng.choice([1, 1, 2, 10])):
            body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
        if rng.random() < 0.1:
            del body[rng.randrange(len(body)) :]
        if kind < 0.9:
            digest = hashlib.sha256(body).hexdigest().encode()
        data = bytes(body) + b"\nebmtrain-sha256:" + digest
    for path in (run / "checkpoints").glob("*.pt"):
        path.unlink()
        path.write_bytes(data)


# Running


def base_runs(folder: Path) -> list[Path]:
    runs = []
    for name, words in BASES.items():
        runs.append(folder / name)
        chosen = [w for w in TINY if not (name == "gaussian" and w.startswith("model."))]
        with contextlib.redirect_stdout(io.StringIO()):
            code = main([*chosen, *words, f"hydra.run.dir={runs[-1]}"])
        assert code == 0, name
    return runs


def check_hook(folder: Path) -> None:
    """Files outside the run are noticed, whether their folder is named or given as a descriptor."""
    global home
    run, other = folder / "run", folder / "other"
    run.mkdir()
    other.mkdir()
    for place, count in ((run, 0), (other, 2)):
        seen.clear()
        descriptor = os.open(place, os.O_RDONLY)
        home = run
        for name, dir_fd in ((str(place / "one"), None), ("two", descriptor)):
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=dir_fd))
        home = None
        os.close(descriptor)
        assert len(seen) == count, seen


def hangs(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


def answered(words: list[str], run: Path) -> tuple[int | None, str]:
    """Exit code and standard error; None: an exception, with its traceback."""
    global home
    out, err = io.StringIO(), io.StringIO()
    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(SECONDS)
    home = run
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code: int | None = main(words)
    except BaseException:
        code = None
        err.write(traceback.format_exc())
    finally:
        home = None
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return code, err.getvalue()


def fuzz(kind: str, cases: range, folder: Path, bases: list[Path]) -> tuple[Counter, list[str]]:
    """Exit codes, and what went wrong."""
    codes: Counter = Counter()
    faults: list[str] = []
    known = targets()
    for case in cases:
        rng = random.Random(f"{kind} {case}")
        torch.manual_seed(case)
        np.random.seed(case % 2**32)
        run = folder / "case"
        shutil.copytree(rng.choice(bases), run)
        verb = rng.choice(["sample", "sample", "sample", "evaluate", "resume"])
        if kind == "configurations":
            configuration(run, rng, known, large=verb == "sample")
        else:
            checkpoint(run, rng)
        few = ["count=3", "burn_in=1", "thin=1", "chains=3"]
        words = {"sample": few, "resume": ["train.steps=3"]}.get(verb, [])
        seen.clear()
        code, err = answered([verb, str(run), *words], run)
        codes[code] += 1
        lines = err.splitlines()
        plain = all(line.isprintable() for line in lines)
        if code not in DOCUMENTED or seen or not plain or (folder / "executed").exists():
            faults.append(f"{kind} {case} {verb}: {code} {seen} {err[-1500:]}")
        shutil.rmtree(run)
    return codes, faults


def run_all() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configurations", type=int, default=10_000)
    parser.add_argument("--checkpoints", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    memory.limit_to_free_memory()  # as the console script does
    RunFigures.draw_landscape = lambda *_: None  # type: ignore[method-assign]
    RunFigures.draw_all = lambda *_: []  # type: ignore[method-assign]
    broken = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        os.chdir(folder)
        check_hook(folder)
        bases = base_runs(folder)
        for kind in ("configurations", "checkpoints"):
            began = time.process_time()
            cases = range(wanted.first, wanted.first + getattr(wanted, kind))
            codes, faults = fuzz(kind, cases, folder, bases)
            for fault in faults:
                print(fault, flush=True)
            said = "  ".join(f"{code}: {n}" for code, n in sorted(codes.items(), key=str))
            seconds = time.process_time() - began
            print(
                f"{len(cases):,} {kind}, {len(faults)} faults; exit codes {said}  {seconds:.0f} s"
            )
            broken += len(faults)
    return 1 if broken else 0


if __name__ == "__main__":
    raise SystemExit(run_all())
