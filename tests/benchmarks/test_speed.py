"""The comparison of benchmarks/peers.py runs from end to end, and names what it leaves out."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from processes import HANG_S

PEERS = Path(__file__).resolve().parents[2] / "benchmarks" / "peers.py"


@pytest.mark.slow
def test_rows_ratios_and_reasons(tmp_path):
    out = tmp_path / "found.json"
    told = subprocess.run(
        [sys.executable, PEERS, "--quick", "--methods", "pcd", "--sweeps", "batch", "--out", out,
         "--tools", "ebmtrain", "by_hand", "floor"],
        capture_output=True, text=True, timeout=HANG_S,
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
    assert {(row["tool"], row["batch"]) for row in found["sweeps"]} == {
        (tool, batch) for tool in rows for batch in (16, 32)
    }
    assert "| B 16 to 32 | by_hand |" in told.stdout
    assert out.with_suffix(".png").exists()
    assert rows["floor"]["ratio_to_floor"] == 1
    assert rows["ebmtrain"]["ratio_to_floor"] == rows["ebmtrain"]["ratio_to"]["floor"] > 1


@pytest.mark.slow
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
        "date": "", "machine": "", "rounds": 1, "versions": {}, "rows": rows,
        "first_epochs_cached_s": None, "missing": {"jax": "none"}, "failed": failed,
    }  # fmt: skip
    line = "jax (none); broken, pcd, B = 32, width 16, dim 2, k = 2 (KeyError: 'broken')."
    assert f"Without rows: {line}" in peers.table(found)


def test_slopes_of_a_law_that_is_known(monkeypatch):
    monkeypatch.syspath_prepend(str(PEERS.parent))
    import growth

    sweeps = [
        {"swept": name, "tool": "jax", name: x, "us_per_step": y}
        for name, law in (("k", lambda k: 30 + 2.5 * k), ("width", lambda w: 0.1 * w**2))
        for x in (4, 1, 16) for y in [law(x)]
    ]  # fmt: skip
    assert growth.of(sweeps, "width", "jax") == [(1, 0.1), (4, 1.6), (16, 25.6)]
    assert growth.power(growth.of(sweeps, "width", "jax")) == pytest.approx(2)
    assert growth.line(growth.of(sweeps, "k", "jax")) == pytest.approx((30, 2.5, 0))
    bent = growth.line([(1, 1.0), (2, 2.0), (3, 4.0)])
    assert 0.1 < bent[2] < 0.3
    for row in sweeps:
        row["method"] = "pcd"
    rows = growth.table(sweeps).splitlines()
    assert rows[-2] == "| k 1 to 16 | jax | 32 | 70 | 0.28 | 0.40 | 30 | 2.50 | 0% |"
    assert rows[-1] == "| width 1 to 16 | jax | 0 | 26 | 2.00 | 2.00 | | | |"


def test_sweeps_are_shortened_by_their_operations(monkeypatch):
    monkeypatch.syspath_prepend(str(PEERS.parent))
    import peers

    settings = [replace(peers.BASE, width=width) for width in (32, 128, 1024)]
    assert [peers.for_a_sweep(s).steps for s in settings] == [80, 80, 8]
    assert peers.able(["jax", "torchebm", "torchebm_defaults"], "ed") == ["jax"]


def test_text_goes_into_its_place_in_the_page(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(PEERS.parent))
    import page

    path = tmp_path / "page.md"
    path.write_text("a\n<!-- b: by c -->\nold\n<!-- end of b -->\n<!-- d: -->\n<!-- end of d -->\n")
    page.put("b", "new", path)
    page.put("b", "newer", path)
    assert path.read_text() == (
        "a\n<!-- b: by c -->\nnewer\n<!-- end of b -->\n<!-- d: -->\n<!-- end of d -->\n"
    )
    with pytest.raises(ValueError, match="not enough values"):
        page.put("e", "", path)
    for name in ("table", "growth"):
        assert page.PAGE.read_text().count(f"<!-- end of {name} -->") == 1
