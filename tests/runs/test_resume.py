"""Resume is bit-identical: what a run leaves does not tell whether it was ever stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from forked import Child
from same_state import differences, load, result, rows, run_differences, stopped_after

import ebmtrain
from ebmtrain.cli.main import main
from ebmtrain.config.build import build
from ebmtrain.errors import CheckpointError, ConfigError
from ebmtrain.evaluation.exact import Evaluation, Quadrature
from ebmtrain.methods.denoising_score_matching import DenoisingScoreMatching
from ebmtrain.runs.launch import resume, run_experiment
from ebmtrain.runs.session import Session
from ebmtrain.runs.storage.checkpoint_format import encode
from ebmtrain.runs.storage.rundir import RunDir

STEPS, EVERY = 14, 4  # saves at 0, 4, 8, 12 and 14, rows at 5, 10 and 14: the grids differ
LENGTH = (f"train.steps={STEPS}", f"checkpoint.every={EVERY}", "checkpoint.keep=100",
          "evaluation.every=6")  # fmt: skip

TRAININGS = {
    "pcd_mala": ("method=pcd", "sampler=mala", "evaluation.tolerance=1e-3"),
    "pcd_langevin": ("method=pcd", "sampler=langevin"),
    "pcd_hmc": ("method=pcd", "sampler=hmc"),
    "pcd_restarts": ("method=pcd", "method.reinit=0.3", "method.data_noise=0.1"),
    "cd_data": ("method=cd", "method.start=data"),
    "cd_noise": ("method=cd", "method.start=noise"),
    "cd_langevin": ("method=cd", "sampler=langevin"),
    "cd_hmc": ("method=cd", "sampler=hmc"),
    "improved_cd": ("method=improved_cd", "method.slots=64"),
    "dual": ("method=dual",),
    "multi_dsm": ("method=multi_dsm", "model=noise_conditional_mlp"),
    "jarzynski": ("method=jarzynski", "method.walkers=64", "method.moved=32"),
    "sm": ("method=sm",),
    "ssm": ("method=ssm", "method.variance_reduced=true"),
    "ssm_plain": ("method=ssm", "method.variance_reduced=false"),
    "fd_ssm": ("method=fd_ssm",),
    "ksd": ("method=ksd",),
    "dsm": ("method=dsm",),
    "ed": ("method=ed",),
    "nce": ("method=nce",),
    "pseudo_likelihood": (
        "method=pseudo_likelihood",
        "dataset=ising_samples",
        "dataset.side=3",
        "sampler=gibbs",
    ),
    "nce_uniform": ("method=nce", "method.noise=uniform"),
    "nce_kernel": ("method=nce", "method.noise=kernel"),
    "cnce": ("method=cnce",),
    "jem": (
        "method=jem",
        "dataset=iris",
        "model.classes=3",
        "method.slots=64",
        "checkpoint.best=cross_entropy_holdout",
    ),
    "bounds": (
        "method=pcd",
        "dataset=iris",
        "dataset.support=positive",
        "method.slots=64",
        "checkpoint.best=energy_distance",
    ),
    "fresh": ("method=ed", "dataset.fresh=true"),
    "no_average": ("method=pcd", "train.ema=null"),
    "spectral_norm": ("method=dsm", "model.spectral_norm=true"),
    "sgd": ("method=dsm", "optimizer=sgd"),
    "adamw": ("method=dsm", "optimizer=adamw", "optimizer.clip_norm=0.1"),
    "double": ("method=pcd", "device.dtype=float64"),
}


def run_uninterrupted(config, path: Path) -> Path:
    run_experiment(build(config), path, {}, quiet=True)
    return path


@pytest.fixture(scope="module", params=TRAININGS)
def trained(request, configured, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ebmtrain.runs.figures.RunFigures.draw_all", lambda *_: [])
        patch.setattr("ebmtrain.runs.figures.RunFigures.draw_landscape", lambda *_: None)
        config = configured(*TRAININGS[request.param], *LENGTH)
        return run_uninterrupted(config, tmp_path_factory.mktemp(request.param) / "run")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("step", [0, 12])
def test_a_run_resumed_from_any_checkpoint_equals_an_uninterrupted_one(trained, step, tmp_path):
    copy = stopped_after(trained, step, tmp_path / "copy")
    outcome = resume(copy, quiet=True)
    assert outcome["status"] == "finished"
    assert outcome["step"] == STEPS
    assert run_differences(trained, copy) == []
    for name in ("step_00000004.pt", "step_00000008.pt", "best.pt"):
        one, two = load(trained / "checkpoints" / name), load(copy / "checkpoints" / name)
        assert differences(one["energy"], two["energy"]) == []
        assert one["best"] == two["best"]


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_run_killed_after_its_last_save_is_completed(trained, tmp_path):
    copy = stopped_after(trained, STEPS, tmp_path / "copy")
    assert resume(copy, quiet=True)["status"] == "finished"
    assert run_differences(trained, copy) == []


# What each saved item is for: the run must not come out the same without it.

FRESH = {
    "generator": lambda saved, fresh: saved | {"generator": fresh["generator"]},
    "method": lambda saved, fresh: saved | {"method": fresh["method"]},
    "chains": lambda saved, fresh: (
        saved | {"method": saved["method"] | {"chains": fresh["method"]["chains"]}}
    ),
    "ages": lambda saved, fresh: (
        saved | {"method": saved["method"] | {"ages": fresh["method"]["ages"]}}
    ),
    "learnt step size": lambda saved, fresh: (
        saved | {"method": saved["method"] | {"step_size": fresh["method"]["step_size"]}}
    ),
    "optimizer": lambda saved, fresh: saved | {"optimizer": fresh["optimizer"]},
    "energy": lambda saved, fresh: saved | {"energy": fresh["energy"]},
    "average": lambda saved, fresh: saved | {"average": saved["energy"]},
    "step": lambda saved, fresh: saved | {"step": fresh["step"]},
    "window": lambda saved, fresh: saved | {"window": fresh["window"]},
    "best": lambda saved, fresh: saved | {"best": {}},
    "metrics_size, none": lambda saved, fresh: saved | {"metrics_size": 0},
    "metrics_size, all": lambda saved, fresh: saved | {"metrics_size": 10**9},
}


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_checkpoint_without_the_trained_constant_is_detected(configured, tmp_path, monkeypatch):
    """Nor its moments in the optimizer: the last of the parameters there."""
    run = run_uninterrupted(configured("method=nce", *LENGTH), tmp_path / "run")
    fresh = load(run / "checkpoints/step_00000000.pt")["method"]["log_z_learnt"]
    original = RunDir.load_checkpoint

    def without(self, path=None):
        saved, passed = original(self, path)
        if item == "constant":
            saved["method"]["log_z_learnt"] = fresh
        else:
            last = max(saved["optimizer"]["state"])
            assert saved["optimizer"]["state"][last]["exp_avg"].shape == ()
            saved["optimizer"]["state"][last]["exp_avg"].zero_()
        return saved, passed

    monkeypatch.setattr(RunDir, "load_checkpoint", without)
    for item in ("constant", "moments"):
        copy = stopped_after(run, 8, tmp_path / item)
        resume(copy, quiet=True)
        assert any("log_z_learnt" in place for place in run_differences(run, copy))


@pytest.mark.slow
@pytest.mark.parametrize("item", ["nothing", *FRESH])
@pytest.mark.usefixtures("no_pictures")
def test_every_saved_item_is_needed(configured, tmp_path, monkeypatch, item):
    measured = lambda *_: Evaluation({"nll": next(values), "nll_se": 0.1}, [])  # noqa: E731
    monkeypatch.setattr(Quadrature, "__call__", measured)
    values = iter([3.0, 1.0, 2.0, 2.5])  # steps 0, 6, 12, 14: the best comes before the stop
    run = run_uninterrupted(configured("method=pcd", *LENGTH), tmp_path / "run")
    assert result(run)["best"]["step"] == 6
    fresh = load(run / "checkpoints/step_00000000.pt")
    copy = stopped_after(run, 8, tmp_path / "copy")
    original = RunDir.load_checkpoint

    def without(self, path=None):
        saved, passed = original(self, path)
        return (FRESH[item](saved, fresh) if item in FRESH else saved), passed

    monkeypatch.setattr(RunDir, "load_checkpoint", without)
    # At steps 12 and 14; a run whose step was forgotten begins with steps 0 and 6.
    values = iter([2.0, 2.5] if item != "step" else [3.0, 1.0, 2.0, 2.5])
    resume(copy, quiet=True)
    found = run_differences(run, copy)
    assert found if item in FRESH else found == []


# Stopping on purpose


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("step", [3, 5, 8, 12, 13])
def test_a_run_may_stop_at_any_step(configured, tmp_path, monkeypatch, step):
    """Rows come every 5 steps, evaluations every 6, saves every 4. The row and the evaluation of
    the step follow when it is resumed."""
    config = configured("method=pcd", *LENGTH)
    whole = run_uninterrupted(config, tmp_path / "whole")
    stopping = Session.should_stop
    updates = []

    def stop_at(self):
        updates.append(1)
        if len(updates) == step:
            self.stop.signal = int(signal.SIGTERM)
        return stopping(self)

    monkeypatch.setattr(Session, "should_stop", stop_at)
    stopped = run_experiment(build(config), tmp_path / "run", {}, quiet=True)
    assert (stopped["status"], stopped["step"]) == ("interrupted", step)
    assert stopped["signal"] == signal.SIGTERM
    assert load(tmp_path / "run/checkpoints/last.pt")["step"] == step
    assert rows(tmp_path / "run") == [row for row in rows(whole) if row["step"] < step]
    assert resume(tmp_path / "run", quiet=True)["status"] == "finished"
    assert run_differences(whole, tmp_path / "run") == []


LONG = ("train.steps=120", "checkpoint.every=10", "evaluation.every=90", "train.log_every=35",
        "method.k=20")  # fmt: skip


@pytest.fixture(scope="module")
def long_run(configured, tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ebmtrain.runs.figures.RunFigures.draw_all", lambda *_: [])
        patch.setattr("ebmtrain.runs.figures.RunFigures.draw_landscape", lambda *_: None)
        return run_uninterrupted(
            configured("method=pcd", *LONG), tmp_path_factory.mktemp("long") / "run"
        )


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_saves_and_the_run_resumes(long_run, tiny, folder, capsys, number):
    words = [*tiny, *LONG, "hydra.run.dir=run"]
    child = Child(lambda: main(words), folder)
    while not (folder / "run/checkpoints/step_00000020.pt").exists():
        assert os.waitpid(child.pid, os.WNOHANG) == (0, 0), "ended before the checkpoint"
        time.sleep(0.01)
    os.kill(child.pid, number)
    code = child.ended().code
    if number == signal.SIGKILL:
        assert code == -number
        assert result(folder / "run")["status"] == "running"
    else:
        assert code == 128 + number
        assert result(folder / "run")["status"] == "interrupted"
        assert json.loads((folder / "run/result.json").read_text())["signal"] == number
        saved = load(folder / "run/checkpoints/last.pt")
        assert saved["step"] == result(folder / "run")["step"] < 120
    assert main(["resume", "run"]) == 0
    assert "resumed at step" in capsys.readouterr().out
    assert run_differences(long_run, folder / "run") == []


# What cannot be resumed


@pytest.mark.usefixtures("no_pictures")
def test_resuming_a_finished_run_changes_nothing(configured, tmp_path):
    run = run_uninterrupted(configured("method=dsm"), tmp_path / "run")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match=r"is at step 20 .* give train\.steps=40"):
        resume(run, quiet=True)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_finished_run_resumes_with_more_steps(configured, tmp_path):
    constant = "optimizer.schedule.shape=constant"
    short = run_uninterrupted(configured("method=pcd", constant), tmp_path / "run")
    long = run_uninterrupted(
        configured("method=pcd", constant, "train.steps=30"), tmp_path / "long"
    )
    more = RunDir.open(short).config()
    more["train"]["steps"] = 30
    assert resume(short, more, quiet=True)["step"] == 30
    assert RunDir.open(short).config()["train"]["steps"] == 30
    assert differences(load(short / "checkpoints/last.pt")["energy"],
                       load(long / "checkpoints/last.pt")["energy"]) == []  # fmt: skip


MISFITS = {
    "width": (("model", "width", 16), "size mismatch for"),
    "slots": (("method", "slots", 100), r"the method keeps .*100, 2"),
    "ema": (("train", "ema", None), "average of the weights"),
}


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", MISFITS)
def test_another_configuration_is_refused_and_changes_nothing(configured, tmp_path, name):
    (section, key, value), reason = MISFITS[name]
    run = run_uninterrupted(configured("method=pcd"), tmp_path / "run")
    before = (run / "config.yaml").read_bytes()
    config = RunDir.open(run).config()
    config[section][key] = value
    config["train"]["steps"] = 40
    with pytest.raises(CheckpointError, match=f"does not fit the configuration .*{reason}"):
        resume(run, config, quiet=True)
    assert (run / "config.yaml").read_bytes() == before


@pytest.mark.usefixtures("no_pictures")
def test_new_learning_rates_apply_from_the_next_update(configured, tmp_path):
    run = run_uninterrupted(configured("method=dsm"), tmp_path / "run")
    config = RunDir.open(run).config()
    config["train"]["steps"] = 25
    config["optimizer"] |= {"weight_decay": 0.5, "beta1": 0.1, "eps": 1e-3}
    resume(run, config, quiet=True)
    (group,) = load(run / "checkpoints/last.pt")["optimizer"]["param_groups"]
    assert (group["weight_decay"], group["betas"], group["eps"]) == (0.5, (0.1, 0.999), 1e-3)


@pytest.mark.usefixtures("no_pictures")
def test_the_saved_learning_rate_is_not_read(configured, tmp_path):
    """Groups of parameters are compared by their names only; their values are those configured."""
    run = run_uninterrupted(configured("method=dsm", *LENGTH), tmp_path / "run")
    copy = stopped_after(run, 8, tmp_path / "copy")
    saved = load(copy / "checkpoints/last.pt")
    for group in saved["optimizer"]["param_groups"]:
        group["lr"] = float("nan")
    del saved["format"]
    (copy / "checkpoints/last.pt").write_bytes(encode(saved))
    assert resume(copy, quiet=True)["status"] == "finished"
    assert run_differences(run, copy) == []


def stopped_at(step: int, monkeypatch) -> None:
    """Runs stop there, as by a signal."""

    def stop(self):
        if self.step_now == step:
            self.stop.signal = int(signal.SIGTERM)
        return self.stop.signal is not None

    log = Session.save

    def save(self, state, now):
        self.step_now = state.step + 1  # the step that `stopping` is asked about next
        log(self, state, now)

    monkeypatch.setattr(Session, "step_now", 0, raising=False)
    monkeypatch.setattr(Session, "save", save)
    monkeypatch.setattr(Session, "should_stop", stop)


CHANGES = {"double": ("device", "dtype", "float64"), "no jumps": ("sampler", "jumps", None)}


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("name", CHANGES)
def test_settings_may_change_between_two_logged_rows(configured, tmp_path, monkeypatch, name):
    """Stopped at 7, two updates after a row: the next is of three of the old and new kind."""
    with monkeypatch.context() as patch:
        stopped_at(7, patch)
        stopped = run_experiment(
            build(configured("method=pcd", *LENGTH)), tmp_path / "run", {}, quiet=True
        )
    assert stopped["step"] == 7
    section, key, value = CHANGES[name]
    config = RunDir.open(tmp_path / "run").config()
    config[section][key] = value
    assert resume(tmp_path / "run", config, quiet=True)["status"] == "finished"
    found = {row["step"]: row for row in rows(tmp_path / "run")}
    assert ("jump_acceptance" in found[10]) is True
    assert ("jump_acceptance" in found[14]) is (name != "no jumps")


@pytest.mark.usefixtures("no_pictures")
def test_a_configuration_that_fails_its_first_step_is_not_written(
    configured, tmp_path, monkeypatch
):
    def broken(self, energy, batch, state, generator):
        raise RuntimeError("shapes\n do not match")

    run = run_uninterrupted(configured("method=dsm"), tmp_path / "run")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    config = RunDir.open(run).config()
    config["train"]["steps"] = 40
    with monkeypatch.context() as patch:
        patch.setattr(DenoisingScoreMatching, "loss", broken)
        with pytest.raises(CheckpointError, match=r"cannot continue .*\(shapes do not match\)"):
            resume(run, config, quiet=True)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    assert resume(run, config, quiet=True)["step"] == 40


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_killed_after_training_and_before_the_samples(configured, tmp_path, monkeypatch):
    """The verdict of the session before is not taken for that of this one."""
    run = run_uninterrupted(configured("method=dsm"), tmp_path / "run")
    config = RunDir.open(run).config()
    config["train"]["steps"] = 40

    def killed(*_: object):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ebmtrain.runs.session.draw_samples", killed)
        with pytest.raises(KeyboardInterrupt):
            resume(run, config, quiet=True)
    assert load(run / "checkpoints/last.pt")["step"] == 40
    assert result(run)["status"] == "running"
    assert resume(run, quiet=True)["status"] == "finished"
    assert result(run)["step"] == 40


@pytest.mark.usefixtures("no_pictures")
def test_the_last_evaluation_is_restored(configured, tmp_path, monkeypatch):
    warned = lambda *_: Evaluation({"nll": 1.5}, ["uncertain"])  # noqa: E731
    monkeypatch.setattr(Quadrature, "__call__", warned)
    stopped_at(8, monkeypatch)
    first = run_experiment(
        build(configured("method=dsm", *LENGTH)), tmp_path / "run", {}, quiet=True
    )
    stopped_at(10, monkeypatch)
    second = resume(tmp_path / "run", quiet=True)
    assert (first["step"], second["step"]) == (8, 10)
    for told in (first, second):
        assert (told["metrics"], told["metrics_step"]) == (
            {},
            None,
        )  # those of step 6 are not of it
        assert told["warnings"] == ["uncertain"]
    measured = load(tmp_path / "run/checkpoints/last.pt")["measured"]
    assert (measured["step"], measured["metrics"]) == (6, {"nll": 1.5})


@pytest.mark.usefixtures("no_pictures")
def test_best_uses_nll_without_an_exact_density(configured, tmp_path, monkeypatch):
    values = iter([3.0, 1.0, 2.0, 2.5])
    measured = lambda *_: Evaluation({"nll": next(values), "nll_se": 0.1}, [])  # noqa: E731
    monkeypatch.setattr(Quadrature, "__call__", measured)
    config = configured("method=dsm", *LENGTH, "checkpoint.best=kl")
    told = run_experiment(build(config), tmp_path / "run", {}, quiet=True)
    assert told["best"] == {"metric": "nll", "value": 1.0, "step": 6}
    followed, passed = told["warnings"]
    assert followed == "checkpoint.best=kl is not measured here: best.pt follows nll"
    assert passed.startswith("nll was 1.0000 at step 6 and is 2.5000 now")
    assert load(tmp_path / "run/checkpoints/best.pt")["step"] == 6


@pytest.mark.usefixtures("no_pictures")
def test_a_new_best_metric_starts_without_a_best_value(configured, tmp_path, monkeypatch):
    """A KL of 2 is not worse than an NLL of 1."""
    measured = lambda *_: Evaluation({"nll": 1.0, "nll_se": 0.1, "kl": 2.0}, [])  # noqa: E731
    monkeypatch.setattr(Quadrature, "__call__", measured)
    run = run_uninterrupted(configured("method=dsm", *LENGTH), tmp_path / "run")
    config = RunDir.open(run).config()
    config["train"]["steps"] = 20
    config["checkpoint"]["best"] = "kl"
    resume(run, config, quiet=True)
    assert result(run)["best"] == {"metric": "kl", "value": 2.0, "step": 18}


@pytest.mark.usefixtures("no_pictures")
def test_resume_ignores_earlier_random_numbers_of_the_process(configured, tmp_path):
    """The global generator of torch plays no part."""
    run = run_uninterrupted(configured("method=dsm", *LENGTH), tmp_path / "run")
    copy = stopped_after(run, 4, tmp_path / "copy")
    torch.manual_seed(123)
    torch.rand(1000)
    resume(copy, quiet=True)
    assert run_differences(run, copy) == []


def test_the_list_of_methods_is_complete():
    """A new method gets its case above."""
    folder = Path(sys.modules[DenoisingScoreMatching.__module__].__file__ or "").parents[2]
    presets = {path.stem for path in (folder / "configs/method").glob("*.yaml")}
    assert presets <= {word.removeprefix("method=") for words in TRAININGS.values()
                       for word in words if word.startswith("method=")}  # fmt: skip


@pytest.mark.usefixtures("no_pictures")
def test_best_uses_only_its_metric_even_if_one_evaluation_lacks_it(
    configured, tmp_path, monkeypatch
):
    seen = [{"w1": 3.0, "nll": 1.0}, {"w1": 2.0, "nll": 1.0}, {"nll": 0.1}, {"w1": 2.5, "nll": 0.2}]
    values = iter(seen)
    monkeypatch.setattr(Quadrature, "__call__", lambda *_: Evaluation(next(values), []))
    config = configured("method=dsm", *LENGTH, "checkpoint.best=w1")
    told = run_experiment(build(config), tmp_path / "run", {}, quiet=True)
    assert told["best"] == {"metric": "w1", "value": 2.0, "step": 6}
    (passed,) = told["warnings"]
    assert passed.startswith("w1 was 2.0000 at step 6 and is 2.5000 now")
    assert load(tmp_path / "run/checkpoints/best.pt")["step"] == 6


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("name", "what"), [("weights", "no single number"), ("nl", "not measured")]
)
def test_an_unknown_best_metric_is_refused(configured, tmp_path, monkeypatch, name, what):
    numbers = {"weights": [0.5, 0.5], "nll": 1.0}
    monkeypatch.setattr(Quadrature, "__call__", lambda *_: Evaluation(numbers, []))
    config = configured("method=dsm", *LENGTH, f"checkpoint.best={name}")
    told = run_experiment(build(config), tmp_path / "run", {}, quiet=True)
    assert told["best"]["metric"] == "nll"
    (warning,) = told["warnings"]
    assert f"checkpoint.best={name} is {what}" in warning
    assert "best.pt follows nll" in warning
    assert name != "nl" or warning.endswith("did you mean nll?")


# Killed before there was anything to go on from


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_killed_before_the_first_checkpoint(configured, tmp_path, monkeypatch):
    config = configured("method=pcd", *LENGTH)
    whole = run_uninterrupted(config, tmp_path / "whole")

    def killed(*_: object, **__: object):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "save_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            run_experiment(build(config), tmp_path / "run", {}, quiet=True)
    assert rows(tmp_path / "run")[0]["step"] == 0
    assert resume(tmp_path / "run", quiet=True)["status"] == "finished"
    assert run_differences(whole, tmp_path / "run") == []
    assert "had not begun" in (tmp_path / "run/run.log").read_text()


@pytest.mark.usefixtures("no_pictures")
def test_removed_checkpoints_are_an_error(configured, tmp_path):
    run = run_uninterrupted(configured("method=dsm"), tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(CheckpointError, match="holds none"):
        resume(run, quiet=True)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("shape", [(3,), ()])
def test_moments_of_wrong_shape_are_refused(configured, tmp_path, shape):
    run = run_uninterrupted(configured("method=dsm", *LENGTH), tmp_path / "run")
    copy = stopped_after(run, 8, tmp_path / "copy")
    saved = load(copy / "checkpoints/last.pt")
    saved["optimizer"]["state"][0]["exp_avg"] = torch.zeros(shape)
    del saved["format"]
    (copy / "checkpoints/last.pt").write_bytes(encode(saved))
    with pytest.raises(CheckpointError, match="moments of parameter 0 do not fit"):
        resume(copy, quiet=True)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("order", [[1, 0], [0, 0], [False, 2]])
def test_moments_of_other_parameters_are_refused(configured, tmp_path, order):
    run = run_uninterrupted(configured("method=dsm", *LENGTH), tmp_path / "run")
    copy = stopped_after(run, 8, tmp_path / "copy")
    saved = load(copy / "checkpoints/last.pt")
    saved["optimizer"]["param_groups"][0]["params"][:2] = order
    del saved["format"]
    (copy / "checkpoints/last.pt").write_bytes(encode(saved))
    with pytest.raises(CheckpointError, match="parameters in another order"):
        resume(copy, quiet=True)


@pytest.mark.usefixtures("no_pictures")
def test_integer_chains_are_refused(configured, tmp_path):
    run = run_uninterrupted(configured("method=pcd", *LENGTH), tmp_path / "run")
    copy = stopped_after(run, 8, tmp_path / "copy")
    saved = load(copy / "checkpoints/last.pt")
    saved["method"]["chains"] = saved["method"]["chains"].long()
    del saved["format"]
    (copy / "checkpoints/last.pt").write_bytes(encode(saved))
    with pytest.raises(CheckpointError, match=r"chains is of torch\.int64"):
        resume(copy, quiet=True)


@pytest.mark.usefixtures("no_pictures")
def test_best_is_loaded_if_all_others_are_damaged(configured, tmp_path):
    run = run_uninterrupted(configured("method=pcd", *LENGTH), tmp_path / "run")
    copy = stopped_after(run, 8, tmp_path / "copy")
    best = load(copy / "checkpoints/best.pt")["step"]
    for path in copy.glob("checkpoints/[sl]*.pt"):
        path.write_bytes(path.read_bytes()[:-1])
    state, passed = RunDir(copy).load_checkpoint()
    assert state["step"] == best
    assert passed[-1].endswith("best.pt is used instead")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("chains", torch.zeros(64, 2, dtype=torch.bool), r"its chains are torch\.bool"),
        ("chains", torch.zeros(64, 3), r"its chains are torch\.float32 of shape \(64, 3\)"),
        ("chains", torch.zeros(()), r"its chains are torch\.float32 of shape \(\)"),
        ("log_weights", torch.zeros(63), r"its weights are torch\.float32 of shape \(63,\)"),
        ("log_weights", torch.zeros(64, dtype=torch.int64), r"its weights are torch\.int64"),
    ],
)  # fmt: skip
def test_invalid_chains_are_refused(configured, tmp_path, name, value, reason):
    run = run_uninterrupted(configured("method=pcd", *LENGTH), tmp_path / "run")
    saved = load(run / "checkpoints/last.pt")
    saved["method"][name] = value
    del saved["format"]
    (run / "checkpoints/last.pt").write_bytes(encode(saved))
    with pytest.raises(CheckpointError, match=reason):
        ebmtrain.load(run)


@pytest.mark.parametrize(
    ("saved", "named"),
    [
        ({}, None),
        ({"threads": 64, "cpp_library": "?"}, ["threads from 64 to", "cpp_library from '?' to"]),
        ({"versions": {"torch": "1.0"}}, ["torch from '1.0' to"]),
        ({"versions": ["1.0"], "device": "\x1b[2J"}, ["device from"]),
    ],
)
@pytest.mark.usefixtures("no_pictures")
def test_a_change_of_the_environment_is_named(configured, tmp_path, saved, named):
    run = run_uninterrupted(configured("method=dsm", "train.steps=2"), tmp_path / "run")
    about = json.loads((run / "run.json").read_text())
    assert about["cpp_library"] in (True, False)
    (run / "run.json").write_text(json.dumps({**about, **saved}))
    config = configured("method=dsm", "train.steps=3")
    assert resume(run, config, quiet=True)["step"] == 3
    log = (run / "run.log").read_text()
    assert "\x1b" not in log
    found = [line for line in log.splitlines() if "rounding may differ" in line]
    assert len(found) == (named is not None)
    assert all(words in found[0] for words in named or [])


@pytest.mark.parametrize(("adaptation", "told"), [(True, True), (False, False)])
@pytest.mark.usefixtures("no_pictures")
def test_another_initial_step_size_has_no_effect_once_it_is_adapted(
    configured, tmp_path, adaptation, told
):
    words = ["method=pcd", "sampler=mala", *([] if adaptation else ["sampler.adaptation=null"])]
    run = run_uninterrupted(configured(*words, "train.steps=2"), tmp_path / "run")
    resume(run, configured(*words, "train.steps=3"), quiet=True)
    assert "has no effect" not in (run / "run.log").read_text()
    resume(run, configured(*words, "train.steps=4", "sampler.step_size=0.5"), quiet=True)
    assert ("sampler.step_size has no effect" in (run / "run.log").read_text()) is told
