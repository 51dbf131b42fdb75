"""Bad inputs get one clear line, the documented exit code, and leave nothing behind.

LISTED is the table of contents: each input that the guide promises an answer to, and the test that
tries it, here or where its part is tested.
"""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Child, Ended
from processes import HANG_S, WITHOUT_PICTURES
from same_state import load, result

from ebmtrain.cli.main import main
from ebmtrain.errors import ConfigError
from ebmtrain.runs.session import Session
from ebmtrain.runtime.devices import Device

NOBODY = 65534
VALIDATE = "config/test_validate.py::test_a_bad_configuration_is_refused"
YAML = "config/test_validate.py::test_bad_yaml_is_refused"
FILE = "datasets/test_dataset_file.py::test_bad_files_are_refused_in_one_line"
IMAGES = "datasets/test_image_files.py::"
READ = "datasets/test_dataset_file.py::test_valid_files_are_read"
HERE = "reliability/test_bad_inputs.py::"
HOSTILE, LOOP = "reliability/test_hostile.py", "training/test_loop.py"
LISTED = {
    # configuration
    "typo in a key": f"{VALIDATE}[typo in a key]",
    "typo in a group": f"{VALIDATE}[typo in a group]",
    "typo in an option": f"{VALIDATE}[typo in an option]",
    "unknown key in a YAML file": f"{YAML}[unknown key]",
    "empty value": f"{VALIDATE}[empty value]",
    "the same key twice": f"{YAML}[the same key twice]",
    "comma list without -m": f"{VALIDATE}[comma list without -m]",
    "learning rate 0": f"{VALIDATE}[lr zero]",
    "learning rate negative": f"{VALIDATE}[lr negative]",
    "learning rate NaN": f"{VALIDATE}[lr nan]",
    "learning rate inf": f"{VALIDATE}[lr inf]",
    "step size 0": f"{VALIDATE}[step size zero]",
    "step size negative": f"{VALIDATE}[step size negative]",
    "step size NaN": f"{VALIDATE}[step size nan]",
    "step size inf": f"{VALIDATE}[step size inf]",
    "k = 0": f"{VALIDATE}[k zero]",
    "negative noise": f"{VALIDATE}[noise negative]",
    "batch 0": f"{VALIDATE}[batch zero]",
    "negative steps": f"{VALIDATE}[steps negative]",
    "wrong type": f"{VALIDATE}[k word]",
    "huge seed": f"{VALIDATE}[seed huge]",
    "buffer smaller than batch": f"{VALIDATE}[buffer below batch]",
    "probability above 1": f"{VALIDATE}[probability]",
    "probability below 0": f"{VALIDATE}[probability negative]",
    "EMA of 1": f"{VALIDATE}[ema one]",
    "EMA below 0": f"{VALIDATE}[ema negative]",
    "checkpoint interval over the steps": f"{HERE}test_a_checkpoint_interval_above_the_steps",
    "missing YAML": f"{VALIDATE}[config dir]",
    "YAML not UTF-8": f"{YAML}[not utf-8]",
    "tabbed YAML": f"{YAML}[tab]",
    # data
    "no such file": f"{VALIDATE}[file not there]",
    "empty file": f"{FILE}[empty.csv]",
    "NaN": f"{FILE}[nan.npy]",
    "inf": f"{FILE}[inf.npy]",
    "CSV with a header": f"{READ}[header.csv]",
    "CSV with a byte order mark": f"{READ}[byte-order-mark.csv]",
    "CSV with semicolons": f"{READ}[semicolons.csv]",
    "ragged": f"{FILE}[ragged.csv]",
    "npy of objects": f"{FILE}[objects.npy]",
    "header that claims terabytes": f"{FILE}[terabytes.npy]",
    "truncated file": f"{FILE}[truncated.npy]",
    "integers": "datasets/test_dataset_file.py::test_arrays_of_any_shape_are_read[integer]",
    "complex numbers": f"{FILE}[complex.npy]",
    "1-D": "datasets/test_dataset_file.py::test_arrays_of_any_shape_are_read[1-D]",
    "3-D": "datasets/test_dataset_file.py::test_arrays_of_any_shape_are_read[3-D]",
    "width that the model does not take":
        "config/test_validate.py::test_a_model_of_another_event_shape_is_refused",
    "constant column": f"{FILE}[constant.csv]",
    "word of another tool": "cli/test_train_command.py::test_misspelt_arguments_get_a_proposal",
    "one row": f"{FILE}[one-row.csv]",
    "landscape of data that is not 2-D": "cli/test_verbs.py::test_points_may_have_any_shape",
    "image too large": f"{HERE}test_a_model_larger_than_memory",
    "data changed since the checkpoint":
        "cli/test_verbs.py::test_data_that_differ_from_the_training_data_are_refused",
    "a directory": "datasets/test_dataset_file.py::test_a_directory_is_refused",
    "a pipe": "datasets/test_dataset_file.py::test_a_pipe_is_refused_without_waiting",
    "image file of another magic": f"{IMAGES}test_bad_idx_files_are_refused[wrong magic]",
    "truncated image file": f"{IMAGES}test_bad_idx_files_are_refused[truncated]",
    "pickle with code": f"{IMAGES}test_bad_pickles_are_refused_and_not_executed[code]",
    "pickle of another shape":
        f"{IMAGES}test_bad_pickles_are_refused_and_not_executed[wrong shape]",
    "truncated picture": f"{IMAGES}test_bad_pictures_are_refused[truncated]",
    "pictures of mixed sizes": f"{IMAGES}test_bad_pictures_are_refused[mixed sizes]",
    "pictures of mixed channels": f"{IMAGES}test_bad_pictures_are_refused[mixed channels]",
    "files that nobody has put there":
        f"{IMAGES}test_missing_files_are_named_with_their_source",
    # devices
    "CUDA missing": f"{HERE}test_a_missing_device[cuda]",
    "MPS missing": f"{HERE}test_a_missing_device[mps]",
    "bad index": f"{VALIDATE}[index of a device]",
    "out of memory": f"{HERE}test_out_of_memory_names_the_last_checkpoint",
    "float64 on MPS": f"{HERE}test_float64_on_mps",
    # checkpoints
    "truncated checkpoint": "cli/test_verbs.py::test_damaged_checkpoints_are_reported",
    "flipped checkpoint":
        "cli/test_verbs.py::test_a_verb_names_the_checkpoint_used_instead_of_a_damaged_one",
    "all checkpoints bad": f"{HERE}test_no_usable_checkpoint[all bad]",
    "another architecture":
        "runs/test_resume.py::test_another_configuration_is_refused_and_changes_nothing[width]",
    "another configuration":
        "runs/test_resume.py::test_another_configuration_is_refused_and_changes_nothing[ema]",
    "newer format": f"{HOSTILE}::test_a_foreign_checkpoint_is_refused[of the future]",
    "NaN weights": f"{HOSTILE}::test_a_foreign_checkpoint_is_refused[not finite]",
    "no checkpoint": f"{HERE}test_no_usable_checkpoint[none]",
    "run already finished": "runs/test_resume.py::test_resuming_a_finished_run_changes_nothing",
    # file system
    "unwritable": "cli/test_train_command.py::test_an_unwritable_output_folder_is_refused",
    "read-only": f"{HERE}test_a_read_only_directory",
    "full": f"{HERE}test_a_file_size_limit",
    "directory deleted during the run": f"{HERE}test_a_run_directory_deleted_during_the_run",
    "path is a file": "cli/test_train_command.py::test_an_unwritable_output_folder_is_refused",
    "unicode path": "cli/test_train_command.py::test_paths_may_have_any_name[äöü ñ 数]",
    "path with spaces": "cli/test_train_command.py::test_paths_may_have_any_name[with space]",
    "overlong path": f"{HERE}test_a_path_that_is_too_long",
    "read-only HOME": f"{HERE}test_a_read_only_home",
    "too many open files": f"{HERE}test_too_many_open_files",
    # process
    "second resumer": "cli/test_verbs.py::test_one_writer_at_a_time",
    "stale lock": "cli/test_verbs.py::test_one_writer_at_a_time",
    "broken pipe":
        "cli/test_train_command.py::test_a_closed_pipe_does_not_stop_the_training",
    "closed stdout": f"{HERE}test_closed_and_ascii_streams[closed]",
    "no terminal":
        "cli/test_train_command.py::test_the_log_has_the_printed_lines",
    "TERM=dumb": f"{HERE}test_terminals_of_each_kind[TERM=dumb]",
    "NO_COLOR": f"{HERE}test_terminals_of_each_kind[NO_COLOR=1]",
    "one column": f"{HERE}test_terminals_of_each_kind[COLUMNS=1]",
    "LANG=C": f"{HERE}test_closed_and_ascii_streams[ascii]",
    "clock jump": f"{HERE}test_a_clock_that_jumps",
    # numbers
    "NaN energy": f"{HERE}test_an_energy_that_is_nan",
    "exploding chain": f"{HERE}test_a_chain_that_explodes",
    "dead chain": f"{HERE}test_a_chain_that_is_dead",
    "overflow of gradients": f"{LOOP}::test_non_finite_values_set_the_flag[gradient",
}  # fmt: skip


def test_every_listed_input_has_its_test():
    assert len(LISTED) >= 90
    for name, place in LISTED.items():
        file, _, test = place.partition("::")
        function, _, case = test.partition("[")
        text = (Path(__file__).parents[1] / file).read_text()
        assert f"def {function}(" in text, name
        assert case.rstrip("]") in text, name


def one_line(outcome: Ended | object, code: int, *sayings: str) -> None:
    assert outcome.code == code, outcome  # type: ignore[attr-defined]
    (line,) = outcome.err.splitlines()  # type: ignore[attr-defined]
    assert line.startswith("ebmtrain: ")
    for saying in sayings:
        assert saying in line


# Configuration and data


@pytest.mark.usefixtures("no_pictures")
def test_a_checkpoint_interval_above_the_steps(command, folder: Path, tiny):
    """Nothing to refuse: the first state and the last one are saved, whatever the period."""
    words = (*tiny, "train.steps=3", "checkpoint.every=500", "hydra.run.dir=run")
    assert command(*words).code == 0
    names = {path.name for path in (folder / "run/checkpoints").iterdir()}
    assert {"step_00000000.pt", "step_00000003.pt", "last.pt"} <= names


@pytest.mark.usefixtures("no_pictures")
def test_a_model_larger_than_memory(command, folder: Path, tiny_file):
    """Images of 100 x 100, and a layer of 40 terabytes."""
    np.save("images.npy", np.random.default_rng(0).normal(size=(40, 100, 100)))
    words = (
        "dataset=file",
        "dataset.path=images.npy",
        "train.batch_size=4",
        "model.width=1000000000",
    )
    outcome = command(*tiny_file, *words, "hydra.run.dir=run")
    one_line(outcome, 2, "model needs more memory than there is: make it smaller")
    assert not (folder / "run").exists()


# Devices


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_missing_device(command, folder: Path, tiny, name):
    there = {"cuda": torch.cuda, "mps": torch.backends.mps}[name].is_available()
    if there:
        pytest.skip(f"{name} is there")
    outcome = command(*tiny, f"device.accelerator={name}")
    one_line(outcome, 2, f"device.accelerator is {name}, but torch finds no", "device=cpu")
    assert list(folder.iterdir()) == []


def test_float64_on_mps():
    reason = "device.dtype is float64, which mps does not have: device.dtype=float32"
    with pytest.raises(ConfigError, match=reason):
        Device(accelerator="mps", dtype="float64").select()


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_out_of_memory_names_the_last_checkpoint(command, folder: Path, tiny, monkeypatch):
    """The samples at the end would take 0.8 terabytes. The estimate before training lets them pass,
    as it does where other programs take the memory meanwhile."""
    monkeypatch.setattr("ebmtrain.config.sizes.memory_bytes", lambda: 10**18)
    outcome = command(*tiny, "samples.count=100000000000", "samples.thin=1", "hydra.run.dir=run")
    one_line(outcome, 2, "out of memory: lower train.batch_size", "run/checkpoints/last.pt")
    assert result(folder / "run")["status"] == "failed"
    assert load(folder / "run/checkpoints/last.pt")["step"] == 20
    assert command("resume", "run", "samples.count=20").code == 0


# Checkpoints


@pytest.fixture(scope="module")
def finished_run(tiny, tmp_path_factory) -> Path:
    """A finished run; with its pictures, so that all modules are there for processes to come."""
    folder = tmp_path_factory.mktemp("made")
    assert main([*tiny, f"hydra.run.dir={folder}/run"]) == 0
    return folder / "run"


@pytest.fixture
def run(finished_run: Path, folder: Path) -> Path:
    return shutil.copytree(finished_run, folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["all bad", "none"])
@pytest.mark.parametrize("verb", ["resume", "evaluate", "sample", "plot"])
def test_no_usable_checkpoint(command, run: Path, verb, case):
    for path in (run / "checkpoints").iterdir():
        if case == "none":
            path.unlink()
        else:
            data = bytearray(path.read_bytes())
            data[len(data) // 3] ^= 4
            path.write_bytes(data)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    one_line(command(verb, run), 4, "restore one from a copy, or train again")
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}.items() == before.items()


# File system


def without_privileges(work: Callable[[], int]) -> Callable[[], int]:
    """Root may write everywhere, so the process becomes somebody who may not."""

    def drop_privileges() -> int:
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        return work()

    return drop_privileges


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["train", "resume", "evaluate", "sample"])
def test_a_read_only_directory(finished_run, run: Path, folder: Path, tiny, tmp_path_factory, verb):
    words = {
        "train": [*tiny, f"hydra.run.dir={folder}/new"],
        "resume": ["resume", "run", "train.steps=30"],
        "evaluate": ["evaluate", "run"],
        "sample": ["sample", "run", "count=5"],
    }[verb]
    logs = tmp_path_factory.mktemp("logs")
    for parent in [folder, *folder.parents][:3]:
        parent.chmod(parent.stat().st_mode | 0o055)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    modes = {p: p.stat().st_mode for p in [folder, *folder.rglob("*")]}
    for path in modes:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        ended = Child(without_privileges(lambda: main(words)), logs).ended()
    finally:
        for path, mode in modes.items():
            path.chmod(mode)
    one_line(ended, 6, "cannot write ", "Permission denied")
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")  # they would not fit either
def test_a_file_size_limit(finished_run, folder: Path, tiny):
    """As on a full disk: the checkpoints of before are whole, and no half of one is left."""

    def work() -> int:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = (finished_run / "checkpoints/last.pt").stat().st_size
        calls = []
        original = Session.save

        def save(self, state, now):
            calls.append(1)
            if len(calls) == 15:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size))
            original(self, state, now)

        Session.save = save  # in this process only
        return main([*tiny, "hydra.run.dir=run", "plots.gif=false"])

    ended = Child(work, folder).ended()
    one_line(ended, 6, "cannot write ", "run/checkpoints/", "File too large")
    assert result(folder / "run")["status"] == "failed"
    assert load(folder / "run/checkpoints/last.pt")["step"] == 10
    assert not list((folder / "run/checkpoints").glob(".*"))
    assert main(["resume", "run"]) == 0


@pytest.mark.usefixtures("no_pictures")
def test_a_run_directory_deleted_during_the_run(command, folder: Path, tiny, monkeypatch):
    def deleted(self):
        shutil.rmtree("run", ignore_errors=True)
        return False

    monkeypatch.setattr(Session, "should_stop", deleted)
    outcome = command(*tiny, "hydra.run.dir=run")
    one_line(outcome, 6, "cannot write", "No such file or directory")
    assert not (folder / "run").exists()


@pytest.mark.usefixtures("no_pictures")
def test_a_path_that_is_too_long(command, folder: Path, tiny):
    outcome = command(*tiny, f"hydra.run.dir={'x' * 300}")
    one_line(outcome, 6, "cannot write", "File name too long", "choose another hydra.run.dir")
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_read_only_home(folder: Path, tiny):
    """Not even root can write there. matplotlib and the C++ compiler would keep files there."""
    compiler = folder / "c++"
    compiler.write_text('#!/bin/sh\nexec c++ "$@" -O0\n')  # takes less time to compile
    compiler.chmod(0o700)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "MPL"))}
    environment |= {"HOME": "/proc/nowhere", "CXX": str(compiler)}
    words = [*tiny, "hydra.run.dir=run", "train.steps=2", "plots.gif=false"]
    done = subprocess.run([sys.executable, "-m", "ebmtrain", *words], env=environment,
                          capture_output=True, text=True, timeout=HANG_S)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "is not used" not in (folder / "run/run.log").read_text()
    assert (folder / "run/plots/landscape_final.png").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_too_many_open_files(finished_run, folder: Path, tiny):
    def work() -> int:
        original = Session._train_and_finish

        def limited(self):
            taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, max(taken) + 1))
            try:
                yield from original(self)
            finally:
                for descriptor in taken:
                    os.close(descriptor)

        Session._train_and_finish = limited  # in this process only
        return main([*tiny, "hydra.run.dir=run"])

    one_line(Child(work, folder).ended(), 6, "cannot write", "Too many open files")
    assert result(folder / "run")["status"] == "failed"


# Process


@pytest.mark.slow
@pytest.mark.parametrize("case", ["closed", "ascii", "full"])
def test_closed_and_ascii_streams(folder: Path, tiny, case):
    words = ["-c", WITHOUT_PICTURES, *tiny, "hydra.run.dir='é数'", "train.steps=2"]
    command, environment = [sys.executable, *words], None
    if case == "closed":
        command = ["sh", "-c", f'exec "{sys.executable}" "$@" >&-', "sh", *words]
    elif case == "ascii":
        ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        environment = os.environ | ascii_only
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, cwd=folder, env=environment, text=True, timeout=HANG_S,
            stdout=full if case == "full" else subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
    if case == "ascii":
        assert "KL  " in done.stdout
        assert all(ord(letter) < 128 for letter in done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert result(folder / "é数")["status"] == "finished"


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("variable", ["TERM=dumb", "NO_COLOR=1", "COLUMNS=1"])
def test_terminals_of_each_kind(finished_run, folder: Path, tiny, variable):
    name, _, value = variable.partition("=")
    leader, follower = pty.openpty()

    def work() -> int:
        os.environ.update({"TERM": "xterm", name: value})
        return main([*tiny, "hydra.run.dir=run", "train.steps=30"])

    child = Child(work, folder, terminal=follower)
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 65536):
            shown += part
    except OSError:  # Linux's way of saying that the other end is closed
        pass
    os.close(leader)
    ended = child.ended()
    assert (ended.code, ended.err) == (0, "")
    assert result(folder / "run")["status"] == "finished"
    text = shown.decode()
    assert "KL" in re.sub(r"\s", "", text)  # of one column, each line has a letter
    if name == "NO_COLOR":
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text)
    if name == "TERM":
        assert "\x1b" not in text


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_terminal_that_closes(finished_run, folder: Path, tiny):
    """One that is not this process's own: no signal comes, and lines can no more be written."""
    leader, follower = pty.openpty()
    words = [*tiny, "hydra.run.dir=run", "train.steps=30"]
    child = Child(lambda: main(words), folder, terminal=follower)
    os.close(follower)
    os.read(leader, 100)
    os.close(leader)
    assert child.ended().code == 0
    assert result(folder / "run")["status"] == "finished"


@pytest.mark.usefixtures("no_pictures")
def test_a_clock_that_jumps(command, folder: Path, tiny, monkeypatch):
    jumps = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: 1e9 - 1e7 * next(jumps))
    assert command(*tiny, "hydra.run.dir=run").code == 0
    seconds = [json.loads(line)["seconds"] for line in
               (folder / "run/metrics.jsonl").read_text().splitlines()]  # fmt: skip
    assert seconds == sorted(seconds)
    assert result(folder / "run")["step"] >= 0
    assert 0 < json.loads((folder / "run/result.json").read_text())["seconds"] < 1000


# Numbers

NAN = """
import torch
from torch import nn

class Broken(nn.Module):
    def __init__(self, *, event_shape: tuple[int, ...]):
        super().__init__()
        self.w = nn.Parameter(torch.ones(()))
    def forward(self, x):
        return self.w * x.flatten(1).sum(1).sub(0.5).sqrt()
"""


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("method", ["pcd", "dsm", "nce"])
def test_an_energy_that_is_nan(command, folder: Path, tiny, method, monkeypatch):
    """The root of what is negative at half of the points."""
    (folder / "broken_energy.py").write_text(NAN)
    own = folder / "presets/model/broken.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("_target_: broken_energy.Broken\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "broken_energy", raising=False)
    words = [w for w in tiny if not w.startswith(("model.", "method."))]
    words += ["method.slots=64"] if method == "pcd" else []
    choice = ("--config-dir", "presets", "model=broken", f"method={method}")
    outcome = command(*choice, *words, "hydra.run.dir=run")
    one_line(outcome, 3, "training diverged by step", "lower optimizer.lr")
    assert result(folder / "run")["status"] == "diverged"


@pytest.mark.usefixtures("no_pictures")
def test_a_chain_that_explodes(command, folder: Path, tiny):
    words = ("sampler=langevin", "sampler.step_size=1e6", "model.base_std=1", "hydra.run.dir=run")
    one_line(command(*tiny, *words), 3, "training diverged by step", "lower optimizer.lr")
    assert result(folder / "run")["status"] == "diverged"


@pytest.mark.usefixtures("no_pictures")
def test_a_chain_that_is_dead(command, folder: Path, tiny):
    """No step is accepted: the numbers say so, and nothing breaks."""
    words = ("sampler.step_size=1e6", "sampler.adaptation=null", "sampler.jumps=null",
             "model.base_std=1", "hydra.run.dir=run")  # fmt: skip
    outcome = command(*tiny, *words)
    assert outcome.code in (0, 3)
    assert "accept 0" in outcome.out
