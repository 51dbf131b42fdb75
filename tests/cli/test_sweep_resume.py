"""`ebmtrain resume SWEEP`: what is missing runs once, whoever runs it."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import Child
from hydra.utils import get_object
from processes import HANG_S
from same_state import run_differences

from ebmtrain.cli.main import main
from ebmtrain.config import hydra_private
from ebmtrain.config.presets import BUILT_IN, Presets, folder_name
from ebmtrain.errors import ConfigError
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.storage.atomic_io import lock_directory
from ebmtrain.runs.storage.manifest import Job, Manifest
from ebmtrain.runtime.signals import TerminationSignal

SHORT = ("train.steps=6", "checkpoint.every=2", "plots.every=0", "hydra.sweep.dir=sweep")
NAMES = [f"{i}_seed={i}" for i in range(3)]


def result(path: Path) -> dict:
    return json.loads((path / "result.json").read_text())


def board(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "summary.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_the_manifest_names_the_folders_of_the_jobs(command, folder: Path, tiny):
    words = [*tiny, *SHORT[:-1], "train.steps=0", "seed=0,1", "method.k=2"]
    assert command("-m", *words, "hydra.sweep.dir=sweep").code == 0
    manifest = Manifest.read(folder / "sweep")
    assert [job.folder for job in manifest.jobs] == [
        "0_seed=0", "1_seed=1"
    ]  # fmt: skip
    assert {job.folder for job in manifest.jobs} == {
        path.parent.name for path in (folder / "sweep").glob("*/result.json")
    }
    assert manifest.jobs[1].overrides[-2:] == ("seed=1", "method.k=2")
    assert manifest.command[1:] == ("-m", *words, "hydra.sweep.dir=sweep")
    assert manifest.versions["hydra-core"].startswith("1.3")
    outcome = command("resume", "sweep")
    assert (outcome.code, outcome.err) == (0, "")
    assert "job 0" not in outcome.out  # all are complete


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["seed=0,1", "method.k=3"], ["0_method.k=3_seed=0", "1_method.k=3_seed=1"]),
        (["seed=0,1", "hydra.sweep.subdir=a/${seed}"], ["a/0", "a/1"]),
        (["seed=0,1", "hydra.sweep.subdir=x${hydra:job.num}"], ["x0", "x1"]),
        (["++seed=4", "hydra.job.config.override_dirname.kv_sep=-"], ["0_++seed-4"]),
        (["dataset.path=a/b,c d", "dataset=file"], ["0_dataset.path=a_b_dataset=file",
                                                   "1_dataset.path=c__d_dataset=file"]),
    ],
)  # fmt: skip
def test_the_folders_of_jobs_are_those_of_hydra(words, names):
    loader = Presets().loader()
    config = hydra_private.load_config(loader, words, multirun=True)
    jobs = hydra_private.sweep_jobs(config)
    assert hydra_private.sweep_folders(loader, config, jobs, folder_name) == names
    composed = loader.load_sweep_config(config, jobs[-1])
    assert hydra_private._sweep_folder(composed, len(jobs) - 1) == names[-1]


def test_jobs_with_the_same_folder_are_refused(command, folder: Path, tiny):
    outcome = command("-m", *tiny, "seed=0,1", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=a")
    assert outcome.code == 2
    assert "jobs 0 and 1 have the same folder 'a': change hydra.sweep.subdir" in outcome.err
    assert list(folder.iterdir()) == []


def test_a_thousand_jobs_compose_once(command, folder: Path, tiny, monkeypatch):
    """Composing takes 0.1 s: one job for each combination of options is checked."""
    composed = []
    original = hydra_private.ConfigLoaderImpl.load_configuration

    def counted(self, *words, **named):
        composed.append(words)
        return original(self, *words, **named)

    monkeypatch.setattr(hydra_private.ConfigLoaderImpl, "load_configuration", counted)

    def started(*_, **__):
        raise TerminationSignal(signal.SIGINT)

    monkeypatch.setattr("ebmtrain.cli.train.run_job", started)
    outcome = command("-m", *tiny, "seed=range(1000)", "hydra.sweep.dir=sweep")
    assert outcome.code == 128 + signal.SIGINT, outcome.err
    assert len(composed) == 3  # the sweep, the job that is checked, and the job that starts
    assert not (folder / "sweep").exists()


# Killed, and shared by workers


def dying(place: str, call: int, words: list[str]) -> Callable[[], int]:
    """Runs the command; the process kills itself before this call of a function."""

    def work() -> int:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("draw_landscape", "draw_all"):
                patch.setattr(RunFigures, name, lambda *_: [])
            patch.setattr("ebmtrain.runs.report.write.figures", lambda *_: [])
            if place:
                owner, _, name = place.rpartition(".")
                original, calls = getattr(get_object(owner), name), []

                def counted(*arguments, **named):
                    calls.append(name)
                    if len(calls) == call:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return original(*arguments, **named)

                patch.setattr(get_object(owner), name, counted)
            return main(words)

    return work


@pytest.fixture(scope="module")
def undisturbed(tiny, tmp_path_factory) -> Path:
    """A sweep that ran to its end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    words = ["-m", *tiny, *SHORT[:-1], "seed=0,1,2", f"hydra.sweep.dir={folder / 'sweep'}"]
    assert Child(dying("", 0, words), folder).ended().code == 0
    return folder / "sweep"


POINTS = {
    "the manifest is written": ("ebmtrain.config.hydra_private.sweep", 1),
    "a job is half begun": ("ebmtrain.runs.storage.rundir.RunDir.write_config", 2),
    "a job trains": ("ebmtrain.runs.storage.rundir.RunDir.save_checkpoint", 7),
    "between two jobs": ("ebmtrain.cli.jobs.claim", 3),
    "the end": ("ebmtrain.runs.report.write.report", 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_sweep_is_completed_by_two_workers(folder: Path, undisturbed, tiny, point):
    words = ["-m", *tiny, *SHORT, "seed=0,1,2"]
    assert Child(dying(*POINTS[point], words), folder).ended().code == -signal.SIGKILL
    before = {
        name: "finished" for name in NAMES
        if (path := folder / "sweep" / name / "result.json").exists()
        and json.loads(path.read_text())["status"] == "finished"
    }  # fmt: skip
    workers = []
    for number in range(2):
        (folder / str(number)).mkdir()
        workers.append(Child(dying("", 0, ["resume", "sweep"]), folder / str(number)))
    ended = [worker.ended() for worker in workers]
    assert [(end.code, end.err) for end in ended] == [(0, ""), (0, "")]
    ran = [line for end in ended for line in end.out.splitlines() if "  KL " in line]
    assert sorted(
        line.split()[1] for line in ran if line[:5] in [f"job {i}" for i in range(3)]
    ) == [name[0] for name in NAMES if name not in before]
    for name in NAMES:
        assert run_differences(folder / "sweep" / name, undisturbed / name) == []
    assert board(folder / "sweep") == board(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("word", ["train.ensemble=2", "train.leave_one_out=true"])
@pytest.mark.filterwarnings("ignore")  # of scikit-learn
def test_an_ensemble_of_a_killed_sweep_is_completed(folder: Path, tiny_file, word):
    """The members that had begun continue, the others begin."""
    chosen = ["evaluation=anomalies"] if "leave" in word else []
    words = [w for w in tiny_file if not (chosen and w.startswith("evaluation."))]
    words = ["-m", *words, *SHORT, "dataset=iris", *chosen, word, "method.k=2,3"]
    place = ("ebmtrain.runs.storage.rundir.RunDir.save_checkpoint", 5)
    assert Child(dying(*place, words), folder).ended().code == -signal.SIGKILL
    begun = list((folder / "sweep").glob("*/*/config.yaml"))
    assert begun
    ended = Child(dying("", 0, ["resume", "sweep"]), folder).ended()
    assert (ended.code, ended.err) == (0, "")
    runs = list((folder / "sweep").glob("*/*/result.json"))
    assert len(runs) == 2 * (2 if "ensemble" in word else 3)
    assert {result(path.parent)["status"] for path in runs} == {"finished"}
    if "leave" in word:
        for job in (folder / "sweep").glob("?_*"):
            assert result(job)["finished"] == 3


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_job_of_another_worker_is_left_alone(command, folder: Path, tiny):
    manifest(folder, [*tiny, "train.steps=2", "plots.every=0"], n_jobs=2)
    (folder / "sweep/0").mkdir()
    with lock_directory(folder / "sweep/0"):
        outcome = command("resume", "sweep")
    assert (outcome.code, outcome.err) == (0, "")
    held = f"skipped: sweep/0 is in use by process {os.getpid()} on "
    assert held in outcome.lines[0]
    assert outcome.lines[-1] == "sweep    sweep  (1 of 2 jobs in progress elsewhere)"
    assert not (folder / "sweep/summary.csv").exists()
    assert result(folder / "sweep/1")["status"] == "finished"
    assert command("resume", "sweep").code == 0
    assert [row["status"] for row in board(folder / "sweep")] == ["finished"] * 2


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_failed_jobs_are_repeated_when_asked(command, folder: Path, tiny_file):
    words = [
        *tiny_file,
        "dataset=file",
        "dataset.path=points.csv",
        "train.steps=2",
        "plots.every=0",
    ]
    manifest(folder, words, n_jobs=1)
    assert command("resume", "sweep").code == 1
    assert "points.csv" in result(folder / "sweep/0")["error"]
    (folder / "points.csv").write_text("".join(f"{i % 7},{i % 5}\n" for i in range(90)))
    outcome = command("resume", "sweep")
    assert (outcome.code, "job 0  " in outcome.out) == (1, False)
    outcome = command("resume", "sweep", "failed=again")
    assert outcome.code == 0, outcome.out
    assert result(folder / "sweep/0")["status"] == "finished"
    outcome = command("resume", "sweep", "failed=no")
    assert (outcome.code, outcome.err.count("\n")) == (2, 1)
    outcome = command("resume", "sweep", "train.steps=5")
    assert (outcome.code, "unknown option train.steps" in outcome.err) == (2, True)


@pytest.mark.slow
def test_a_signal_ends_a_worker(folder: Path, tiny):
    manifest(folder, [*tiny, "train.steps=100000", "plots.every=0"], n_jobs=2)
    child = Child(dying("", 0, ["resume", "sweep"]), folder)
    deadline = time.monotonic() + HANG_S
    while not (folder / "sweep/0/checkpoints/step_00000010.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGTERM)
    ended = child.ended()
    assert (ended.code, ended.err) == (128 + signal.SIGTERM, "")
    assert result(folder / "sweep/0")["status"] == "interrupted"
    assert not (folder / "sweep/1").exists()


# Hostile folders


def manifest(folder: Path, words: list[str], n_jobs: int, user: Path | None = None) -> Path:
    """A sweep of which no job has begun, as a killed one leaves it."""
    sweep = folder / "sweep"
    sweep.mkdir()
    kept = Presets(user=user).freeze(sweep / "presets")
    jobs = tuple(Job(i, str(i), (*words, f"seed={i}")) for i in range(n_jobs))
    Manifest(
        command=("ebmtrain",), config_name="config", versions={}, presets=kept.digest(), jobs=jobs
    ).write(sweep)
    return sweep


def changed(job: dict | None = None, **values):
    def change(content: dict) -> dict:
        jobs = [{**content["jobs"][0], **(job or {})}, *content["jobs"][1:]]
        return {**content, "jobs": jobs, **values}

    return change


HOSTILE = {
    "parent folder": changed({"folder": "../outside"}),
    "parent inside": changed({"folder": "a/../../outside"}),
    "absolute folder": changed({"folder": "/tmp/outside"}),
    "empty folder": changed({"folder": ""}),
    "this folder": changed({"folder": "."}),
    "folder of another job": changed({"folder": "1"}),
    "folder with NUL": changed({"folder": "a\0b"}),
    "folder of a type": changed({"folder": ["0"]}),
    "number of a type": changed({"number": True}),
    "number of another": changed({"number": 1}),
    "negative number": changed({"number": -1}),
    "arguments of a type": changed({"overrides": "seed=0"}),
    "argument of a type": changed({"overrides": [0]}),
    "long argument": changed({"overrides": [f"seed={'1' * 20_000}"]}),
    "search path": changed({"overrides": ["hydra.searchpath=[pkg://evil]"]}),
    "added search path": changed({"overrides": ["+hydra.searchpath=[pkg://evil]"]}),
    "launcher": changed({"overrides": ["hydra/launcher=evil"]}),
    "preset elsewhere": changed({"overrides": ["model=../../outside"]}),
    "group elsewhere": changed({"overrides": ["+evil=../../../outside"]}),
    "environment": changed({"overrides": ["checkpoint.best=${oc.env:HOME}"]}),
    "nested resolver": changed({"overrides": ["checkpoint.best='${${x}.env:HOME}'"]}),
    "class": changed({"overrides": ["model._target_=os.system"]}),
    "class of another package": changed({"overrides": ["model._target_=evil.Model"]}),
    "class by a seed": changed(
        {"overrides": ["train.ensemble=2", "+model.t=[ebmtrain.models.mlp.MLP,os.system]",
                       "model._target_='${model.t[${seed}]}'"]}
    ),
    "nested argument": changed({"overrides": [f"+model.x={'[' * 3000}{']' * 3000}"]}),
    "configuration elsewhere": changed(config_name="../outside"),
    "configuration of a type": changed(config_name=3),
    "versions of a type": changed(versions=[]),
    "jobs of a type": changed(jobs={}),
    "job of a type": changed(jobs=[3]),
    "missing key": lambda content: {k: v for k, v in content.items() if k != "presets"},
    "additional key": changed(more=1),
    "list": lambda content: [content],
}  # fmt: skip


def everything(folder: Path) -> dict[Path, bytes]:
    """All files but locks."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_manifest_is_refused(command, folder: Path, case):
    (folder / "outside.yaml").write_text("_target_: os.system\n")
    sweep = manifest(folder, [], n_jobs=2)
    file = sweep / "sweep.json"
    file.write_text(json.dumps(HOSTILE[case](json.loads(file.read_text()))))
    before = everything(folder)
    outcome = command("resume", "sweep")
    assert outcome.code in (2, 7), outcome.out
    assert outcome.err.startswith("ebmtrain: ")
    assert outcome.err.count("\n") == 1
    assert everything(folder) == before


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, '{"jobs": NaN}', "\ud800"])
def test_a_damaged_manifest_is_refused(command, folder: Path, content):
    sweep = manifest(folder, [], n_jobs=1)
    (sweep / "sweep.json").write_bytes(content.encode(errors="surrogatepass"))
    outcome = command("resume", "sweep")
    assert (outcome.code, outcome.err.count("\n")) == (2 if "jobs" not in content else 7, 1)


PRESETS = {
    "search path": ("config.yaml", "hydra:\n  searchpath: ['pkg://evil']\n"),
    "environment": ("model/mlp.yaml", "_target_: '${oc.env:HOME}'\n"),
    "file elsewhere": ("model/mlp.yaml", "defaults:\n  - ../../../outside\n"),
    "group elsewhere": ("config.yaml", "defaults:\n  - x: ../../outside\n"),
    "class": ("model/mlp.yaml", "_target_: os.system\n"),
    "tag": ("model/mlp.yaml", "a: !!python/object/apply:os.system [true]\n"),
    "aliases": ("model/mlp.yaml", "a: &a [1]\nb: [*a, *a]\n"),
    "depth": ("model/mlp.yaml", f"a: {'[' * 500}{']' * 500}\n"),
    "size": ("model/mlp.yaml", f"a: {'x' * 1_000_001}\n"),
}


@pytest.mark.parametrize("case", PRESETS)
def test_hostile_presets_are_refused(command, folder: Path, case):
    """With a digest that fits them, as their author would write."""
    (folder / "outside.yaml").write_text("secret: 1\n")
    sweep, (name, text) = manifest(folder, [], n_jobs=1), PRESETS[case]
    original = (BUILT_IN / name).read_text() if name == "config.yaml" else ""
    head, _, hydra = original.partition("\nhydra:\n")
    file = sweep / "presets/built_in" / name
    if text.startswith("hydra"):
        file.write_text(f"{head}\n{text}{hydra}")
    elif original:
        file.write_text(original.replace("defaults:\n", text, 1))
    else:
        file.write_text(text)
    content = json.loads((sweep / "sweep.json").read_text())
    digest = Presets(sweep / "presets/built_in").digest()
    (sweep / "sweep.json").write_text(json.dumps({**content, "presets": digest}))
    before = everything(folder)
    outcome = command("resume", "sweep")
    assert outcome.code == 7, outcome.err
    assert outcome.err.count("\n") == 1
    assert everything(folder) == before


@pytest.mark.parametrize("place", ["0", "presets", "presets/built_in", "presets/built_in/model",
                                   "presets/built_in/model/mlp.yaml", "sweep.json"])  # fmt: skip
def test_links_in_a_sweep_are_refused(command, folder: Path, place):
    sweep = manifest(folder, [], n_jobs=1)
    path, target = sweep / place, folder / "elsewhere"
    target.mkdir() if place == "0" else path.rename(target)
    path.symlink_to(target)
    before = everything(target) if target.is_dir() else target.read_bytes()
    outcome = command("resume", "sweep")
    assert (outcome.code, outcome.err.count("\n")) == (7, 1)
    assert (everything(target) if target.is_dir() else target.read_bytes()) == before


def test_presets_that_were_edited_are_refused(command, folder: Path):
    sweep = manifest(folder, [], n_jobs=1)
    (sweep / "presets/built_in/sampler/mala.yaml").write_text("step_size: 9\n")
    outcome = command("resume", "sweep")
    assert outcome.code == 2
    assert "are not those with which the sweep began: restore them" in outcome.err


def test_a_sweep_of_an_earlier_version_is_explained(command, folder: Path):
    (folder / "sweep/0_seed=0").mkdir(parents=True)
    (folder / "sweep/0_seed=0/config.yaml").write_text("seed: 0\n")
    outcome = command("resume", "sweep")
    assert outcome.code == 2
    assert "has no sweep.json: resume its runs, ebmtrain resume sweep/0_seed=0" in outcome.err


def test_a_manifest_with_a_folder_outside_is_not_written(folder: Path):
    manifest = Manifest(
        command=(), config_name="config", versions={}, presets="", jobs=(Job(0, "../a", ()),)
    )
    with pytest.raises(ConfigError, match=r"hydra\.sweep\.subdir"):
        manifest.write(folder)
    assert list(folder.iterdir()) == []
