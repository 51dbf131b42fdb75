"""The manual as a site: built without a warning, with a page for each method and a row for each
option."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ebmtrain.config.preset_files import BUILT_IN, groups, options, read_options

ROOT = Path(__file__).resolve().parent.parent

_FOREIGN = re.compile(r'<(?:script|img|link)[^>]*(?:src|href)="https?:')


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder], cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder


@pytest.mark.slow
def test_the_site_has_every_page_and_option_and_loads_nothing_foreign(site):
    for name in options([BUILT_IN], "method"):
        text = (site / f"methods/{name}/index.html").read_text()
        assert "Formula and source" in text
        assert f"ebmtrain method={name}" in text
    table = (site / "options/index.html").read_text()
    for group in groups([BUILT_IN]):
        for name, path in options([BUILT_IN], group).items():
            assert f"<code>{group}={name}</code>" in table
            prefix = "" if group == "experiment" else f"{group}."
            for option in read_options(path):
                assert not option.value or f"<code>{prefix}{option.key}</code>" in table
    for page in site.rglob("*.html"):
        found = re.findall(
            r'<(?:script|img|link)[^>]*(?:src|href)="(https?:[^"]+)', page.read_text()
        )
        assert not found, page
    assert "score_samples" in (site / "python/index.html").read_text()


def test_the_table_of_methods_names_each():
    text = (ROOT / "docs/choose.md").read_text(encoding="utf-8")
    chosen = set(re.findall(r"`(\w+)`", text))
    assert set(options([BUILT_IN], "method")) <= chosen
