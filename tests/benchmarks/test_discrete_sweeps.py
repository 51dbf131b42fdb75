"""The bare loops of benchmarks/discrete.py sample what ebmtrain samples."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rbm", "potts"])
def test_both_have_the_same_distribution(name, monkeypatch):
    """Mean code of each site after 5 sweeps, from the same start: a chi-squared statistic."""
    monkeypatch.syspath_prepend(FOLDER)
    sys.modules.pop("discrete", None)
    import discrete

    with torch.no_grad():
        ours, bare = (sweeps(5).double() for sweeps in getattr(discrete, name)())
    variance = (ours.var(0) + bare.var(0)) / len(ours)
    chi = ((ours.mean(0) - bare.mean(0)).square() / variance.clamp(min=1e-12))[variance > 1e-4]
    assert len(chi) > 100
    assert abs(float(chi.mean()) - 1) < 6 * (2 / len(chi)) ** 0.5
    assert float(ours.var(0).mean()) > 0.1
