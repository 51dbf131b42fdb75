"""`ebmtrain key=value ...` and `ebmtrain -m`: what is printed, written and imported."""

from __future__ import annotations

import csv
import itertools
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from processes import HANG_S, WITHOUT_PICTURES, wait_for

import ebmtrain
from ebmtrain.cli import habits
from ebmtrain.cli import multirun as sweep
from ebmtrain.cli.arguments import dotted_keys
from ebmtrain.config import presets
from ebmtrain.runs.summary import run_title

SOURCE = Path(ebmtrain.__file__).parents[1]
FILES = {
    "config.yaml", "run.json", "result.json", "run.log", "metrics.csv", "metrics.jsonl",
    "checkpoints/last.pt", "checkpoints/best.pt", "checkpoints/step_00000020.pt",
    "plots/landscape_final.png", "plots/samples_final.png", "plots/curves.png",
    "plots/progress.png", "plots/chains.png", "plots/landscape.gif", "samples/final.npz",
    "report.html",
}  # fmt: skip


def files_in(path: Path) -> set[str]:
    return {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}


def result(path: Path) -> dict:
    return json.loads((path / "result.json").read_text())


def ebm(*words: str, cwd: Path, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "ebmtrain", *words], cwd=cwd, text=True,
                          capture_output=True, timeout=HANG_S, **options)  # fmt: skip


# One run


@pytest.mark.slow
def test_a_run_writes_its_files(command, folder: Path, tiny):
    outcome = command(*tiny)
    assert outcome.code == 0
    assert outcome.err == ""
    (path,) = folder.glob("outputs/five_gaussians/pcd_mlp/*")
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}_s0", path.name)
    assert files_in(path) >= FILES
    config = yaml.safe_load((path / "config.yaml").read_text())
    assert config["dataset"]["seed"] == 0
    assert "hydra" not in config
    assert "${" not in (path / "config.yaml").read_text()
    about = json.loads((path / "run.json").read_text())
    assert about["choices"]["method"] == "pcd"
    assert about["versions"]["torch"] == torch.__version__
    told = result(path)
    assert (told["status"], told["step"], told["error"]) == ("finished", 20, None)
    assert set(told["metrics"]) == {
        "nll", "nll_se", "entropy", "kl", "regret", "log_z", "log_density_mse", "mode_weights",
        "mode_kl", "mmd2", "mmd2_floor", "energy_distance", "energy_distance_floor",
        "sliced_wasserstein", "sliced_wasserstein_floor", "ksd2", "ksd2_floor", "fisher_divergence",
        "mode_coverage", "mode_weights_samples", "mode_kl_samples", "temperature_fitted",
        "temperature_fitted_se", "chain_acceptance", "chain_jump_acceptance", "chain_age_mean",
        "chain_age_max", "restarts", "rhat", "ess_bulk", "ess_tail", "ess_per_evaluation",
        "energy_gap", "mode_weight_error", "mode_weight_error_se",
    }  # fmt: skip
    assert set(told["timings"]) == {"ess_per_second"}
    assert len(told["metrics"]["mode_weights"]) == 5
    assert outcome.lines[0] == (
        "model mlp  sampler mala  method pcd  dataset five_gaussians  optimizer adam"
    )
    assert f"KL       {told['metrics']['kl']:.4f} nats" in outcome.out
    shown = path.relative_to(folder)
    assert f"picture  {shown}/plots/landscape_final.png" in outcome.out
    assert f"ebmtrain sample {shown} count=1000" in outcome.out


def test_the_log_has_the_printed_lines(command, folder: Path, tiny, no_pictures):
    outcome = command(*tiny, "hydra.run.dir=run")
    logged = (folder / "run/run.log").read_text().splitlines()
    stamp = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING) ")
    assert all(stamp.match(line) for line in logged)
    assert [stamp.sub("", line) for line in logged] == outcome.lines
    assert sum(line.startswith("step ") for line in outcome.lines) == 5


def test_group_choices_and_values_are_recorded(command, folder: Path, tiny, no_pictures):
    words = [w for w in tiny if not w.startswith("method.")]
    outcome = command(*words, "method=dsm", "dataset=moons", "train.steps=7", "seed=3")
    assert outcome.code == 0
    (path,) = folder.glob("outputs/moons/dsm_mlp/*_s3")
    assert result(path)["step"] == 7
    with (path / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "5", "7"]


@pytest.mark.slow
def test_experiments_and_landscapes_run(command, folder: Path, tiny_file):
    words = [w for w in tiny_file if not w.startswith(("model.", "train.steps"))]
    outcome = command(*words, "experiment=landscape_rastrigin", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert result(folder / "run")["status"] == "finished"
    assert {"log_z", "rhat", "ess_bulk"} <= set(result(folder / "run")["metrics"])
    assert outcome.lines[0] == "model rastrigin  sampler mala"
    assert {"plots/landscape_final.png", "plots/chains.png", "samples/final.npz"} <= files_in(
        folder / "run"
    )
    again = command("resume", "run")
    assert again.code == 4
    assert "there is nothing to resume" in again.err
    file = folder / "run/result.json"
    file.write_text(file.read_text().replace('"finished"', '"running"', 1))  # as a kill leaves it
    assert command("resume", "run").code == 0
    assert json.loads(file.read_text())["status"] == "finished"


def test_a_landscape_has_its_own_output_folder(command, folder: Path, tiny, no_pictures):
    words = [w for w in tiny if not w.startswith(("model.", "train.steps"))]
    assert command(*words, "model=double_well", "train.steps=0").code == 0
    assert command(*tiny, "train.steps=0").code == 0  # an untrained network is none
    places = [path.parent.relative_to(folder).as_posix() for path in folder.glob("outputs/*/*/*")]
    assert sorted(places) == ["outputs/five_gaussians/pcd_mlp", "outputs/landscapes/double_well"]


@pytest.mark.slow
def test_an_unwritable_output_folder_is_refused(command, folder: Path, tiny, no_pictures):
    (folder / "afile").touch()
    before = sorted(folder.rglob("*"))
    for words, place in [
        (["hydra.run.dir=afile"], folder / "afile"),
        (["hydra.run.dir=afile/run"], folder / "afile/run"),
        (["hydra.run.dir=/proc/nothing"], "/proc/nothing"),
        (["-m", "seed=0,1", "hydra.sweep.dir=/proc/nothing"], "/proc/nothing"),
    ]:
        outcome = command(*words, *tiny)
        assert outcome.code == 6
        (line,) = outcome.err.splitlines()
        assert line.startswith(f"ebmtrain: cannot write {place}: ")
        assert line.endswith(
            "choose another hydra." + ("sweep.dir" if "-m" in words else "run.dir")
        )
        assert sorted(folder.rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "saying"),
    [
        (["sampler.target=0.5"], "did you mean sampler.adaptation.target?"),
        (["check", "sampler.target=0.5"], "did you mean sampler.adaptation.target?"),
        (["dataset.path=odd.csv"], "or dataset=file or dataset=idx or dataset=image_folder, which"),
        (["method.walkers=5"], "unknown key method.walkers: add method=jarzynski, which has it"),
        (["dataset=odd.csv"], "did you mean dataset=file dataset.path=odd.csv?"),
        (["dataset=mons"], "did you mean moons?"),
        (["--steps", "10"], "--steps is unknown: give train.steps=10"),
        (["--batch-size=3"], "--batch-size=3 is unknown: give train.batch_size=3"),
        (["--width", "4"], "--width is unknown: give model.width=4"),
        (["--resume", "old"], "--resume is unknown: give ebmtrain resume old"),
        (["--no-plots"], "--no-plots is unknown: give plots.every=0"),
        (["device=gpu"], "device=gpu is unknown: give device=cuda"),
        (["check", "device=gpu"], "device=gpu is unknown: give device=cuda"),
        (["check", "--epochs", "3"], "unknown flag --epochs: give train.epochs=3"),
        (["-m", "seed=0,1", "dataset=MNIST"], "give dataset=idx dataset.path=FOLDER"),
        (["lr=0.1"], "lr=0.1 is unknown: give optimizer.lr=0.1"),
        (["-m", "learning_rate=1,2"], "give optimizer.lr=1,2"),
        (["model.hidden=3"], "unknown key model.hidden: give model.width=..."),
        (["model.lr=3"], "unknown key model.lr; did you mean optimizer.lr?"),
        (["plots=none"], "plots=none is unknown: give plots.every=0"),
        (["method=PCD"], "unknown option method=PCD; did you mean pcd?"),
        (["dataset=data/odd.csv"], "did you mean dataset=file dataset.path=data/odd.csv?"),
        (["method=pcd", "list"], "list cannot be read: it is no key=value: give ebmtrain list"),
        (
            ["dataset=file", "dataset.path=a,b.csv"],
            "a single value with commas as 'dataset.path=\"a",
        ),
        (["help"], "there is no verb help: ebmtrain -h"),
        (["eval", "x"], "there is no verb eval: ebmtrain evaluate RUN"),
        (["--multirn"], "did you mean --multirun?"),
        (["train.steps"], "train.steps is given no value: train.steps=..."),
        (["method"], "method is given no value: method=..."),
        (["train"], "there is no verb train: type ebmtrain method=pcd"),
        (["train", "x.csv"], "type ebmtrain dataset=file dataset.path=x.csv"),
        (["fit", "moons", "seed=1"], "type ebmtrain dataset=moons seed=1"),
        (["gpu"], "gpu is no verb and no key=value: give device=cuda"),
        (["x.csv"], "x.csv is no verb and no key=value: give dataset=file dataset.path=x.csv"),
        (["pcd"], "pcd is no verb and no key=value: give method=pcd"),
        (["seed=1", "gpu"], "gpu cannot be read: it is no key=value: give device=cuda"),
        (["device.gpu=true"], "unknown key device.gpu: give device=cuda"),
        (["-v"], "-v is unknown: give --debug"),
        (["-o", "out"], "-o is unknown: give hydra.run.dir=out"),
        (["resume", "--latest"], "unknown flag --latest: give ebmtrain resume RUN"),
        (["evalute", "x"], "unknown verb evalute; did you mean evaluate?"),
        (["model._target_=ebmtrain.models.mlp.MPL"], "ebmtrain.models.mlp has no MPL; did you"),
        (["model._target_=nowhere.Model"], "there is no nowhere to import 'nowhere.Model' from"),
    ],
)
def test_misspelt_arguments_get_a_proposal(command, folder: Path, words, saying):
    outcome = command(*words)
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert saying in line
    assert list(folder.iterdir()) == []


def test_problems_of_several_kinds_are_told_together(command, folder: Path):
    outcome = command("check", "quality.points=1", "train.stepps=3", "optimizer.lrr=1")
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        "ebmtrain: 3 problems",
        "  - unknown key train.stepps; did you mean train.steps?",
        "  - unknown key optimizer.lrr; did you mean optimizer.lr?",
        "  - quality.points must be greater than or equal to 2, got 1",
    ]


def test_a_sweep_over_missing_data_writes_nothing(command, folder: Path, tiny_file):
    words = ["dataset=file", "dataset.path=none.csv", "seed=0,1", "hydra.sweep.dir=sweep"]
    outcome = command("-m", *tiny_file, *words)
    assert outcome.code == 2
    assert "none.csv does not exist" in outcome.err
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("no_pictures")
def test_a_sweep_of_one_job_says_so(command, folder: Path, tiny):
    outcome = command("-m", *tiny, "train.steps=1", "hydra.sweep.dir=sweep")
    assert outcome.code == 0
    assert outcome.lines[0].startswith("one job: no option has several values")
    assert "(1 job, 0 failed)" in outcome.lines[-1]


@pytest.mark.usefixtures("no_pictures")
def test_evaluations_can_be_switched_off(command, folder: Path, tiny):
    words = ["quality.every=0", "diagnostics.every=0", "train.steps=2", "hydra.run.dir=run"]
    assert command(*tiny, *words).code == 0
    assert {"kl", "rhat", "energy_distance"} & set(result(folder / "run")["metrics"]) == {"kl"}
    words[-1] = "hydra.run.dir=none"
    assert command(*tiny, *words, "evaluation.every=0").code == 0
    assert result(folder / "none")["metrics"] == {}


@pytest.mark.slow
def test_presets_without_a_valid_target_are_refused(command, folder: Path):
    (folder / "some_parts.py").write_text("class Mixture: pass\n")
    (folder / "broken_parts.py").write_text("import not_installed_here\n")
    (folder / "own/model").mkdir(parents=True)
    for name, text, saying in [
        ("empty", "# nothing", "own/model/empty.yaml names no class: give it a line _target_: "),
        ("typo", "_target_: some_parts.Mixtur", "some_parts has no Mixtur; did you mean Mixture?"),
        ("broken", "_target_: broken_parts.X", "No module named 'not_installed_here'"),
    ]:
        (folder / f"own/model/{name}.yaml").write_text(text)
        for verb in ([], ["check"]):
            outcome = command(*verb, "--config-dir", "own", f"model={name}")
            assert outcome.code == 2
            (line,) = outcome.err.splitlines()
            assert saying in line


@pytest.mark.slow
def test_a_directory_of_a_run_is_not_reused(command, folder: Path, tiny, no_pictures):
    assert command(*tiny, "hydra.run.dir=run").code == 0
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    outcome = command(*tiny, "hydra.run.dir=run", "seed=1")
    assert outcome.code == 2
    assert "run holds a run already: continue it, 'ebmtrain resume run'" in outcome.err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_two_runs_of_the_same_second_have_different_folders(
    command, folder: Path, tiny, no_pictures, monkeypatch
):
    class StoppedClock(presets.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.setattr(presets, "datetime", StoppedClock)
    for _ in range(2):
        assert command(*tiny, "train.steps=1").code == 0
    names = [path.name for path in folder.glob("outputs/*/*/*")]
    assert len(names) == 2
    assert all(name.startswith("20260102-030405-") for name in names)


@pytest.mark.slow
def test_proposed_commands_run(command, folder: Path, tiny, no_pictures):
    """As it stands, in a place whose name a shell would take apart."""
    outcome = command(*tiny, "hydra.run.dir='my runs/it is 1'")
    assert outcome.code == 0, outcome.err
    proposed = [line[9:] for line in outcome.lines if line[9:].startswith("ebmtrain ")]
    assert len(proposed) == 2
    for line in proposed:
        again = command(*shlex.split(line)[1:])
        assert again.code == 0, again.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["with space", "äöü ñ 数", "a,b", "q'uote"])
def test_paths_may_have_any_name(command, folder: Path, tiny, no_pictures, monkeypatch, name):
    (folder / name).mkdir()
    monkeypatch.chdir(folder / name)
    assert command(*tiny, "train.steps=2").code == 0
    (path,) = (folder / name).glob("outputs/*/*/*")
    assert command("sample", path, "count=5", f"out={name}.csv").code == 0
    assert (folder / name / f"{name}.csv").exists()


def test_an_error_of_user_code_is_logged(command, folder: Path, tiny, no_pictures, monkeypatch):
    def broken(*_: object, **__: object):
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("ebmtrain.runs.session.draw_samples", broken)
    outcome = command(*tiny, "hydra.run.dir=run")
    assert outcome.code == 1
    error = f"by nought ({__file__}, line {broken.__code__.co_firstlineno + 1})"
    expected = f"ebmtrain: unexpected ZeroDivisionError: {error} (traceback: add --debug)\n"
    assert outcome.err == expected
    assert (result(folder / "run")["status"], result(folder / "run")["error"]) == ("failed", error)
    assert "Traceback" in (folder / "run/run.log").read_text()
    assert "Traceback" not in outcome.out


# Sweeps


@pytest.mark.slow
def test_a_sweep_continues_after_failed_jobs(command, folder: Path, tiny, no_pictures):
    words = ("-m", *tiny, "optimizer.lr=0.001,1000000,-1", "hydra.sweep.dir=sweep")
    outcome = command(*words)
    assert outcome.code == 1
    jobs = sorted(path.parent for path in (folder / "sweep").glob("*/result.json"))
    assert [job.name for job in jobs] == [
        "0_optimizer.lr=0.001", "1_optimizer.lr=1000000", "2_optimizer.lr=-1"]  # fmt: skip
    assert [result(job)["status"] for job in jobs] == ["finished", "diverged", "failed"]
    assert {tuple(result(job)) for job in jobs} == {tuple(result(jobs[0]))}  # the same keys
    assert "must be greater than 0, got -1" in result(jobs[2])["error"]
    assert "must be greater than 0, got -1" in (jobs[2] / "run.log").read_text()
    assert "training diverged" in (jobs[1] / "run.log").read_text()
    lines = [line for line in outcome.lines if line.startswith("job ")]
    assert len(lines) == 5  # one per job, and the headings of two tables
    assert "diverged: training diverged" in lines[1]
    table = outcome.out[outcome.out.index(lines[3]) :]
    for word in ("0_optimizer.lr=0.001", "finished", "diverged", "failed", "KL", "seconds"):
        assert word in table
    assert "sweep    sweep  (3 jobs, 2 failed)" in outcome.out
    with (folder / "sweep/summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished", "diverged", "failed"]
    assert [row["group"] for row in rows] == [
        "optimizer.lr=0.001", "optimizer.lr=1000000", "optimizer.lr=-1"]  # fmt: skip
    assert rows[2]["dataset"] == "five_gaussians"
    assert "must be greater than 0, got -1" in (folder / "sweep/summary.md").read_text()
    assert (folder / "sweep/presets/built_in/config.yaml").exists()
    again = command(*words)
    assert again.code == 2
    assert "sweep holds a sweep already: choose another hydra.sweep.dir" in again.err
    assert len(list((folder / "sweep").glob("*/result.json"))) == 3


@pytest.mark.slow
def test_a_sweep_of_groups_has_its_own_folder(command, folder: Path, tiny, no_pictures):
    words = [w for w in tiny if not w.startswith("method.")]
    outcome = command("-m", *words, "train.batch_size=16", "method=cd,dsm", "seed=0,1")
    assert outcome.code == 0, outcome.err
    (sweep,) = folder.glob("outputs/sweeps/*_five_gaussians")
    names = sorted(path.name for path in sweep.iterdir() if (path / "result.json").exists())
    assert names == ["0_method=cd_seed=0", "1_method=cd_seed=1",
                     "2_method=dsm_seed=0", "3_method=dsm_seed=1"]  # fmt: skip
    assert "(4 jobs, 0 failed)" in outcome.out
    about = json.loads((sweep / names[2] / "run.json").read_text())
    assert about["choices"]["method"] == "dsm"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [("seed=0,1", "train.stps=3"), ("method=cd,nonsense",), ("seed=0,1", "optimizer.lr=0"),
     ("dataset=nonsense", "seed=0,1")],
)  # fmt: skip
def test_an_invalid_sweep_leaves_no_files(command, folder: Path, words):
    outcome = command("-m", *words, "train.steps=1")
    assert outcome.code == 2
    assert "ebmtrain: " in outcome.err
    assert "Traceback" not in outcome.err
    assert not list(folder.rglob("*.yaml"))
    assert not list(folder.glob("outputs/sweeps/*"))


@pytest.mark.slow
def test_a_path_in_the_arguments_of_a_sweep(command, folder: Path, tiny_file, no_pictures):
    (folder / "data").mkdir()
    for name in ("a", "b"):
        np.savetxt(folder / f"data/{name}.csv", np.random.default_rng(0).normal(size=(80, 2)),
                   delimiter=",")  # fmt: skip
    words = ("dataset=file", "dataset.path=data/a.csv,data/b.csv", "hydra.sweep.dir=sweep")
    outcome = command("-m", *tiny_file, "train.steps=2", *words)
    assert outcome.code == 0, outcome.err
    names = ["0_dataset.path=data_a.csv", "1_dataset.path=data_b.csv"]
    assert sorted(p.parent.name for p in (folder / "sweep").glob("*/result.json")) == names
    typed = json.loads((folder / "sweep" / names[0] / "run.json").read_text())["command"]
    assert typed[1:] == ["-m", *tiny_file, "train.steps=2", *words]


@pytest.mark.slow
def test_jobs_of_a_sweep_may_have_nested_folders(command, folder: Path, tiny, no_pictures):
    subdir = "hydra.sweep.subdir=a/${seed}"
    words = ("-m", *tiny, "train.steps=2", "seed=0,1", "hydra.sweep.dir=sweep", subdir)
    outcome = command(*words)
    assert outcome.code == 0, outcome.err
    assert "(2 jobs, 0 failed)" in outcome.out
    assert {p.name for p in (folder / "sweep/a").iterdir()} == {"0", "1"}
    again = command(*words)
    assert "sweep holds a sweep already" in again.err
    assert {p.name for p in (folder / "sweep/a").iterdir()} == {"0", "1"}


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("word", ["train.batch_size=-5", "train.batch_size=32"])
def test_a_sweep_does_not_change_existing_folders(command, folder: Path, tiny, word):
    precious = folder / "precious/presets/notes.txt"
    precious.parent.mkdir(parents=True)
    precious.write_text("years of work")
    outcome = command("-m", *tiny, "hydra.sweep.dir=precious", "seed=0,1", word)
    assert outcome.code == 2
    assert {p for p in folder.rglob("*") if p.is_file()} == {precious}


def test_an_invalid_sweep_keeps_files_of_others(tmp_path):
    planned = sweep.Sweep(tmp_path / "sweep", [])
    planned.path.mkdir()
    planned.keep_presets(presets.Presets())
    (planned.path / "multirun.yaml").touch()
    (planned.path / "0_job").mkdir()
    (planned.path / "of_another.txt").touch()
    planned.remove_empty()
    assert files_in(planned.path) == {"of_another.txt"}
    (planned.path / "of_another.txt").unlink()
    planned.remove_empty()
    assert list(tmp_path.iterdir()) == []


# In processes of their own


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--cfg", "job"), ("-h",), ("list",), ("init", "presets")])
def test_help_and_listings_import_no_torch(folder: Path, words):
    program = (
        "import sys\nfrom ebmtrain.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=folder, timeout=HANG_S,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 20
    assert not (folder / "outputs").exists()


@pytest.mark.slow
def test_a_run_and_its_resumption_import_no_compiler(folder: Path, tiny):
    program = (
        "import sys\nfrom ebmtrain.cli.main import main\n"
        "from ebmtrain.runs.figures import RunFigures\n"
        "RunFigures.draw_landscape, RunFigures.draw_all = lambda *_: None, lambda *_: []\n"
        "code = main(sys.argv[1:]) or main(['resume', 'run', 'train.steps=9'])\n"
        "heavy = {'torch._dynamo', 'torch._inductor'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    words = [*tiny, "train.steps=6", "checkpoint.every=3", "hydra.run.dir=run"]
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=folder, timeout=HANG_S,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "run" / "result.json").read_text())["step"] == 9


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1])
def test_an_interrupted_sweep_reports_its_finished_jobs(folder: Path, tiny, number):
    words = [*tiny, "seed=0,1,2", "train.steps=100000", "checkpoint.every=10",
             "hydra.sweep.dir=sweep", "evaluation.every=1000000"]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", WITHOUT_PICTURES, "-m", *words], cwd=folder,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    wait_for(folder / "sweep/0_seed=0/checkpoints/step_00000020.pt", process)
    os.kill(process.pid, number)
    out, _ = process.communicate(timeout=HANG_S)
    assert process.returncode == 128 + number
    assert b"sweep    sweep  (1 of 3 jobs, 0 failed, 1 interrupted)" in out
    assert (folder / "sweep/summary.csv").exists()
    assert [path.name for path in (folder / "sweep").glob("*_seed=*")] == ["0_seed=0"]
    assert result(folder / "sweep/0_seed=0")["status"] == "interrupted"


@pytest.mark.slow
def test_a_closed_pipe_does_not_stop_the_training(folder: Path, tiny):
    """As `ebmtrain | head -1`."""
    words = [*tiny, "hydra.run.dir=run"]
    process = subprocess.Popen([sys.executable, "-c", WITHOUT_PICTURES, *words], cwd=folder,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=HANG_S) == 0
    assert error == ""
    assert result(folder / "run")["status"] == "finished"


@pytest.mark.slow
def test_a_terminal_shows_a_progress_bar(folder: Path, tiny):
    words = [*tiny, "hydra.run.dir=run", "train.steps=60"]
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "150"}
    process = subprocess.Popen([sys.executable, "-c", WITHOUT_PICTURES, *words], cwd=folder,
                               stdout=follower, stderr=follower, env=environment)  # fmt: skip
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # Linux's way of saying that the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert process.wait(timeout=HANG_S) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "60/60" in text
    assert "━" in text
    assert "steps/s" in text
    assert "KL  " in text
    assert not re.search(r"^step +\d+", text, re.MULTILINE)  # the bar shows it, the log keeps it
    assert "step     60" in (folder / "run/run.log").read_text()


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Path:
    """A folder with the package as a wheel brings it, which is built from an sdist, and nothing of
    the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__", "outputs", "tests", "build", ".*")
    shutil.copytree(SOURCE, source, ignore=ignored)
    (source / "README.md").touch()
    (source / "LICENSE").touch()
    quiet = {"check": True, "capture_output": True, "timeout": 120}
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "-o", folder, source], **quiet)
    assert [file.name for file in folder.glob("*.tar.gz")] == [
        f"ebmtrain-{version('ebmtrain')}.tar.gz"
    ]
    (wheel,) = folder.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    target = folder / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", target, wheel], **quiet)
    return target


@pytest.mark.slow
def test_an_installed_wheel_runs_in_an_empty_folder(installed: Path, folder: Path, tiny):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    where = "import ebmtrain.config.presets as p; print(p.BUILT_IN)"
    found = subprocess.run([sys.executable, "-c", where], cwd=folder, env=environment, check=True,
                           capture_output=True, text=True)  # fmt: skip
    assert found.stdout.strip() == str(installed / "ebmtrain/configs")
    shipped = {p.relative_to(installed / "ebmtrain/configs")
               for p in (installed / "ebmtrain/configs").rglob("*.yaml")}  # fmt: skip
    assert shipped == {p.relative_to(presets.BUILT_IN) for p in presets.BUILT_IN.rglob("*.yaml")}
    assert (installed / "ebmtrain/py.typed").is_file()
    program = [sys.executable, str(installed / "bin/ebmtrain"), "--version"]
    told = subprocess.run(program, cwd=folder, env=environment, check=True, capture_output=True)
    assert told.stdout.decode() == f"ebmtrain {version('ebmtrain')}\n"
    done = ebm(*tiny, "dataset=moons", cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("outputs/moons/pcd_mlp/*")
    assert files_in(path) >= FILES


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_overfitting_gives_a_warning(command, folder: Path, tiny_file):
    """Thirty points and a fine network: the held-out NLL is best long before the end."""
    np.save(folder / "few.npy", np.random.default_rng(0).normal(size=(50, 2)))
    words = ["dataset=file", "dataset.path=few.npy", "dataset.holdout=0.4", "hydra.run.dir=run",
             "model.width=32", "model.fourier_features=32", "model.fourier_scale=4",
             "train.steps=400", "train.batch_size=30", "evaluation.every=50",
             "optimizer.lr=3e-3"]  # fmt: skip
    outcome = command(*tiny_file, *words)
    assert outcome.code == 0
    result = json.loads((folder / "run/result.json").read_text())
    assert result["metrics"]["nll"] > result["best"]["value"] + 0.05
    assert "overfits" in outcome.out
    assert f"at step {result['best']['step']}" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-m", "method=cd,dsm", "method.slots=512"],
         "unknown key method.slots: add method=improved_cd or method=jem or method=pcd"),
        (["dataset=moons,", "train.steps=3"], "dataset=moons, cannot be read: remove the comma"),
    ],
)  # fmt: skip
def test_overrides_that_do_not_fit_get_the_remedy(command, folder, arguments, text):
    outcome = command(*arguments)
    assert outcome.code == 2
    assert text in outcome.err
    assert "+method" not in outcome.err
    assert not any(folder.iterdir())


def test_a_sweep_without_a_temporary_directory_is_refused(command, folder, monkeypatch, tiny):
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(folder / "missing")])
    monkeypatch.setattr("tempfile.tempdir", None)
    outcome = command("-m", *tiny, "seed=0,1")
    assert outcome.code == 6
    assert "set TMPDIR to a folder that can be written" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert not any(folder.iterdir())


def test_what_the_table_of_habits_proposes_exists():
    """Every key and option of its answers, which a user may copy."""
    known, keys = presets.Presets(), set()
    groups = {group: known.options(group) for group in known.groups()}
    for method, sampler, optimizer in itertools.product(
        ("pcd", "cd"), ("mala",), ("adamw", "adam")
    ):
        words = [f"method={method}", f"sampler={sampler}", f"optimizer={optimizer}", "dataset=file"]
        keys |= set(dotted_keys(presets.to_plain(presets.compose_config(words))))
    answers = [*habits._KEYS.values(), *(a for g in habits._OPTIONS.values() for a in g.values())]
    for word in (word for answer in set(answers) for word in answer.split() if "=" in word):
        key, _, value = word.partition("=")
        if key in ("key", "model.init") or key.startswith("hydra."):  # of no preset
            continue
        assert value in groups[key] if key in groups else key in keys, word


def test_a_preset_of_the_users_may_have_the_name_of_a_habit(command, folder: Path, tiny):
    (folder / "own/device").mkdir(parents=True)
    text = (presets.BUILT_IN / "device/cpu.yaml").read_text()
    (folder / "own/device/gpu.yaml").write_text(text)
    assert command("--config-dir", "own", "--cfg", "job", "device=gpu").code == 0


@pytest.mark.usefixtures("no_pictures")
def test_a_run_is_named_after_its_file(command, folder: Path, tiny_file):
    """Folders and titles; the report too. The name may hold any character."""
    rows = np.random.default_rng(0).normal(size=(40, 2))
    for name, shown in [("ages.csv", "ages"), ("a b.v2.npy", "a_b")]:
        np.savetxt(name, rows, delimiter=",") if name.endswith("csv") else np.save(name, rows)
        outcome = command(*tiny_file, "train.steps=1", "dataset=file", f"dataset.path={name}")
        assert outcome.code == 0, outcome.err
        (run,) = Path(f"outputs/{shown}/pcd_mlp").iterdir()
        experiment = ebmtrain.load(run).experiment
        assert run_title(experiment, {"dataset": "file", "method": "pcd"}) == f"{shown} / pcd"
    assert command("report", "outputs").code == 0
    table = csv.DictReader(Path("outputs/summary.csv").read_text().splitlines())
    assert {row["dataset"] for row in table} == {"ages", "a_b"}


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("data", ["wine", "iris"])
def test_a_small_table_works_as_the_guide_lists_it(command, data):
    """A batch of at most all points, in the run as in `check`."""
    words = [f"dataset={data}", "train.steps=1", "samples.count=20", "samples.burn_in=1"]
    words += ["quality.points=10", "quality.shuffles=5", "diagnostics.draws=8", "samples.thin=1"]
    outcome = command(*words, "diagnostics.thin=1", "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    dataset = ebmtrain.load("run").experiment.dataset
    assert dataset is not None
    told = f"train.batch_size is 256, and there are {len(dataset.train)} training points"
    assert told in Path("run/run.log").read_text()
    assert told in command("check", *words).out


@pytest.mark.usefixtures("no_pictures")
def test_a_sweep_over_data_has_one_folder_and_one_table(command, folder: Path, tiny, tiny_file):
    """Whose name does not follow the values of its jobs."""
    for name in ("a", "b"):
        np.save(f"{name}.npy", np.random.default_rng(0).normal(size=(40, 2)))
    quick = ("train.steps=1", "diagnostics.draws=8")
    for words, name in [
        ((*tiny, "dataset=moons,circles"), "datasets"),
        ((*tiny_file, "dataset=file", "dataset.path=a.npy,b.npy"), "file"),
    ]:
        assert command("-m", *quick, *words).code == 0
        (sweep,) = Path("outputs/sweeps").glob(f"*_{name}")
        assert len(list(csv.DictReader((sweep / "summary.csv").read_text().splitlines()))) == 2
        assert len(list(sweep.glob("[01]_*"))) == 2
    assert len(list(Path("outputs/sweeps").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["check", "verify"])
def test_a_verb_without_options_takes_the_defaults(command, verb):
    outcome = command(verb)
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize("words", [("hydra.run.dir=",), ("-m", "seed=0,1", "hydra.sweep.dir=")])
def test_an_empty_folder_name_is_refused(command, folder: Path, tiny, words):
    outcome = command(*tiny, *words)  # flags and overrides in any order
    assert outcome.code == 2
    assert outcome.err == f"ebmtrain: {words[-1][:-1]} is given no value: {words[-1]}FOLDER\n"
    assert not list(folder.iterdir())
