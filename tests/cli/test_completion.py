"""`ebmtrain completion`: what TAB gives in bash, and the words that can follow a line."""

from __future__ import annotations

import os
import pty
import resource
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ebmtrain.cli.completion import _completions
from ebmtrain.config.presets import Presets

PROGRAM = Path(sys.executable).with_name("ebmtrain")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ebmtrain me", ["method="]),
        ("ebmtrain method=pc", ["method=pcd"]),
        ("ebmtrain method=cd,pc", ["method=cd,pcd"]),
        ("ebmtrain train.st", ["train.steps="]),
        ("ebmtrain -m seed=0,1 trai", ["train."]),
        ("ebmtrain method=dsm method.", ["method.sigma="]),
        ("ebmtrain experiment=rbm_digits model.hid", ["model.hidden="]),
        ("ebmtrain plots.gif=", ["plots.gif=false", "plots.gif=true"]),
        ("ebmtrain eval", ["evaluate", "evaluation="]),
        ("ebmtrain check me", ["method="]),
        ("ebmtrain list method/pc", ["method/pcd"]),
        ("ebmtrain completion f", ["fish"]),
        ("ebmtrain resume out", []),
        ("ebmtrain nothing=", []),
        ("", ["completion", "check"]),
    ],
)  # fmt: skip
def test_the_words_that_can_follow(line, expected):
    found = _completions(line)
    if line:
        assert found == expected
    else:
        assert set(expected) < set(found)


def test_the_keys_are_those_of_the_chosen_part():
    """Of the default, pcd, and of the one on the line."""
    assert "method.slots=" in _completions("ebmtrain method.")
    assert "method.slots=" not in _completions("ebmtrain method=nce method.")
    assert "method.nu=" in _completions("ebmtrain method=nce method.")


def test_each_option_of_each_group_is_offered():
    known = Presets()
    for group in known.groups():
        assert _completions(f"ebmtrain {group}=") == [f"{group}={o}" for o in known.options(group)]


def test_presets_of_the_user_are_offered(folder: Path):
    (folder / "own/model").mkdir(parents=True)
    (folder / "own/model/mine.yaml").write_text("_target_: mine.Mine\nsize: 3   # of it\n")
    assert "model=mine" in _completions("ebmtrain --config-dir own model=mi")
    line = "ebmtrain --config-dir=own model=mine model."
    assert _completions(line) == ["model.size="]


def test_another_shell_is_refused(command):
    outcome = command("completion", "bsh")
    assert outcome.code == 2
    assert "no script for bsh; did you mean bash?" in outcome.err
    assert "expected one shell" in command("completion").err


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("ebmtrain me", "ebmtrain method="),
        ("ebmtrain method=pc", "ebmtrain method=pcd "),
        ("ebmtrain method=nce method.noi", "ebmtrain method=nce method.noise="),
        ("ebmtrain resume ru", "ebmtrain resume runs/"),
    ],
)
def test_tab_in_bash(folder: Path, typed: str, shown: str):
    """A terminal with an interactive bash, which gets the keys and shows the completed line."""
    (folder / "runs").mkdir()
    process, terminal = pty.fork()
    if process == 0:
        os.environ |= {"PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "TERM": "dumb"}
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    try:
        _until(terminal, b"bash")
        os.write(terminal, b'PS1="ready> "; bind "set bell-style none"\n')
        os.write(terminal, b'eval "$(ebmtrain completion bash)"; echo loa""ded\n')
        _until(terminal, b"loaded\r\nready> ")
        os.write(terminal, f"{typed}\t".encode())
        assert _until(terminal, shown.encode()).endswith(shown.encode())
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(terminal)


_ANSWER_S = 60  # of a shell on a busy machine


def _until(terminal: int, wanted: bytes) -> bytes:
    """What the terminal shows up to these bytes."""
    shown, end = b"", time.monotonic() + _ANSWER_S
    while wanted not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 1)
    assert wanted in shown, shown
    return shown


@pytest.mark.slow
def test_a_completion_takes_less_than_a_third_of_a_second():
    """CPU time of the process, the least of three."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = [PROGRAM, "completion", "--", "ebmtrain method=dsm method."]
        subprocess.run(words, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.3


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_scripts_of_other_shells_are_valid(command, shell, folder):
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    (folder / "script").write_text(command("completion", shell).out)
    subprocess.run([shell, "-n", "script"], check=True)
