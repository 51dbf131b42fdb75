"""One cache folder of torch's compiler for all tests of a session."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def inductor_cache(tmp_path_factory: pytest.TempPathFactory):
    """Nothing in it is from an earlier session. Workers of pytest-xdist share it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "inductor"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def compiler_cache(inductor_cache, monkeypatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(inductor_cache))
