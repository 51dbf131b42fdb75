"""Opening somebody else's run directory executes nothing, whatever it holds."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ebmtrain.build import build
from ebmtrain.errors import CheckpointError
from ebmtrain.run import begin
from ebmtrain.rundir import RunDir

READING = ("sample", "evaluate", "plot", "resume")

# What Python does for the process, as its audit hooks tell. A hook stays for ever: it is switched.

watched: list[tuple[str, tuple]] = []
watching = False
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.",
             "urllib.Request", "os.putenv", "os.remove", "os.rmdir")  # fmt: skip


def hook(event: str, details: tuple) -> None:
    if not watching:
        return
    written = event == "open" and details[1] and set(str(details[1])) & set("wax+")
    if event.startswith(FORBIDDEN) or written:
        watched.append((event, details))


sys.addaudithook(hook)


@contextmanager
def nothing_happens() -> Iterator[None]:
    global watching
    watched.clear()
    watching = True
    try:
        yield
    finally:
        watching = False
    assert watched == []
    assert not Path("executed").exists()


@pytest.fixture(scope="module")
def run(tmp_path_factory, configured) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ebmtrain.gallery.Gallery.final", lambda *_: [])
        patch.setattr("ebmtrain.gallery.Gallery.landscape", lambda *_: None)
        begin(build(configured("train.steps=2")), path, {}, quiet=True)
    return path


@pytest.fixture
def copy(run: Path, folder: Path) -> Path:
    """A copy of the run, made link by link: only what a test replaces is new."""
    for file in run.rglob("*"):
        target = folder / "run" / file.relative_to(run)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file():
            os.link(file, target)
    return folder / "run"


def replaced(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


PART: dict[str, dict[str, Any]] = {
    "os.system": {"_target_": "os.system", "command": "touch executed"},
    "posix": {"_target_": "posix.system", "command": "touch executed"},
    "through logging": {"_target_": "logging.os.system", "command": "touch executed"},
    "through ebmtrain": {"_target_": "ebmtrain.models.mlp.torch.load", "f": "x"},
    "torch.load": {"_target_": "torch.load", "f": "evil.pt", "weights_only": False},
    "torch.hub": {"_target_": "torch.hub.load", "repo_or_dir": ".", "source": "local"},
    "numpy.load": {"_target_": "numpy.load", "file": "evil.npy", "allow_pickle": True},
    "unlink": {"_target_": "pathlib.Path.unlink", "self": "config.yaml"},
    "open": {"_target_": "builtins.open", "file": "executed", "mode": "w"},
    "urlretrieve": {"_target_": "urllib.request.urlretrieve", "url": "http://localhost/"},
    "in a list": {"_target_": "ebmtrain.models.mlp.MLP",
                  "width": [{"_target_": "os.system", "command": "touch executed"}]},
    "partial": {"_target_": "ebmtrain.models.mlp.MLP", "_partial_": True},
    "verb": {"_target_": "ebmtrain.cli.main", "argv": ["init", "executed"]},
    "env": {"_target_": "ebmtrain.models.mlp.MLP", "width": "${oc.env:HOME}"},
    "decode": {"_target_": "ebmtrain.models.mlp.MLP", "width": "${oc.decode:'1'}"},
    "loop": {"_target_": "ebmtrain.models.mlp.MLP", "width": "${model.width}"},
    "control": {"_target_": "ebmtrain.models.mlp.MLP", "activation": "\x1b]0;x\x07"},
}  # fmt: skip
HYDRA = {
    "callbacks": {"callbacks": {"x": {"_target_": "os.system", "command": "touch executed"}}},
    "logging": {"job_logging": {"handlers": {"x": {"class": "os.system"}}}},
    "environment": {"job": {"env_set": {"PATH": "."}}},
    "search path": {"searchpath": ["file:///"]},
    "outside": {"run": {"dir": "/executed"}},
}


@pytest.mark.parametrize("case", [*PART, *HYDRA])
@pytest.mark.parametrize("verb", READING)
def test_a_hostile_configuration(command, copy: Path, verb, case):
    config = RunDir(copy).config()
    if case in PART:
        config["model"] = PART[case]
    else:
        config["hydra"] = HYDRA[case]
    replaced(copy / "config.yaml", yaml.safe_dump(config).encode())
    with nothing_happens():
        outcome = command(verb, copy)
    assert outcome.code == 7
    assert len(outcome.err.splitlines()) == 1
    assert "\x1b" not in outcome.err


def test_the_word_that_hydra_once_used(command, copy: Path):
    config = RunDir(copy).config()
    config["model"] = {"target": "os.system", "params": {"command": "touch executed"}}
    replaced(copy / "config.yaml", yaml.safe_dump(config).encode())
    with nothing_happens():
        assert command("sample", copy).code == 2


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


CHECKPOINTS = {
    "system": lambda s: torch_saved(s | {"x": Runs(os.system, ("touch executed",))}),
    "eval": lambda s: torch_saved(s | {"x": Runs(eval, ("open('executed', 'w')",))}),
    "bare pickle": lambda s: pickle.dumps(Runs(os.system, ("touch executed",))),
    "a module": lambda s: torch_saved(torch.nn.Linear(2, 2)),
    "script": lambda s: scripted(),
    "giant chains": lambda s: torch_saved(s | {"method": {"chains": giant((10**12, 2))}}),
    "giant elsewhere": lambda s: torch_saved(s | {"measured": {"x": [giant((10**12,))]}}),
    "deflated": lambda s: deflated(torch_saved(s)),
    "meta": lambda s: torch_saved(s | {"x": torch.zeros(3, device="meta")}),
    "sparse": lambda s: torch_saved(s | {"x": sparse()}),
    "quantized": lambda s: torch_saved(s | {"x": quantized()}),
    "not finite": lambda s: torch_saved(
        s | {"average": {k: v * torch.nan for k, v in s["average"].items()}}
    ),
    "chains of another shape": lambda s: torch_saved(s | {"method": {"chains": torch.ones(9, 3)}}),
    "step of text": lambda s: torch_saved(s | {"step": "\x1b[2J"}),
    "no weights": lambda s: torch_saved({k: v for k, v in s.items() if k != "energy"}),
    "no frame": lambda s: torch_saved(s | {"frame": {}}),
    "frame of text": lambda s: torch_saved(s | {"frame": s["frame"] | {"scale": "x"}}),
    "another frame": lambda s: torch_saved(s | {"frame": s["frame"] | {"low": torch.ones(7)}}),
}


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_a_hostile_checkpoint(command, copy: Path, case):
    data = sealed(CHECKPOINTS[case](state_of(copy)))
    for path in (copy / "checkpoints").glob("*.pt"):
        replaced(path, data)
    with nothing_happens():
        codes = {verb: command(verb, copy).code for verb in ("sample", "evaluate")}
    assert set(codes.values()) == {4}


def test_a_length_that_lies(copy: Path):
    """The archive's directory says that an entry is longer than it is."""
    body = torch_saved(state_of(copy))
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        size = max(archive.infolist(), key=lambda entry: entry.file_size).file_size
    lie = body.replace(size.to_bytes(4, "little"), (2**31 - 2).to_bytes(4, "little"))
    assert lie != body
    replaced(copy / "checkpoints/last.pt", sealed(lie))
    with pytest.raises(CheckpointError):
        RunDir(copy).load_checkpoint(copy / "checkpoints/last.pt")


@pytest.mark.parametrize("name", ["run.log", "metrics.jsonl", "plots", ".lock", "result.json"])
def test_a_link_out_of_the_directory(command, copy: Path, folder: Path, name):
    outside = folder / "outside"
    outside.write_text("mine")
    (copy / name).unlink(missing_ok=True)
    (copy / name).symlink_to(outside)
    for verb in READING:
        outcome = command(verb, copy)
        assert outcome.code == 7
        assert f"{name} is a link" in outcome.err
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("name", ["result.json", "run.json", "metrics.jsonl"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(command, copy: Path, name):
    (copy / name).unlink()
    os.mkfifo(copy / name)
    assert command("sample", copy, "count=3").code == 0


@pytest.mark.parametrize("text", ["[1]", "{", "3", "[" * 100_000])
def test_a_result_that_is_none(command, copy: Path, text):
    replaced(copy / "result.json", text.encode())
    assert command("sample", copy).code == 2


@pytest.mark.parametrize("choices", [["x"], {"model": ["x"]}, {"model": "\x1b[2J"}, None])
def test_choices_that_are_none(command, copy: Path, choices, no_pictures):
    replaced(copy / "run.json", json.dumps({"choices": choices}).encode())
    outcome = command("plot", copy)
    assert outcome.code == 0
    assert "\x1b" not in outcome.out
    assert RunDir(copy).choices() == {}
