"""A model whose conditional densities are known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.launch import run_experiment

ROWS = np.random.default_rng(0).normal(size=(200, 3))
ROWS = np.array([1000.0, -5.0, 0.3]) + ROWS @ [[3.0, 40.0, 0.01], [0, 20.0, 0], [0, 0, 0.02]]


@pytest.fixture(scope="session")
def gaussian_run(tiny_file, tmp_path_factory) -> Callable[..., Path]:
    """A Gaussian that has learnt three numbers of different size, which hang together."""

    def trained(*words: str) -> Path:
        folder = tmp_path_factory.mktemp("gaussian")
        np.save(folder / "rows.npy", ROWS)
        small = [w for w in tiny_file if not w.startswith("model.")]
        small += ["dataset=file", f"dataset.path={folder / 'rows.npy'}", "train.steps=100"]
        small += ["model=gaussian", "optimizer.lr=0.05", *words]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RunFigures, "draw_landscape", lambda *_: None)
            patch.setattr(RunFigures, "draw_all", lambda *_: [])
            run_experiment(
                build(presets.to_plain(presets.compose_config(small))),
                folder / "run",
                {},
                quiet=True,
            )
        return folder / "run"

    return trained
