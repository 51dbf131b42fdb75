"""Sizes that cannot work are refused before the run directory exists."""

from __future__ import annotations

import pytest

from ebmtrain.config import sizes
from ebmtrain.config.sizes import chain_steps


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("samples.count=100000000000", "samples.count is 1e+11 and needs 2.8e+03 GB"),
        ("samples.chains=100000000000", "samples.chains is 1e+11 and needs 800 GB"),
        ("method.slots=100000000000", "method.slots is 1e+11 and needs 800 GB"),
        ("plots.points=100000000000", "plots.points is 1e+11 and needs 800 GB"),
        ("diagnostics.draws=10000000000", "diagnostics.draws is 1e+10 and needs 320 GB"),
        ("samples.burn_in=1000000000000000000", "lower samples.burn_in, samples.thin or"),
        ("samples.thin=1000000000000000000", "samples take 1e+18 steps of each chain"),
        ("diagnostics.thin=10000000000", "diagnostics take 8e+10 steps of each chain"),
    ],
)
def test_an_impossible_size_is_refused(command, tiny, folder, word, reason):
    words = ["samples.count=51"] if word.startswith("samples.thin") else []
    outcome = command(*tiny, *words, word, "hydra.run.dir=run")
    assert outcome.code == 2
    assert reason in outcome.err
    assert word.partition("=")[0] in outcome.err
    assert not (folder / "run").exists()


def test_the_memory_of_the_process_decides(command, tiny, monkeypatch):
    """quality.points=200 compares 200 with 200 points, 320,000 bytes per matrix."""
    words = [*tiny, "quality.points=200", "train.steps=0", "plots.gif=false", "hydra.run.dir=run"]
    monkeypatch.setattr(sizes, "memory_bytes", lambda: 319_999)
    outcome = command(*words)
    assert outcome.code == 2
    assert "quality.points is 200 and needs 0.00032 GB of memory, there are 0.00032" in outcome.err
    monkeypatch.setattr(sizes, "memory_bytes", lambda: 320_000)
    assert command("check", *words).code == 0


def test_chain_steps_are_those_of_the_longest_chain():
    config = {
        "samples": {"count": 101, "chains": 50, "burn_in": 7, "thin": 10},
        "diagnostics": {"chains": 4, "draws": 8, "thin": 3},
    }
    assert chain_steps(config) == {"samples": 7 + 2 * 10, "diagnostics": 7 + 8 * 3}


def test_many_chain_steps_are_announced(command, tiny):
    outcome = command("check", *tiny, "samples.burn_in=200000")
    assert outcome.code == 0
    assert "samples take 200,000 steps of each chain" in outcome.lines
