"""Opening somebody else's run directory executes nothing, whatever it holds."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import sys
import time
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from ebmtrain.config.build import build
from ebmtrain.runs.launch import run_experiment
from ebmtrain.runs.storage.checkpoint_format import FORMAT
from ebmtrain.runs.storage.rundir import RunDir

READING = ("sample", "evaluate", "plot", "resume")
SECONDS, MEGABYTES = 2.0, 200.0  # of the processor and of memory, at most, to refuse

# Audited events of the process. An audit hook cannot be removed: it is switched off.

watched: list[tuple[str, tuple]] = []
watching = False
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn", "subprocess.Popen",
             "socket.", "urllib.Request", "os.putenv", "os.remove", "os.rmdir", "os.rename",
             "os.chmod", "os.link", "os.symlink", "os.truncate", "shutil.", "ctypes.",
             "webbrowser.", "ftplib.", "smtplib.", "code.__new__")  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
OURS = {"ebmtrain", "torch", "numpy", "hydra", "omegaconf", "yaml", "pydantic", "matplotlib", "PIL",
        "rich", *sys.stdlib_module_names}  # fmt: skip


def hook(event: str, details: tuple) -> None:
    if not watching:
        return
    # The lock of the directory is all that `resume` takes before it has looked at everything.
    name = Path(str(details[0])).name if event == "open" else ""
    written = event == "open" and details[2] & WRITING and name != ".lock" and name[-4:] != ".pyc"
    # Of an open file it was seen which one it is when it was opened.
    of_open_file = event == "os.truncate" and isinstance(details[0], int)
    foreign = event == "import" and str(details[0]).split(".")[0] not in OURS
    if (event.startswith(FORBIDDEN) and not of_open_file) or written or foreign:
        watched.append((event, details))


sys.addaudithook(hook)


@contextmanager
def no_execution() -> Iterator[None]:
    """Nothing is executed, written or imported, and it takes little time and memory."""
    global watching
    watched.clear()
    before, began = memory(), time.process_time()
    watching = True
    try:
        yield
    finally:
        watching = False
    assert watched == []
    assert not Path("executed").exists()
    assert time.process_time() - began < SECONDS
    assert memory(peak=True) - before < MEGABYTES


def memory(*, peak: bool = False) -> float:
    """Resident, in MB: now, or the most since it was last asked for now."""
    if not peak:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    wanted = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1e3 for line in lines if line.startswith(wanted))


@pytest.fixture(scope="module")
def run(tmp_path_factory, configured) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ebmtrain.runs.figures.RunFigures.draw_all", lambda *_: [])
        patch.setattr("ebmtrain.runs.figures.RunFigures.draw_landscape", lambda *_: None)
        run_experiment(build(configured("train.steps=2")), path, {}, quiet=True)
    return path


@pytest.fixture
def run_copy(run: Path, folder: Path) -> Path:
    return shutil.copytree(run, folder / "run")


def replaced(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


# Hostile configurations: of the 36 directories of the list, 25. What each of them puts into the
# section model (PART), the section hydra (HYDRA), or in place of the file (TEXT).

PART: dict[str, dict[str, Any]] = {
    "os.system by name": {"_target_": "os.system", "command": "touch executed"},
    "posix alias": {"_target_": "posix.system", "command": "touch executed"},
    "through logging.os": {"_target_": "logging.os.system", "command": "touch executed"},
    "torch.load unsafe": {"_target_": "torch.load", "f": "evil.pt", "weights_only": False},
    "torch.hub local": {"_target_": "torch.hub.load", "repo_or_dir": ".", "source": "local"},
    "numpy.load with pickles": {
        "_target_": "numpy.load", "file": "evil.npy", "allow_pickle": True},
    "Path.unlink": {"_target_": "pathlib.Path.unlink", "self": "config.yaml"},
    "open for writing": {"_target_": "builtins.open", "file": "executed", "mode": "w"},
    "urlretrieve": {"_target_": "urllib.request.urlretrieve", "url": "http://localhost/"},
    "_target_ in a list": {"_target_": "ebmtrain.models.mlp.MLP",
                           "width": [{"_target_": "os.system", "command": "touch executed"}]},
    "_partial_": {"_target_": "ebmtrain.models.mlp.MLP", "_partial_": True},
    "legacy target": {"target": "os.system", "params": {"command": "touch executed"}},
    "oc.env": {"_target_": "ebmtrain.models.mlp.MLP", "width": "${oc.env:HOME}"},
    "oc.decode": {"_target_": "ebmtrain.models.mlp.MLP", "width": "${oc.decode:'1'}"},
    "interpolation loop": {"_target_": "ebmtrain.models.mlp.MLP", "width": "${model.width}"},
    "control characters": {"_target_": "ebmtrain.models.mlp.MLP", "activation": "\x1b]0;x\x07"},
}  # fmt: skip
# Beyond the list.
MORE: dict[str, dict[str, Any]] = {
    "exec": {"_target_": "builtins.exec", "_args_": ["open('executed', 'w')"]},
    "subprocess": {"_target_": "subprocess.run", "args": ["touch", "executed"]},
    "a library of C": {"_target_": "ctypes.CDLL", "name": "./evil.so"},
    "a script": {"_target_": "runpy.run_path", "path_name": "evil.py"},
    "an import": {"_target_": "importlib.import_module", "name": "evil"},
    "a compiler": {"_target_": "torch.utils.cpp_extension.load", "name": "x", "sources": ["x.cpp"]},
    "a pickle": {"_target_": "pickle.loads", "_args_": ["x"]},
    "instantiate": {
        "_target_": "hydra.utils.instantiate",
        "config": {"_target_": "os.system", "command": "touch executed"},
    },
    "through __globals__": {"_target_": "ebmtrain.models.mlp.MLP.__init__.__globals__"},
    "through __builtins__": {
        "_target_": "ebmtrain.models.mlp.__builtins__.exec",
        "_args_": ["open('executed', 'w')"],
    },
    "a factory of functions": {"_target_": "functools.partial", "_args_": ["os.system"]},
    "through ebmtrain": {"_target_": "ebmtrain.models.mlp.torch.load", "f": "x"},
    "a verb": {"_target_": "ebmtrain.cli.main.main", "argv": ["init", "executed"]},
    "a package beside it": {"_target_": "evil.Thing"},
    "a control character in a key": {"_target_": "ebmtrain.models.mlp.MLP", "wid\x1b[2Jth": 3},
}
HYDRA = {
    "hydra.callbacks": {"callbacks": {"x": {"_target_": "os.system", "command": "touch executed"}}},
    "job_logging": {"job_logging": {"handlers": {"x": {"class": "os.system"}}}},
    "env_set": {"job": {"env_set": {"PATH": "."}}},
    "searchpath": {"searchpath": ["file:///"]},
    "run.dir outside": {"run": {"dir": "/executed"}},
}
TEXT = {
    "python tag": "model: !!python/object/apply:os.system ['touch executed']\n",
    "pathlib tag": "model: !!python/object/apply:pathlib.Path ['/']\n",
    "alias bomb": "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
        for old, new in zip("abcdefgh", "bcdefghi", strict=True)),
    "depth 2,000": "a: " + "[" * 2000 + "]" * 2000 + "\n",
}  # fmt: skip


def hostile(config: dict[str, Any], case: str) -> bytes:
    if case in TEXT:
        return (yaml.safe_dump(config) + TEXT[case]).encode()
    if case in HYDRA:
        return yaml.safe_dump(config | {"hydra": HYDRA[case]}).encode()
    return yaml.safe_dump(config | {"model": (PART | MORE)[case]}).encode()


@pytest.mark.slow
@pytest.mark.parametrize("case", [*PART, *HYDRA, *TEXT, *MORE])
def test_a_hostile_configuration_is_refused(command, run_copy: Path, folder: Path, case):
    for place in (folder, run_copy):
        (place / "evil.py").write_text("open('executed', 'w')")
    replaced(run_copy / "config.yaml", hostile(RunDir(run_copy).config(), case))
    for verb in READING:
        with no_execution():
            outcome = command(verb, run_copy)
        assert outcome.code == 7
        assert len(outcome.err.splitlines()) == 1
        assert outcome.err.startswith("ebmtrain: ")
        assert outcome.err[:-1].isprintable()


class Runs:
    def __init__(self, *call: Any):
        self.call = call

    def __reduce__(self):
        return self.call


def state_of(run: Path, **changes: Any) -> dict[str, Any]:
    return RunDir(run).load_checkpoint()[0] | changes


def sealed(body: bytes) -> bytes:
    return body + b"\nebmtrain-sha256:" + hashlib.sha256(body).hexdigest().encode()


def torch_saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def deflated(body: bytes) -> bytes:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(body)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return buffer.getvalue()


def scripted() -> bytes:
    class Nothing(torch.nn.Module):
        def forward(self, x):
            return x

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(Nothing(), torch.ones(1)), buffer)
    return buffer.getvalue()


def giant(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(()).expand(shape)


def sparse() -> torch.Tensor:
    where = torch.zeros(1, 1, dtype=torch.long)
    return torch.sparse_coo_tensor(where, torch.ones(1), (3,), check_invariants=True)


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


# The other 11 of the list: a checkpoint whose SHA-256 is right, so no damage, and whose content is
# not what a run writes. (Without its digest, the reader takes it for damage: exit code 4.)

CHECKPOINTS = {
    "__reduce__ to system": lambda s: torch_saved(s | {"x": Runs(os.system, ("touch executed",))}),
    "__reduce__ to eval": lambda s: torch_saved(s | {"x": Runs(eval, ("open('executed', 'w')",))}),
    "bare pickle": lambda s: pickle.dumps(Runs(os.system, ("touch executed",))),
    "a module": lambda s: torch_saved(torch.nn.Linear(2, 2)),
    "script": lambda s: scripted(),
    "giant chains": lambda s: torch_saved(s | {"method": {"chains": giant((10**12, 2))}}),
    "giant elsewhere": lambda s: torch_saved(s | {"measured": {"x": [giant((10**12,))]}}),
    "deflate bomb": lambda s: deflated(torch_saved(s | {"x": torch.zeros(10**7)})),
    "meta": lambda s: torch_saved(s | {"x": torch.zeros(3, device="meta")}),
    "sparse": lambda s: torch_saved(s | {"x": sparse()}),
    "quantized": lambda s: torch_saved(s | {"x": quantized()}),
    "length lie": lambda s: with_wrong_length(torch_saved(s)),
}  # fmt: skip
# Beyond the list.
MORE_CHECKPOINTS = {
    "a function": lambda s: torch_saved(s | {"x": os.system}),
    "an array of objects": lambda s: torch_saved(
        s | {"x": np.array([Runs(os.system, ("touch executed",))], dtype=object)}
    ),
    "overlapping rows": lambda s: torch_saved(
        s | {"method": {"chains": torch.ones(70).as_strided((64, 2), (1, 1))}}
    ),
    "another storage": lambda s: torch_saved(s | {"x": torch.ones(10**6)[:1]}),
}  # fmt: skip
# What another program could have written: exit code 4.
MISFITS = {
    "not finite": lambda s: torch_saved(
        s | {"average": {k: v * torch.nan for k, v in s["average"].items()}}
    ),
    "chains of another shape": lambda s: torch_saved(s | {"method": {"chains": torch.ones(9, 3)}}),
    "step of text": lambda s: torch_saved(s | {"step": "\x1b[2J"}),
    "no weights": lambda s: torch_saved({k: v for k, v in s.items() if k != "energy"}),
    "no frame": lambda s: torch_saved(s | {"frame": {}}),
    "frame of text": lambda s: torch_saved(s | {"frame": s["frame"] | {"scale": "x"}}),
    "another frame": lambda s: torch_saved(s | {"frame": s["frame"] | {"low": torch.ones(7)}}),
    "of the future": lambda s: torch_saved(s | {"format": FORMAT + 1}),
}


def with_wrong_length(body: bytes) -> bytes:
    """The archive's directory says that an entry is longer than it is."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        size = max(archive.infolist(), key=lambda entry: entry.file_size).file_size
    lie = body.replace(size.to_bytes(4, "little"), (2**31 - 2).to_bytes(4, "little"))
    assert lie != body
    return lie


def assert_refused(
    command, run_copy: Path, data: bytes, code: int, verbs: tuple[str, ...] = READING
) -> None:
    for path in (run_copy / "checkpoints").glob("*.pt"):
        replaced(path, data)
    for verb in verbs:
        words = ["train.steps=4"] if verb == "resume" else []
        with no_execution():
            outcome = command(verb, run_copy, *words)
        assert outcome.code == code, verb
        assert len(outcome.err.splitlines()) == 1
        assert outcome.err[:-1].isprintable()


@pytest.mark.slow
@pytest.mark.parametrize("case", [*CHECKPOINTS, *MORE_CHECKPOINTS])
def test_a_hostile_checkpoint_is_refused(command, run_copy: Path, case):
    content = (CHECKPOINTS | MORE_CHECKPOINTS)[case](state_of(run_copy))
    assert_refused(command, run_copy, sealed(content), 7)


@pytest.mark.slow
@pytest.mark.parametrize("case", MISFITS)
def test_a_foreign_checkpoint_is_refused(command, run_copy: Path, case):
    assert_refused(command, run_copy, sealed(MISFITS[case](state_of(run_copy))), 4, READING[:3])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["__reduce__ to system", "bare pickle", "deflate bomb"])
def test_a_hostile_checkpoint_without_digest_is_damaged(command, run_copy: Path, case):
    assert_refused(command, run_copy, CHECKPOINTS[case](state_of(run_copy)), 4)


@pytest.mark.slow
def test_a_checkpoint_of_a_terabyte_is_refused(command, run_copy: Path):
    """Of nothing: it takes no place on the disk."""
    for path in (run_copy / "checkpoints").glob("*.pt"):
        path.unlink()
        with path.open("wb") as file:
            file.truncate(10**12)
    for verb in READING:
        with no_execution():
            outcome = command(verb, run_copy)
        assert outcome.code == 4


@pytest.mark.parametrize(("name", "kind"), [
    (name, kind) for name in ("config.yaml", "checkpoints/last.pt", "samples/final.npz", "run.json",
                              "result.json", "metrics.jsonl") for kind in ("link", "pipe")
])  # fmt: skip
def test_a_link_or_pipe_instead_of_a_file_is_refused(
    command, run_copy: Path, folder: Path, name, kind
):
    (run_copy / name).rename(folder / "outside")
    if kind == "link":
        (run_copy / name).symlink_to(folder / "outside")
    else:
        os.mkfifo(run_copy / name)
    for verb in READING:
        with no_execution():
            outcome = command(verb, run_copy)
        assert outcome.code == 7
        assert f"{name} is a {kind}" in outcome.err


def test_there_are_36_kinds_of_hostile_directories():
    """36: the 25 configurations, and of checkpoints what CHECKPOINTS has and two in its place; and
    19 beyond the list."""
    assert len(PART) + len(HYDRA) + len(TEXT) == 25
    kinds = {"meta": "tensor", "sparse": "tensor", "quantized": "tensor",
             "giant elsewhere": "giant chains"}  # fmt: skip
    assert len({kinds.get(case, case) for case in CHECKPOINTS} | {"link", "pipe"}) == 11
    assert len(MORE) + len(MORE_CHECKPOINTS) == 19


@pytest.mark.parametrize("name", ["run.log", "metrics.jsonl", "plots", ".lock", "result.json"])
def test_a_link_out_of_the_directory_is_refused(command, run_copy: Path, folder: Path, name):
    outside = folder / "outside"
    outside.write_text("mine")
    (run_copy / name).unlink(missing_ok=True)
    (run_copy / name).symlink_to(outside)
    for verb in READING:
        outcome = command(verb, run_copy)
        assert outcome.code == 7
        assert f"{name} is a link" in outcome.err
    assert outside.read_text() == "mine"


# The other files: exit code 2 where they are no JSON or array, 7 where reading would exhaust.

FILES: dict[str, tuple[str, str, bytes | int, int]] = {
    # case: verb, file, content or size, exit code
    "result of a list": ("sample", "result.json", b"[1]", 2),
    "result unfinished": ("sample", "result.json", b"{", 2),
    "result nested": ("sample", "result.json", b"[" * 100_000, 2),
    "result of numbers": ("sample", "result.json", b'{"step": 1' + b"0" * 5000 + b"}", 2),
    "result of a terabyte": ("sample", "result.json", 10**12, 7),
    "run nested": ("plot", "run.json", b'{"a":' * 100_000, 2),
    "run of a terabyte": ("plot", "run.json", 10**12, 7),
    "config of a terabyte": ("sample", "config.yaml", 10**12, 7),
    "metrics of a terabyte": ("plot", "metrics.jsonl", 10**12, 7),
    "samples of a terabyte": ("plot", "samples/final.npz", 10**12, 2),
    "samples of text": ("plot", "samples/final.npz", b"1,2", 2),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", FILES)
def test_other_hostile_files_are_refused(command, run_copy: Path, case):
    verb, name, content, code = FILES[case]
    if isinstance(content, int):
        (run_copy / name).unlink()
        with (run_copy / name).open("wb") as file:
            file.truncate(content)
    else:
        replaced(run_copy / name, content)
    with no_execution():
        outcome = command(verb, run_copy)
    assert outcome.code == code
    assert len(outcome.err.splitlines()) == 1
    assert name in outcome.err


def arrays(**named: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **named)
    return buffer.getvalue()


SAMPLES = {
    "pickled": {"x": np.array([Runs(os.system, ("touch executed",))], dtype=object)},
    "of another shape": {"x": np.zeros((5, 7))},
    "none": {"x": np.zeros((0, 2))},
    "not finite": {"x": np.full((5, 2), np.nan)},
    "of another name": {"y": np.zeros((5, 2))},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SAMPLES)
def test_invalid_samples_are_refused(command, run_copy: Path, case):
    replaced(run_copy / "samples/final.npz", arrays(**SAMPLES[case]))
    with no_execution():
        outcome = command("plot", run_copy)
    assert outcome.code == 2
    assert "final.npz" in outcome.err


ROWS = [b"[1]", b"3", b'"x"', b"{}", b'{"step": "x"}', b'{"step": 2, "kl": "\x1b"}',
        b'{"step": 2, "kl": {"a": 1}, "loss": [1]}', b'{"step": 2, "\\u001b[2J": 1}', b"\xff\xfe",
        b"[" * 100_000, b'{"step": 1e999}', b'{"step": 2, "loss": 1e999}']  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_invalid_metric_rows_are_refused(run_copy: Path, row):
    """What comes after half a row is not read: a killed process was writing it."""
    text = b'{"step": 0, "kl": 1.0}\n' + row + b'\n{"step": 3, "kl": 2}\n'
    replaced(run_copy / "metrics.jsonl", text)
    with no_execution():
        found = RunDir(run_copy).rows()
    assert found[0] == {"step": 0, "kl": 1.0}
    for other in found[1:]:
        assert set(other) <= {"step", "kl", "loss"}
        assert all(isinstance(value, int | float) for value in other.values())


@pytest.mark.slow
def test_plots_of_invalid_metric_rows_are_refused(command, run_copy: Path):
    replaced(
        run_copy / "metrics.jsonl", b'{"step": 2, "loss": 1e999, "\\u001b": 3, "kl": "\\u001b"}'
    )
    outcome = command("plot", run_copy)
    assert outcome.code == 0, outcome.err
    assert "\x1b" not in outcome.out


@pytest.mark.slow
@pytest.mark.parametrize("choices", [["x"], {"model": ["x"]}, {"model": "\x1b[2J"}, None])
def test_invalid_recorded_choices_are_ignored(command, run_copy: Path, choices, no_pictures):
    replaced(run_copy / "run.json", json.dumps({"choices": choices}).encode())
    outcome = command("plot", run_copy)
    assert outcome.code == 0
    assert "\x1b" not in outcome.out
    assert RunDir(run_copy).group_choices() == {}
