"""docs/reliability.md lists what ebmtrain opens for writing, runs, loads and imports; nothing else
happens, and no row of the list is without an event."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from audit import TINY
from processes import HANG_S

DOCS = Path(__file__).parents[2] / "docs/reliability.md"
PROGRAM = Path(__file__).with_name("audit.py")


def rows() -> list[tuple[str, list[str], bool]]:
    """Kind, patterns, and whether an event needs `device.compile=true`, of each row."""
    section = DOCS.read_text(encoding="utf-8").partition("## What is opened, run and imported")[2]
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return [
        (
            kind,
            [pattern.strip("` ") for pattern in patterns.split(", ")],
            "device.compile" in purpose,
        )
        for kind, patterns, purpose in cells
    ]


def audit(folder: Path, *words: str, **environment: str) -> set[tuple[str, str]]:
    # torch keeps its default there once a test of the same process has compiled something.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TORCHINDUCTOR_")}
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(folder), *words], capture_output=True, text=True,
        timeout=HANG_S, check=False, env=inherited | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {tuple(json.loads(line)) for line in done.stdout.splitlines()}


def listed(event: tuple[str, str], kind: str, patterns: list[str]) -> bool:
    return event[0] == kind and any(fnmatchcase(event[1], pattern) for pattern in patterns)


def unlisted(events: set[tuple[str, str]], *, compiled: bool) -> list[tuple[str, str]]:
    allowed = [row for row in rows() if compiled or not row[2]]
    return sorted(e for e in events if not any(listed(e, *row[:2]) for row in allowed))


@pytest.mark.slow
def test_every_event_is_listed_and_every_row_has_an_event(folder: Path):
    """The home is empty, so that the C++ of the perceptron and the list of fonts are made."""
    events = audit(folder, HOME=str(folder / "home"), XDG_CACHE_HOME="")
    assert unlisted(events, compiled=False) == []
    each = [(kind, name) for kind, names, compiled in rows() if not compiled for name in names]
    assert [row for row in each if not any(listed(e, row[0], [row[1]]) for e in events)] == []
    assert not [event for event in events if event[0] == "network"]


@pytest.mark.slow
def test_every_event_of_a_compiled_run_is_listed(folder: Path):
    small = (word for word in TINY if not word.startswith("method."))
    words = ("method=nce", "device.compile=true", "model.depth=1", "hydra.run.dir=run")
    words = (*words, "plots.every=0")
    assert unlisted(audit(folder, *small, *words), compiled=True) == []


def test_an_unlisted_event_is_found():
    for event in (("run", "git"), ("network", "socket.connect"), ("write", "FOLDER/x"),
                  ("import", "FOLDER/torch.py"), ("load", "FOLDER/evil.so")):  # fmt: skip
        assert unlisted({event}, compiled=True) == [event]
