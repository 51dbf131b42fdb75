"""The comparison of benchmarks/peers.py runs from end to end, and names what it leaves out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1] / "benchmarks" / "peers.py"


def test_rows_ratios_and_reasons(tmp_path):
    out = tmp_path / "found.json"
    told = subprocess.run(
        [sys.executable, PEERS, "--quick", "--methods", "pcd", "--sweeps", "none", "--out", out,
         "--tools", "ebmtrain", "by_hand", "floor"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    found = json.loads(out.read_text())
    rows = {row["tool"]: row for row in found["rows"]}
    assert set(rows) == {"ebmtrain", "by_hand", "floor"}
    assert "Without rows" not in told.stdout
    for row in rows.values():
        assert (row["method"], row["batch"]) == ("pcd", 32)
        assert 0 < row["us_per_step"] < 1e6
        assert row["peak_mb"] > 10
    assert rows["floor"]["ratio_to_floor"] == 1
    assert rows["ebmtrain"]["ratio_to_floor"] == rows["ebmtrain"]["ratio_to"]["floor"] > 1


def test_what_is_not_installed_or_fails_is_named(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(PEERS.parent))
    import peers

    monkeypatch.setitem(peers.NEEDS, "jax", ("json", "no_such_package"))
    assert peers.missing(["floor", "jax"]) == {"jax": "no_such_package not installed"}
    failed: list = []
    rows = peers.measured(["floor", "broken"], peers.QUICK, 1, 1, str(tmp_path), failed)
    assert [row["tool"] for row in rows] == ["floor"]
    assert [(row["tool"], row["reason"]) for row in failed] == [("broken", "KeyError: 'broken'")]
    found = {
        "date": "", "machine": "", "threads": 1, "rounds": 1, "versions": {}, "rows": rows,
        "first_epochs_cached_s": None, "missing": {"jax": "none"}, "failed": failed,
    }  # fmt: skip
    line = "jax (none); broken, pcd, B = 32, width 16, dim 2, k = 2 (KeyError: 'broken')."
    assert f"Without rows: {line}" in peers.table(found)
