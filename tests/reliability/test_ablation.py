"""Every item of a checkpoint matters: what is missing is refused, what is not put back is seen.

A run is resumed for one update with one item as it is in a fresh run, as if nobody had saved it.
Then the states, rows and results must differ from those of the run that was never stopped, or else
the item is of no use, or the comparison is blind.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from kills import METHODS, configuration
from same_state import differences, load, result, run_differences

import ebmtrain
from ebmtrain.config.build import build
from ebmtrain.config.experiment import Experiment
from ebmtrain.errors import EbmtrainError
from ebmtrain.runs.launch import resume, run_experiment
from ebmtrain.runs.session import Session
from ebmtrain.runs.storage.checkpoint_format import encode

FROM, TO = 6, 7  # between two rows, after two evaluations: nothing is at its first value
FREE = ("measured/metrics", "measured/warnings")  # whatever was measured
LONG = 1e6  # seconds that the first session is said to have taken


Stopped = tuple[Path, Path, Experiment]


@pytest.fixture(scope="module", params=("pcd", "nce", "jarzynski"))  # all of them: make soak
def stopped(request, tmp_path_factory) -> Iterator[Stopped]:
    with stop_run(request.param, tmp_path_factory.mktemp(request.param)) as runs:
        yield runs


@contextmanager
def stop_run(method: str, folder: Path) -> Iterator[Stopped]:
    """A run that stopped at TO, the same as it was at FROM, and its parts."""
    config = configuration(
        *METHODS[method], "train.log_every=5", "evaluation.every=3", "checkpoint.keep=100"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ebmtrain.runs.figures.RunFigures.draw_landscape", lambda *_: None)
        patch.setattr(Session, "seconds", LONG)
        update = Session.save

        def save(self: Session, state: Any, now: bool) -> None:
            self.next_step = state.step + 1  # type: ignore[attr-defined]
            update(self, state, now)

        patch.setattr(Session, "save", save)
        patch.setattr(Session, "should_stop", lambda self: self.next_step == TO)
        run_experiment(build(config), folder / "whole", {}, quiet=True)
        shutil.copytree(folder / "whole", folder / "at")
        patch.undo()
        patch.setattr("ebmtrain.runs.figures.RunFigures.draw_landscape", lambda *_: None)
        patch.setattr(Session, "should_stop", lambda _: True)
        (folder / "at/checkpoints/last.pt").unlink()
        (folder / f"at/checkpoints/step_{TO:08d}.pt").unlink()
        yield folder / "whole", folder / "at", build(config)


def with_state(run: Path, state: dict[str, Any], target: Path) -> Path:
    shutil.copytree(run, target)
    body = {name: value for name, value in state.items() if name != "format"}
    (target / f"checkpoints/step_{FROM:08d}.pt").write_bytes(encode(body))
    return target


def places(value: Any, where: str = "") -> Iterator[str]:
    """Of all names and list items in a state, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        place = f"{where}{key}"
        yield place
        if isinstance(item, dict | list | tuple) and place not in FREE:
            yield from places(item, f"{place}/")


def at(state: Any, place: str) -> tuple[Any, Any]:
    """What holds an item, and its key there."""
    *above, last = place.split("/")
    for name in above:
        state = state[int(name)] if isinstance(state, list | tuple) else state[key_of(state, name)]
    return state, int(last) if isinstance(state, list) else key_of(state, last)


def key_of(holder: Any, name: str) -> Any:
    return (
        next(key for key in holder if str(key) == name) if isinstance(holder, dict) else int(name)
    )


def undetected_omissions(stopped: Stopped, folder: Path, within: str = "") -> tuple[int, list[str]]:
    """How many names were left out, at any depth, and those that were not missed. They are refused,
    or seen: torch initializes missing moments. Only places that begin with `within` count."""
    whole, run, _ = stopped
    state, tried, unmissed = load(run / f"checkpoints/step_{FROM:08d}.pt"), 0, []
    for number, place in enumerate(p for p in places(state) if p.startswith(within)):
        less = copy.deepcopy(state)
        holder, key = at(less, place)
        if not isinstance(holder, dict) or place == "format":  # see test_checkpoint_format.py
            continue
        del holder[key]
        unmissed += [] if compared(whole, run, less, folder / f"without-{number}") else [place]
        tried += 1
    return tried, unmissed


def reset_items(
    state: dict[str, Any], fresh: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The saved state with one item as in a fresh run, for each item."""
    for name in ("step", "generator", "evaluations", "window", "metrics_size"):
        yield name, state | {name: fresh[name]}
    yield "best", state | {"best": {}}
    yield "average", state | {"average": state["energy"]}
    for name, empty in (("step", None), ("metrics", {}), ("warnings", ["none"])):
        yield f"measured/{name}", state | {"measured": state["measured"] | {name: empty}}
    for group in ("energy", "average", "method"):
        for name in state[group]:
            yield f"{group}/{name}", state | {group: state[group] | {name: fresh[group][name]}}
    for index, moments in state["optimizer"]["state"].items():
        for name, value in moments.items():
            less = copy.deepcopy(state)
            less["optimizer"]["state"][index][name] = torch.zeros_like(value)
            yield f"optimizer/{index}/{name}", less


def undetected_resets(stopped: Stopped, folder: Path, within: str = "") -> tuple[int, list[str]]:
    """The same of items that are as in a fresh run."""
    whole, run, _ = stopped
    state = load(run / f"checkpoints/step_{FROM:08d}.pt")
    fresh = load(run / f"checkpoints/step_{0:08d}.pt")
    assert compared(whole, run, state, folder / "nothing") == []
    tried, unmissed = 0, []
    for name, less in reset_items(state, fresh):
        if (
            not name.startswith(within) or differences(state, less) == []
        ):  # a method that draws nothing, a moment that is 0
            continue
        unmissed += [] if compared(whole, run, less, folder / f"fresh-{tried}") else [name]
        tried += 1
    return tried, unmissed


def own_items(stopped: Stopped) -> str:
    """Of all methods but the first, the items of the method itself are enough: make soak tries the
    others."""
    return "" if stopped[0].parent.name.startswith("pcd") else "method"


@pytest.mark.slow
def test_a_missing_item_is_refused_or_detected(stopped, tmp_path):
    within = own_items(stopped)
    tried, unmissed = undetected_omissions(stopped, tmp_path, within)
    assert unmissed == []
    assert tried >= (2 if within else 60)


@pytest.mark.slow
def test_an_item_that_is_not_restored_is_detected(stopped, tmp_path):
    within = own_items(stopped)
    tried, unmissed = undetected_resets(stopped, tmp_path, within)
    assert unmissed == []
    assert tried >= (1 if within else 25)


def compared(whole: Path, run: Path, state: dict[str, Any], target: Path) -> list[str]:
    """Differences after one more update. A refusal is one."""
    path = with_state(run, state, target)
    try:
        resume(path, quiet=True)
    except EbmtrainError as error:
        return [str(error)]
    return run_differences(whole, path)


@pytest.mark.slow
def test_seconds_include_earlier_sessions(stopped, tmp_path):
    _, run, _ = stopped
    state = load(run / f"checkpoints/step_{FROM:08d}.pt")
    for number, seconds in enumerate((LONG, 0.0)):
        path = with_state(run, state | {"seconds": seconds}, tmp_path / str(number))
        resume(path, quiet=True)
        told = load(path / "checkpoints/last.pt")["seconds"]
        assert (told >= LONG) == (seconds >= LONG)


@pytest.mark.parametrize("name", ["shift", "scale", "low", "high"])
def test_the_data_spec_is_needed_to_load_a_model(stopped, tmp_path, name):
    """Training takes it from the data; whoever has no data takes it from here."""
    _, run, experiment = stopped
    if "pcd" not in str(run):
        pytest.skip("the same for every method")
    state = load(run / f"checkpoints/step_{FROM:08d}.pt")
    other = state["frame"] | {name: state["frame"][name] * 1.5}
    points = [
        ebmtrain.load(with_state(run, s, tmp_path / str(i))).sample(20, start="noise", burn_in=0)
        for i, s in enumerate((state, state | {"frame": other}))
    ]
    assert not torch.equal(*points)
    assert differences(experiment.data_spec.state_dict(), state["frame"]) == []
    assert result(run)["status"] == "interrupted"
