"""Two writers cannot share a run: of eight that race for one directory exactly one wins, and the
lock of a process that was killed is free."""

from __future__ import annotations

from pathlib import Path

import pytest
from kills import Server, configuration, server


def race(do: Server, errors: Path, path: Path, new: bool) -> list[str]:
    """What is wrong with the outcome of one race; its winner is killed while it holds the lock."""
    before = len(errors.read_text().splitlines())
    codes = do(path, config=configuration("method=dsm") if new else None, runners=8)
    said = errors.read_text().splitlines()[before:]
    wrong = [] if sorted(codes) == [-9, *[5] * 7] else [f"exit codes {codes}"]
    busy = f"ebmtrain: {path} is in use by "
    if len(said) != 7 or not all(line.startswith(busy) for line in said):
        wrong.append(f"said {said}")
    return wrong


def races(count: int, folder: Path) -> list[str]:
    """By turns for a new directory and for one that is there, where each race finds the lock of the
    winner before."""
    wrong, errors = [], folder / "errors"
    errors.touch()
    with server(errors) as do:
        assert do(folder / "old", config=configuration("method=dsm"), fatal=250) == -9
        for number in range(count):
            new = number % 2 == 0
            wrong += race(do, errors, folder / (f"new-{number}" if new else "old"), new)
        assert do(folder / "old") == 0  # and the last lock is free as well
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("count", [10])
def test_one_of_eight_processes_gets_the_directory(tmp_path, count):
    assert races(count, tmp_path) == []
