"""The private interfaces of Hydra belong to one version of it."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

import ebmtrain
from ebmtrain.config import hydra_private
from ebmtrain.config.presets import Presets

PACKAGE = Path(ebmtrain.__file__).parent


def test_hydra_has_the_version_of_its_private_interfaces():
    installed = version("hydra-core")
    assert installed.startswith(f"{hydra_private.VERSION}."), (
        f"hydra-core {installed} is installed; ebmtrain/config/hydra_private.py uses private "
        f"interfaces of {hydra_private.VERSION}: compare each of them with the new version"
    )


def test_no_other_file_uses_private_interfaces():
    found = subprocess.run(
        ["grep", "-rlE", r"hydra\._internal|_option_string_actions|GlobalHydra|JobRuntime",
         "--include=*.py", str(PACKAGE)],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert [Path(name).name for name in found] == ["hydra_private.py"]


def test_command_line_flags_are_parsed():
    assert {"--cfg", "-m", "--multirun", "--config-dir"} <= set(hydra_private.flag_names())
    flags = hydra_private.parse_flags(["-m", "seed=0,1"])
    assert flags.multirun
    assert flags.overrides == ["seed=0,1"]


def test_jobs_of_sweepers():
    words = ["seed=range(0,3)", "method=cd,pcd", "train.steps=2", "hydra.mode=MULTIRUN"]
    config = hydra_private.load_config(Presets().loader(), words, multirun=True)
    jobs = hydra_private.sweep_jobs(config)
    assert len(jobs) == 6
    assert jobs[0] == ["seed=0", "method=cd", "train.steps=2"]
    config.hydra.sweeper._target_ = "somebody.Sweeper"
    assert hydra_private.sweep_jobs(config) == []


@pytest.mark.parametrize("kept", [True, False])
def test_former_callbacks_are_removed(kept):
    target = "somebody.Callback" if kept else "ebmtrain.commands.train.BeforeRun"
    config = Presets().compose([f"+hydra.callbacks.before_run._target_={target}"])
    hydra_private.remove_callbacks(config, ["ebmtrain.commands.train.BeforeRun"])
    assert ("before_run" in config.hydra.callbacks) is kept


def test_composing_does_not_change_hydra():
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    before = HydraConfig.instance().cfg
    config = Presets().compose([])
    with hydra_private.current_config(config):
        first = config.hydra.run.dir
        assert config.hydra.run.dir == first  # one stamp for a configuration
    assert HydraConfig.instance().cfg is before
    assert not GlobalHydra.instance().is_initialized()
