"""A job is one function of a configuration, which any process can start."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from processes import HANG_S

from ebmtrain.cli.train import run_job
from ebmtrain.config import hydra_private, presets
from ebmtrain.config.presets import Presets
from ebmtrain.runs.storage.manifest import Manifest


def result(path: Path) -> dict:
    return json.loads((path / "result.json").read_text())


def in_a_new_process(pickled: bytes, cwd: Path) -> float | None:
    os.chdir(cwd)
    return run_job(pickle.loads(pickled), command=["ebmtrain", "typed"])


def test_a_job_runs_in_its_own_process(folder: Path, tiny):
    config = Presets().compose([*tiny, "plots.gif=false"])
    hydra_private.set_runtime(config, "output_dir", str(folder / "run"))
    config.hydra.mode = "RUN"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        objective = pool.apply(in_a_new_process, (pickle.dumps(config), folder))
    told = result(folder / "run")
    assert told["status"] == "finished"
    assert objective == told["best"]["value"]
    assert told["best"]["metric"] == "nll"
    assert json.loads((folder / "run/run.json").read_text())["command"] == ["ebmtrain", "typed"]


@pytest.mark.usefixtures("no_pictures")
def test_a_job_runs_twice_in_one_process(folder: Path, tiny):
    """Nothing of the first one is left: no stamp, no directory, no error."""
    path, argv = list(sys.path), list(sys.argv)
    for name in ("one", "two"):
        config = Presets().compose([*tiny, "train.steps=2", f"seed={len(name)}"])
        hydra_private.set_runtime(config, "output_dir", str(folder / name))
        assert run_job(config) == result(folder / name)["best"]["value"]
    assert sys.argv == argv
    assert sys.path in (path, [*path, str(folder)])


@pytest.mark.usefixtures("no_pictures")
def test_a_landscape_has_no_objective(folder: Path, tiny):
    words = [w for w in tiny if not w.startswith(("model.", "train.steps"))]
    config = Presets().compose([*words, "model=double_well", "train.steps=0"])
    hydra_private.set_runtime(config, "output_dir", str(folder / "run"))
    assert run_job(config) is None
    assert result(folder / "run")["status"] == "finished"


@pytest.mark.parametrize(
    ("kind", "place"),
    [("run", "outputs/moons/pcd_mlp/{}_s3"), ("ensemble", "outputs/sweeps/{}_moons"),
     ("landscape", "outputs/landscapes/mlp/{}_s3")],
)  # fmt: skip
def test_the_kind_determines_the_output_folder(kind, place, monkeypatch):
    monkeypatch.setattr(presets.secrets, "token_hex", lambda _: "abcd")
    config = Presets().compose(["dataset=moons", "seed=3"])
    presets.set_kind(config, kind)
    with hydra_private.current_config(config):
        found = config.hydra.run.dir
    before, _, after = place.partition("{}")
    assert found.startswith(before)
    assert found.endswith(f"-abcd{after}")


@pytest.mark.slow
def test_jobs_run_in_parallel(folder: Path, tiny):
    """By Hydra's joblib launcher."""
    words = ["-m", *tiny, "train.steps=2", "plots.every=0", "hydra/launcher=joblib"]
    words += ["hydra.launcher.n_jobs=2", "optimizer.lr=0.001,-1"]
    arguments = [sys.executable, "-m", "ebmtrain", *words]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=HANG_S, cwd=folder)
    assert (done.returncode, done.stderr) == (1, "")  # of the second job
    (sweep,) = (folder / "outputs/sweeps").iterdir()  # one folder, with the default name
    assert [result(sweep / job.folder)["status"] for job in Manifest.read(sweep).jobs] == [
        "finished", "failed"
    ]  # fmt: skip
    assert "(2 jobs, 1 failed)" in done.stdout
    assert (sweep / "summary.md").exists()


@pytest.mark.usefixtures("no_pictures")
def test_the_former_callback_of_old_configurations_is_ignored(command, folder: Path, tiny):
    (folder / "own").mkdir()
    text = (presets.BUILT_IN / "config.yaml").read_text()
    callback = "  callbacks:\n    before_run:\n      _target_: ebmtrain.commands.train.BeforeRun\n"
    (folder / "own/config.yaml").write_text(text + callback)
    outcome = command("--config-dir", "own", *tiny, "train.steps=2", "hydra.run.dir=run")
    assert (outcome.code, outcome.err) == (0, "")


def test_the_package_runs_as_a_module(folder: Path):
    arguments = [sys.executable, "-m", "ebmtrain", "--cfg", "job", "method=dsm"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "DenoisingScoreMatching" in done.stdout


SWEEPER = """
from hydra.plugins.sweeper import Sweeper

class Grid(Sweeper):
    def __init__(self, jobs, **_): self.jobs = jobs
    def setup(self, *, hydra_context, task_function, config):
        from hydra.core.plugins import Plugins
        self.launcher = Plugins.instance().instantiate_launcher(
            config=config, hydra_context=hydra_context, task_function=task_function)
    def sweep(self, arguments):
        done = self.launcher.launch([[*arguments, *job] for job in self.jobs], 0)
        open("objectives.txt", "w").write(repr([one.return_value for one in done]))
"""


@pytest.mark.slow
def test_a_sweeper_gets_a_number_from_every_job(folder: Path, tiny_file):
    """An optimising sweeper compares them: nll where it is measured, the energy distance of five
    columns, whose NLL is not; and infinity for a job that diverges or cannot start."""
    (folder / "hydra_plugins/grid").mkdir(parents=True)
    (folder / "hydra_plugins/grid/__init__.py").write_text(SWEEPER)
    for d in (2, 5):
        np.save(f"d{d}.npy", np.random.default_rng(0).normal(size=(60, d)))
    quick = [*tiny_file, "dataset=file", "train.steps=2", "plots.every=0"]
    jobs = [["dataset.path=d2.npy"], ["dataset.path=d5.npy"], ["dataset.path=none.npy"]]
    own = ["hydra.sweeper._target_=hydra_plugins.grid.Grid", f"+hydra.sweeper.jobs={jobs}"]
    own = [*own, "hydra.sweep.dir=sweep"]
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    arguments = [sys.executable, "-m", "ebmtrain", "-m", *quick, *own]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 1, done.stderr  # of the third job
    told = [result(folder / f"sweep/{i}_{job[0]}") for i, job in enumerate(jobs[:2])]
    wanted = [told[0]["best"]["value"], told[1]["metrics"]["energy_distance"], float("inf")]
    assert told[0]["best"]["metric"] == "nll"
    assert (folder / "objectives.txt").read_text() == repr(wanted)
