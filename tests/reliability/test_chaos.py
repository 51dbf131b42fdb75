"""A few rounds of chaos.py, and that it finds what a careless writer would lose."""

from __future__ import annotations

from pathlib import Path

import chaos
import pytest

from ebmtrain.runs.storage.rundir import RunDir


@pytest.mark.slow
def test_random_disturbances_lose_nothing(tmp_path: Path):
    wrong, faults = chaos.chaos(2, tmp_path / "chaos")
    assert (wrong, list(faults)) == (0, [])


@pytest.mark.slow
def test_a_row_that_is_lost_is_found(tmp_path: Path, monkeypatch):
    """A resumed run that does not write its rows differs from the reference."""
    with chaos.world(tmp_path / "chaos") as world:
        reference, run = world.reference("nce"), world.folder / "run"
        monkeypatch.setattr(RunDir, "log_row", lambda *_: None)
        assert chaos.finish(world, run, chaos.words("nce", run)) == []
        assert chaos.left(reference, run) != []


def test_a_write_outside_and_an_execution_are_found(tmp_path: Path):
    with chaos.world(tmp_path / "chaos") as world:
        assert world.found_outside() == []
        (world.outside / "file").write_text("changed")
        world.executed.touch()
        assert len(world.found_outside()) == 2
