"""Killed at any moment and resumed, a run leaves the same bits as one that was never stopped.

Here a few kills per method, other ones for each; all points with their counts: make soak.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kills import METHODS, Reference, Server, server, several, spread

from ebmtrain.config import presets


@pytest.fixture(scope="module")
def do(tmp_path_factory) -> Iterator[Server]:
    with server() as running:
        yield running


@pytest.fixture(scope="module", params=METHODS)
def reference(request, do, tmp_path_factory) -> Reference:
    return Reference(do, request.param, tmp_path_factory.mktemp(request.param))


def test_the_list_of_methods_is_complete():
    assert sorted(METHODS) == sorted(presets.Presets().options("method"))


@pytest.mark.slow
def test_a_killed_run_resumes_bit_identically(reference: Reference):
    shift = 7 * list(METHODS).index(reference.method)
    for number in spread(reference.points, shift, 1):
        assert reference.killed(str(number), [number]) == [], reference.points[number - 1]


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["pcd", "jarzynski", "nce"], indirect=True)
def test_a_run_killed_five_times_resumes_bit_identically(reference: Reference):
    assert reference.killed("five", several(reference.points, 0)) == []


@pytest.mark.slow
def test_every_kind_of_kill_point_is_reached(do, tmp_path):
    """The names, so that none is lost by a change of what is wrapped."""
    names = set(Reference(do, "pcd", tmp_path).points)
    for call, file in {
        "open": "checkpoints/last.pt (new)", "write": "checkpoints/best.pt (new)",
        "fsync": "checkpoints/step_00000000.pt (new)", "replace": "checkpoints/last.pt (new)",
        "unlink": "checkpoints/step_00000000.pt", "mkdir": "checkpoints",
    }.items():  # fmt: skip
        assert {f"before {call} {file}", f"after {call} {file}"} <= names
    for file in ("checkpoints", ".", "metrics.jsonl"):
        assert f"after fsync {file}" in names
    for event in ("train_step", "evaluate", "log", "plot", "save", "_write_samples_and_figures"):
        assert {f"before {event} ", f"after {event} "} <= names
    assert {"within write metrics.jsonl", "within write checkpoints/last.pt (new)"} <= names
