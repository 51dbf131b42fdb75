"""Sizes that cannot work are refused before the run directory exists."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import pytest
import yaml

from ebmtrain.config import presets, sizes
from ebmtrain.config.build import build
from ebmtrain.config.sizes import chain_steps
from ebmtrain.errors import ConfigError, DataError


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
        ("method.k=100000000000", "an update takes 1e+11 steps of each chain"),
        ("quality.shuffles=100000000000", "quality.shuffles is 1e+11 and needs"),
        ("quality.projections=100000000000", "quality.projections is 1e+11 and needs"),
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
    steps = {"samples": 7 + 2 * 10, "diagnostics": 7 + 8 * 3}
    assert chain_steps(config).items() >= steps.items()
    leapfrog = chain_steps(config | {"sampler": {"n_leapfrog": 3}, "method": {"k": 2}})
    assert (leapfrog["samples"], leapfrog["an update"]) == (81, 6)


def test_many_chain_steps_are_announced(command, tiny):
    outcome = command("check", *tiny, "samples.burn_in=200000")
    assert outcome.code == 0
    assert "samples: 200,000 steps of each chain" in outcome.lines


FREE = {
    "seed": "a name",
    "train.steps": "what the user asks for; `check` tells the seconds",
    "*.every": "a period",
    "sampler.swap_every": "a period",
    "train.log_every": "a period",
    "checkpoint.keep": "at most as many files as there are saves",
    "sampler.sampler.anneal_steps": "the shape of a schedule",
    "dataset.density.side": "a length",
    "optimizer.schedule.warmup_steps": "the shape of a schedule",
    "method.sites": "at most those that there are",
    "method.moved*": "at most the walkers",
}
WITH = {
    "method/jem": ("dataset=iris", "model.classes=3"),
    "method/multi_dsm": ("model=noise_conditional_mlp",),
    "method/pseudo_likelihood": ("dataset=ising_samples", "sampler=gibbs"),
    "dataset/potts_samples": ("model=potts", "sampler=gibbs"),
    "model/film_mlp": ("method=dual",),
    "model/noise_conditional_mlp": ("method=multi_dsm",),
    "model/conv": ("dataset=digits",),
    "model/resnet": ("dataset=digits",),
    "dataset/sine_waves": ("model=lstm",),
    "evaluation/sine_waves": ("dataset=sine_waves", "model=lstm"),
    "sampler/annealed": ("method=cd", "method.k=200"),
} | {f"model/{name}": ("dataset=sine_waves",) for name in ("lstm", "transformer", "conv1d")}
UNREADABLE = (
    "dataset/cifar10",
    "dataset/idx",
    "dataset/image_folder",
    "dataset/file",
    "dataset/fasta",
)
"""Presets that need a path to data."""


def numbers(node: Any, path: str) -> Iterator[str]:
    """Dotted names of the whole numbers in a preset."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from numbers(value, f"{path}.{key}".strip("."))
    elif isinstance(node, int) and not isinstance(node, bool):
        yield path


def options() -> dict[str, str]:
    """Every whole number of the presets, with the first preset that has it."""
    found: dict[str, str] = {}
    for path in sorted(presets.BUILT_IN.rglob("*.yaml")):
        preset = str(path.relative_to(presets.BUILT_IN).with_suffix(""))
        group = preset.partition("/")[0] if "/" in preset else ""
        if group not in ("experiment", "recommended") and preset not in UNREADABLE:
            for key in numbers(yaml.safe_load(path.read_text(encoding="utf-8")), group):
                found.setdefault(key, preset)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("key", "preset"), options().items())
def test_a_number_that_sets_a_size_is_refused_when_it_is_huge(key, preset):
    group, _, name = preset.partition("/")
    choice = (f"{group}={name}",) if name else ()
    config = presets.to_plain(
        presets.compose_config([*choice, *WITH.get(preset, ()), f"{key}=1000000000000"])
    )
    if any(fnmatchcase(key, pattern) for pattern in FREE):
        build(config)
        return
    with pytest.raises((ConfigError, DataError)) as raised:
        build(config)
    words = str(raised.value)
    assert key.rpartition(".")[2] in words or f"{key.partition('.')[0]} needs more memory" in words
