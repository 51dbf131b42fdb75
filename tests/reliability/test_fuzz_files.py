"""A few dozen of the random user files; `fuzz_files.py` reads thousands."""

from __future__ import annotations

import numpy as np
import pytest
from fuzz_files import FAILURES, SETTINGS, Case, fuzz, run_case, settings


@pytest.mark.parametrize("seed", [0, 1])
def test_random_files_are_read_as_other_readers_read_them_or_refused(seed):
    found = fuzz(50, seed)
    verdicts = [verdict for _, verdict, _ in found]
    assert [f for f in found if f.verdict in FAILURES] == []
    assert min(verdicts.count(v) for v in ("read", "noted", "refused")) > 0


def test_a_wrong_reading_and_an_unneeded_refusal_are_findings(tmp_path):
    x = np.random.default_rng(0).normal(size=(9, 2))
    np.save(tmp_path / "x.npy", x)
    (tmp_path / "x.csv").write_text("a,b\n1,z\n")
    assert run_case(Case("array", tmp_path / "x.npy", lambda: x)).verdict == "read"
    assert run_case(Case("array", tmp_path / "x.npy", lambda: x[:, ::-1])).verdict == "wrong"
    assert run_case(Case("array", tmp_path / "x.npy", lambda: None)).verdict == "wrong"
    bad = run_case(Case("table", tmp_path / "x.csv", lambda: None, clean=True))
    assert bad.verdict == "refused though clean"
    text = run_case(Case("table", tmp_path / "x.csv", lambda: None))
    assert text.verdict == "refused"
    unknown = run_case(Case("table", tmp_path / "x.csv", lambda: None, options={"no": 1}))
    assert unknown.verdict == "unexpected"


@pytest.mark.slow
def test_settings_of_other_programs_change_nothing(tmp_path):
    found = run_case(settings(np.random.default_rng(3), tmp_path, 0))
    assert found.verdict in ("read", "refused"), found
    (tmp_path / "red").mkdir()
    (tmp_path / "red/matplotlibrc").write_text("figure.facecolor: red\ntext.usetex: True\n")
    assert run_case(Case(SETTINGS, tmp_path / "red", lambda: None)).verdict == "read"
