"""Run directories as training leaves them, written in a moment."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ebmtrain.runs.storage.rundir import RunDir

WriteRun = Callable[..., Path]


@pytest.fixture(scope="session")
def plain_config(configured) -> dict[str, Any]:
    return configured()


@pytest.fixture
def write_run(plain_config) -> WriteRun:
    """A run of `seed` that took `n` evaluations of its energy and a second per step, evaluated
    at steps 0, 10 and 20 with these values of KL."""

    def write(
        path: Path, *, kl: tuple[float, ...] = (2.0, 0.5, 0.1), seed: int = 0, lr: float = 1e-3,
        n: int = 100, status: str = "finished", error: str | None = None, picture: bool = True,
        **result: Any,
    ) -> Path:  # fmt: skip
        config = copy.deepcopy(plain_config)
        config["seed"] = config["dataset"]["seed"] = seed
        config["optimizer"]["lr"] = lr
        choices = {
            "dataset": "five_gaussians",
            "method": "pcd",
            "model": "mlp",
            "optimizer": "adam",
        }
        run = RunDir.create(path, config, {"choices": choices})
        for i, value in enumerate(kl):
            run.log_row({"step": 10 * i, "seconds": 10.0 * i, "energy_evaluations": 10 * i * n,
                         "kl": value, "nll": value + 2})  # fmt: skip
            run.log_row({"step": 10 * i + 5, "seconds": 10.0 * i + 5, "loss": 1.0})
        last = 10 * (len(kl) - 1)
        written = {
            "status": status, "step": last, "seconds": float(last), "energy_evaluations": last * n,
            "metrics": {"kl": kl[-1], "nll": kl[-1] + 2, "mode_weights": [0.5, 0.5]},
            "error": error, **result,
        }  # fmt: skip
        run.write_json("result.json", written)
        if picture:
            (path / "plots").mkdir()
            Image.new("RGB", (80, 60), "green").save(path / "plots/landscape_final.png")
        return path

    return write
