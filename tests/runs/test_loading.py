"""`ebmtrain.load` and what it returns leave the settings of the caller's process as they are."""

from __future__ import annotations

import os
import pydoc
from pathlib import Path
from typing import Any

import pytest
import torch

import ebmtrain
from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.config.ensemble import build_members
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.launch import run_experiment
from ebmtrain.runtime import native


def process_settings() -> dict[str, Any]:
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "native": native.enabled(),
        "float32 products": torch.backends.cuda.matmul.fp32_precision,
        "float32 convolutions": torch.backends.cudnn.conv.fp32_precision,
        "environment": {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"},
    }


@pytest.fixture
def caller_settings():
    """Settings that differ from those of the runs below; restored at the end."""
    threads, wanted = torch.get_num_threads(), native.enabled()
    mode = torch.get_deterministic_debug_mode()
    torch.set_num_threads(2)
    torch.set_deterministic_debug_mode("default")
    native.set_enabled(True)
    yield process_settings()
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(mode)
    native.set_enabled(wanted)


@pytest.fixture(scope="module")
def deterministic_run(configured, tmp_path_factory) -> Path:
    words = ("method=dsm", "device.deterministic=true", "device.native=false", "device.threads=1")
    path = tmp_path_factory.mktemp("loading") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFigures, "draw_landscape", lambda *_: None)
        patch.setattr(RunFigures, "draw_all", lambda *_: [])
        run_experiment(build(configured(*words)), path, {}, quiet=True)
    return path


def test_loading_a_run_does_not_change_process_settings(deterministic_run, caller_settings):
    run = ebmtrain.load(deterministic_run)
    assert process_settings() == caller_settings
    run.energy(torch.zeros(3, 2))
    assert process_settings() == caller_settings
    run.sample(10, burn_in=1)
    assert process_settings() == caller_settings


def test_a_run_prints_as_one_line(deterministic_run):
    run = ebmtrain.load(deterministic_run)
    name = f"Run({str(deterministic_run)!r}, MLP, DenoisingScoreMatching, step 20, finished)"
    assert repr(run) == name


def test_the_former_name_of_experiment_warns(deterministic_run):
    run = ebmtrain.load(deterministic_run)
    with pytest.warns(DeprecationWarning, match="Run.parts is now Run.experiment") as caught:
        assert run.parts is run.experiment
    assert len(caught) == 1
    assert caught[0].filename == __file__


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_composition_has_the_settings_of_its_own_configuration(
    deterministic_run, tiny, caller_settings, deterministic
):
    """Its parts were saved with other settings."""
    words = [w for w in tiny if not w.startswith(("model.", "dataset.", "train.steps", "device."))]
    own = [
        "model=composition", f"model.runs=[{deterministic_run}]", "train.steps=0",
        "device.threads=2", f"device.deterministic={deterministic}",
    ]  # fmt: skip
    build_members(presets.compose_config([*words, *own]))
    assert torch.are_deterministic_algorithms_enabled() is deterministic
    assert torch.get_num_threads() == 2
    assert native.enabled()


def test_the_interface_can_be_explored():
    """As in a notebook."""
    assert {"load", "Run", "train"} <= set(dir(ebmtrain))
    for name in ("energy", "score_samples", "sample", "inpaint", "denoise", "log_z"):
        assert "units" in (pydoc.render_doc(getattr(ebmtrain.Run, name)))


def test_scores_without_log_z_are_known_up_to_a_constant(deterministic_run):
    run = ebmtrain.load(deterministic_run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ebmtrain.Run, "log_z", None)
        x = torch.zeros(3, 2)
        with pytest.warns(UserWarning, match="log Z of step 20 is not known"):
            assert torch.equal(run.score_samples(x), -run.energy(x) / run.temperature)
