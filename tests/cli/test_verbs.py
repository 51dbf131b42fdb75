"""The verbs, and what a run leaves for notebooks and scripts."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import ebmtrain
from ebmtrain.cli.main import VERBS
from ebmtrain.config import preset_files, presets
from ebmtrain.errors import ConfigError, UnsafeError
from ebmtrain.runs.storage.atomic_io import lock_directory
from ebmtrain.runs.storage.checkpoint_format import encode
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.score import energies

# check, list, init


@pytest.mark.usefixtures("no_pictures")
def test_check_writes_nothing(command, folder: Path, tiny):
    outcome = command("check", *tiny)
    assert outcome.code == 0
    assert outcome.lines[0].startswith("model mlp  sampler mala  method pcd")
    assert "one step" in outcome.out
    assert re.match(r"evaluations, samples and figures take about \d+ s, \d+%", outcome.lines[-2])
    assert outcome.lines[-1] == "ok"
    assert list(folder.iterdir()) == []
    assert command("check", "model=double_well", "train.steps=0").code == 0
    assert command("check", "experiment=pcd_moons", *tiny).code == 2  # no such experiment
    assert command("check", "+experiment=pcd_swissroll", *tiny).code == 0


OWN_ENERGIES = """
import math
from torch import nn

class Layers(nn.Module):
    def __init__(self, event_shape, layer):
        super().__init__()
        width = math.prod(event_shape)
        self.layers = nn.Sequential(nn.Linear(width, 16), layer, nn.Linear(16, 1))
    def forward(self, x):
        return self.layers(x.flatten(1))[:, 0]

def batch_norm(*, event_shape): return Layers(event_shape, nn.BatchNorm1d(16))
def dropout(*, event_shape): return Layers(event_shape, nn.Dropout())
def layer_norm(*, event_shape): return Layers(event_shape, nn.LayerNorm(16))

class Scalars(nn.Module):
    window, event_shape = (-4.0, 4.0), (2,)
    def forward(self, x): return x.square().sum(1)

class Swapped(Scalars): window = ((4.0, 4.0), (-4.0, -4.0))
class Long(Scalars): window = ((-4.0, -4.0, -4.0), (4.0, 4.0, 4.0))
class Infinite(Scalars): window = ((-math.inf, -4.0), (4.0, 4.0))
class Fitting(Scalars): window = ((-4.0, -4.0), (4.0, 4.0))
class Column(Fitting):
    def forward(self, x): return x.square().sum(1, keepdim=True)
"""


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize(
    ("part", "fault"),
    [("batch_norm", "changes by"), ("dropout", "changes by"), ("layer_norm", ""),
     ("Scalars", "window must be"), ("Swapped", "window must be"), ("Long", "window must be"),
     ("Infinite", "window must be"), ("Column", "one energy per point"), ("Fitting", "")],
)  # fmt: skip
def test_check_refuses_what_the_run_refuses(command, folder: Path, tiny, part: str, fault: str):
    (folder / "own_energies.py").write_text(OWN_ENERGIES)
    (folder / "own/model").mkdir(parents=True)
    (folder / "own/model/part.yaml").write_text(f"_target_: own_energies.{part}")
    steps = "train.steps=0" if part[0].isupper() else "train.steps=1"
    words = [w for w in tiny if not w.startswith(("model.", "train.steps"))]
    words = ["--config-dir", "own", *words, "model=part", steps]
    checked, run = command("check", *words), command(*words, "hydra.run.dir=run")
    assert checked.code == run.code == (2 if fault else 0), checked.err
    assert fault in checked.err
    assert checked.err == run.err
    assert (folder / "run").exists() == (not fault)


@pytest.mark.slow
def test_every_experiment_passes_its_check(command, folder):
    x = np.random.default_rng(0).normal(size=(80, 3))
    np.savez(folder / "table.npz", X=x, y=np.arange(80) % 8 == 0)
    words = {"anomaly": (f"dataset.path={folder / 'table.npz'}", "dataset.label=y")}
    for name in presets.Presets().options("experiment"):
        fewer = ("dataset.n_train=300",) if name.startswith(("pcd", "landscape")) else ()
        fewer += words.get(name, ())
        assert command("check", f"experiment={name}", *fewer).code == 0


def test_list_shows_every_option_with_a_description(command):
    outcome = command("list")
    assert outcome.code == 0
    for group in ("model", "sampler", "method", "dataset", "device", "optimizer", "experiment"):
        assert f"{group}=" in outcome.lines
        for name in presets.Presets().options(group):
            line = next(line for line in outcome.lines if line.startswith(f"  {name} "))
            assert len(line.split()) > 2
    only = command("list", "method")
    assert only.lines[0] == "method="
    assert "mlp" not in only.out
    wrong = command("list", "metod")
    assert (wrong.code, "did you mean method?" in wrong.err) == (2, True)


def test_the_comments_of_a_preset_are_the_help_of_its_options(command, folder: Path):
    """By `list` and by --help, in either order of --config-dir; every option of every built-in part
    has a comment, and every method says what its loss is."""
    page = command("list", "method/pcd").out
    assert page.startswith("method=pcd\n  Persistent contrastive divergence")
    assert re.search(r"^  method.slots=4096 +chains in the buffer, at least the batch$", page, re.M)
    assert command("method=pcd", "--help").out == page
    both = command("method=pcd", "sampler=hmc", "-h").out
    assert page in both
    assert re.search(r"^  sampler.adaptation.target=0.7 +acceptance rate$", both, re.M)
    assert "  train.ema=0.999" in command("list", "train").out
    assert "  model.width=64" in command("list", "experiment/wine").out
    known = presets.Presets()
    for group in set(known.groups()) - {"experiment"}:
        for name, path in known.options(group).items():
            bare = [o.key for o in preset_files.read_options(path) if o.value and not o.comment]
            assert {key.rpartition(".")[2] for key in bare} <= {"_target_", "seed"}, (name, bare)
    for name in known.options("method"):
        assert "\n  loss: " in command("list", f"method/{name}").out
    (folder / "own/method").mkdir(parents=True)
    (folder / "own/method/mine.yaml").write_text("# Mine\n_target_: mine.Mine\na: 3  # three\n")
    wanted = "method=mine\n  Mine\n  method.a=3  three\n"
    assert command("list", "--config-dir", "own", "method/mine").out == wanted
    assert command("--config-dir", "own", "list", "method/mine").out == wanted
    assert command("--config-dir=own", "method=mine", "--help").out == wanted
    wrong = command("list", "method/PCD")
    assert (wrong.code, "did you mean pcd?" in wrong.err) == (2, True)


def test_options_are_read_as_yaml_reads_them():
    """The value, nested keys, comments of several lines."""
    for group in presets.Presets().groups():
        for path in presets.Presets().options(group).values():
            content = yaml.safe_load(path.read_text())
            for option in preset_files.read_options(path):
                node = content
                for key in option.key.split("."):
                    node = node[key]
                if option.value:
                    assert yaml.safe_load(option.value) == node, (path, option)


def test_init_copies_a_group(command, folder: Path):
    assert command("init", "own", "method", "model/mlp").code == 0
    copied = {p.relative_to("own").as_posix() for p in Path("own").rglob("*.yaml")}
    methods = presets.Presets().options("method")
    assert copied == {"model/mlp.yaml", *(f"method/{name}.yaml" for name in methods)}
    assert "did you mean method?" in command("init", "other", "metod").err
    assert "did you mean method/pcd?" in command("init", "other", "method/PCD").err


def test_a_verb_may_follow_the_users_folder(command, folder: Path):
    (folder / "own/model").mkdir(parents=True)
    (folder / "own/model/mine.yaml").write_text("# Mine\n_target_: mine.Mine\n")
    for words in (["--config-dir", "own"], ["--config-dir=own"], ["-cd", "own"]):
        assert "Mine" in command(*words, "list", "model").out
    assert command("--config-dir", "own", "check", "model=none_such").code == 2


@pytest.mark.usefixtures("no_pictures")
def test_check_announces_a_slow_update(command, monkeypatch, tiny):
    monkeypatch.setattr("ebmtrain.cli.check._SLOW_SECONDS", 0.0)
    monkeypatch.setattr("ebmtrain.cli.check._MAX_SECONDS", 1e-9)
    lines = command("check", *tiny).lines
    (announced,) = [i for i, line in enumerate(lines) if line.startswith("an update takes about")]
    assert lines[announced + 1].startswith("update 1 took ")
    assert lines[announced + 2].startswith("one step ")


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_a_usage_line(command, folder: Path, verb: str):
    for flag in ("-h", "--help"):
        outcome = command(verb, flag)
        assert outcome.code == 0
        assert outcome.lines[0].startswith(f"ebmtrain {verb}")
        assert "`" not in outcome.out
    assert list(folder.iterdir()) == []


def test_help_shows_the_options_of_the_users_folder(command, folder: Path):
    user_code = folder / "own/model/mine.yaml"
    user_code.parent.mkdir(parents=True)
    user_code.write_text("_target_: mine.Mine")
    assert "model: ackley, composition" in command("-h").out
    shown = command("--config-dir", "own", "--help").out
    assert "mine, mixtures, mlp" in shown
    assert all(f"ebmtrain {verb}" in shown or f"|{verb}" in shown for verb in VERBS)


def test_init_never_overwrites_without_force(command, folder: Path):
    assert command("init", "own", "model/mlp", "dataset/moons").code == 0
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.yaml"))
    assert files == ["own/dataset/moons.yaml", "own/model/mlp.yaml"]
    mine = folder / "own/model/mlp.yaml"
    assert mine.read_bytes() == (presets.BUILT_IN / "model/mlp.yaml").read_bytes()
    mine.write_text("mine")
    again = command("init", "own", "model/mlp")
    assert again.code == 2
    assert "own/model/mlp.yaml exists; --force overwrites it" in again.err
    refused = command("init", "own")  # all of them, of which one is there
    assert refused.code == 2
    assert not (folder / "own/method").exists()
    assert mine.read_text() == "mine"
    assert command("init", "own", "model/mlp", "--force").code == 0
    assert mine.read_text() != "mine"
    assert "did you mean model/mlp?" in command("init", "x", "model/mpl").err
    assert command("init").code == 2


@pytest.mark.parametrize("link", ["own/model", "own/model/mlp.yaml"])
def test_init_writes_through_no_link(command, folder: Path, link: str):
    """A folder or a file below the target that leads elsewhere, with --force too."""
    elsewhere = folder / "elsewhere"
    if link.endswith(".yaml"):
        elsewhere.write_text("mine")
    else:
        elsewhere.mkdir()
    (folder / link).parent.mkdir(parents=True)
    (folder / link).symlink_to(elsewhere)
    outcome = command("init", "own", "model/mlp", "--force")
    assert outcome.code == 7
    assert outcome.err == f"ebmtrain: {link} is a link: put what it points to in its place\n"
    assert (
        list(elsewhere.iterdir()) == [] if elsewhere.is_dir() else elsewhere.read_text() == "mine"
    )
    (folder / "target").mkdir()
    (folder / "named").symlink_to("target")
    assert command("init", "named", "model/mlp").code == 0  # the folder itself is the user's choice
    assert (folder / "target/model/mlp.yaml").is_file()


def test_help_names_inpainting_denoising_and_properties(command):
    page = command("-h").out
    assert "ebmtrain sample RUN --inpaint MASK" in page
    assert "ebmtrain sample RUN --denoise FILE noise=S" in page
    for text in (page, command("verify", "-h").out):
        assert "properties" in text
        assert "laws" not in text


@pytest.mark.usefixtures("no_pictures")
def test_a_user_preset_precedes_the_built_in_one(command, folder: Path, tiny):
    command("init", "own", "model/mlp")
    path = folder / "own/model/mlp.yaml"
    path.write_text(path.read_text().replace("depth: 2", "depth: 3"))
    words = ("--config-dir", "own", *tiny)
    assert "depth: 3" in command("--cfg", "job", *words).out
    assert "depth: 2" in command("--cfg", "job", *tiny).out
    assert command(*words, "hydra.run.dir=run", "train.steps=2").code == 0
    assert yaml.safe_load((folder / "run/config.yaml").read_text())["model"]["depth"] == 3
    assert str(path) in command("list", "model", "--config-dir", "own").out


# A run and what can be asked of it


@pytest.fixture
def run(trained, folder: Path, tiny, no_pictures) -> Path:
    return shutil.copytree(trained(*tiny, "dataset=moons"), folder / "run")


@pytest.mark.slow
def test_resume_with_more_steps(command, run: Path):
    assert command("resume", run).code == 2
    outcome = command("resume", run, "train.steps=30")
    assert outcome.code == 0
    assert "resumed at step 20 of 30" in outcome.out
    assert json.loads((run / "result.json").read_text())["step"] == 30
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["steps"] == 30


def test_resume_with_steps_after_epochs(command, folder: Path, tiny, no_pictures):
    assert command(*tiny, "hydra.run.dir=run", "train.epochs=1").code == 0
    assert json.loads((folder / "run/result.json").read_text())["step"] == 7
    assert "give train.steps=14" in command("resume", "run").err
    assert command("resume", "run", "train.steps=14").code == 0
    assert json.loads((folder / "run/result.json").read_text())["step"] == 14


@pytest.mark.slow
def test_one_writer_at_a_time(command, folder: Path, run: Path, tiny):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with lock_directory(run):
        held = (run / ".lock").read_bytes()
        for words in (["resume", "run", "train.steps=30"], [*tiny, "hydra.run.dir=run"]):
            outcome = command(*words)
            assert outcome.code == 5
            assert re.match(r"ebmtrain: \S*run is in use by process \d+ on ", outcome.err)
        for verb in ("evaluate", "sample"):  # reading is free
            assert command(verb, "run").code == 0
    now = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert before.items() <= (now | {run / ".lock": before[run / ".lock"]}).items()
    assert held == (run / ".lock").read_bytes()
    assert command("resume", "run", "train.steps=30").code == 0  # what is left is not in the way


@pytest.mark.slow
@pytest.mark.parametrize("word", ["seed=3", "sampler.temperature=2", "model.base_std=1"])
def test_evaluate_uses_the_trained_model(command, run: Path, word):
    outcome = command("evaluate", run, word)
    assert outcome.code == 2
    assert f"unknown option {word.partition('=')[0]}" in outcome.err
    assert not (run / "evaluation.json").exists()
    assert command("evaluate", run, "checkpoint=best", "evaluation.margin=0.5").code == 0
    told = json.loads((run / "evaluation.json").read_text())
    assert told["checkpoint"] == "best"
    assert told["options"] == {"evaluation.margin": 0.5}


@pytest.mark.parametrize("verb", ["resume", "evaluate", "sample", "plot"])
def test_a_folder_that_is_no_run_is_refused(command, folder: Path, verb):
    for words, saying in [
        ([], "expected one run directory, got 0"),
        (["nowhere"], "nowhere is not a directory"),
        ([str(folder)], "is not a run directory: it has no config.yaml"),
        ([str(folder), "x"], "expected one run directory, got 2"),
        ([str(folder), "--tursted", "x"], "unknown flag --tursted"),
        ([str(folder), "--trust"], "--trust needs a value"),
    ]:
        outcome = command(verb, *words)
        assert outcome.code == 2
        assert saying in outcome.err
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["resume", "evaluate", "sample", "plot"])
def test_unknown_options_of_a_verb_are_refused(command, run: Path, verb):
    outcome = command(verb, run, "cuont=5")
    assert outcome.code == 2
    assert "unknown" in outcome.err


def test_damaged_checkpoints_are_reported(command, run: Path):
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    for verb in ("resume", "evaluate", "sample", "plot"):
        outcome = command(verb, run)
        assert outcome.code == 4
        assert "no usable checkpoint" in outcome.err
        assert outcome.err.count("SHA-256") == 1
        assert outcome.err.endswith("restore one from a copy, or train again\n")
        assert "Traceback" not in outcome.err


def test_evaluate_gives_the_metrics_of_the_run(command, run: Path):
    said = json.loads((run / "result.json").read_text())["metrics"]
    outcome = command("evaluate", run)
    assert outcome.code == 0
    assert json.loads((run / "evaluation.json").read_text())["metrics"] == said
    assert f"{said['kl']:.6g}" in outcome.out
    finer = command("evaluate", run, "evaluation.resolution=128", "checkpoint=best.pt")
    assert finer.code == 0
    assert "did you mean evaluation.resolution?" in command(
        "evaluate", run, "evaluation.resolutoin=1").err  # fmt: skip


def test_sample_writes_files(command, run: Path):
    assert command("sample", run, "count=30").code == 0
    with np.load(run / "samples/sample_30.npz") as file:
        x, energy = file["x"], file["energy"]
    assert x.shape == (30, 2)
    model = ebmtrain.load(run)
    with torch.no_grad():
        expected = model.energy(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(energy, expected, rtol=1e-6)
    assert command("sample", run, "count=30", "out=a b.npy", "seed=1").code == 0
    assert command("sample", run, "count=30", "out=x.csv", "seed=1").code == 0
    np.testing.assert_allclose(np.load("a b.npy"), np.loadtxt("x.csv", delimiter=","))
    assert not np.array_equal(np.load("a b.npy"), x)
    again = command("sample", run, "count=30", "out=c.npy", "seed=1", "start=noise", "thin=1")
    assert again.code == 0
    for words in (["count=0"], ["count=1.5"], ["start=moon"], ["out=x.png"], ["burn_in=-1"]):
        assert command("sample", run, *words).code == 2


def test_load_gives_energies_scores_and_samples(run: Path):
    model = ebmtrain.load(run)
    assert model.step == 20
    assert model.result["status"] == "finished"
    assert model.config["dataset"]["density"]["_target_"].endswith("Moons")
    x = model.sample(70)
    assert x.shape == (70, 2)
    assert torch.equal(x, model.sample(70))
    assert not torch.equal(x, model.sample(70, seed=5))
    points = torch.randn(10, 2, requires_grad=True)
    energy = model.energy(points)
    assert energy.shape == (10,)
    (gradient,) = torch.autograd.grad(energy.sum(), points)
    assert gradient.abs().min() > 0
    assert all(not p.requires_grad for p in model.energy.parameters())
    lists = points.detach().double().tolist()
    for same in (lists, np.array(lists), np.array(lists, order="F")):
        assert torch.equal(model.energy(same), model.energy(torch.tensor(lists).double()))
    for wrong in (lists[0], np.zeros((5, 3)), torch.zeros(2, 2, 1), 3.0):
        with pytest.raises(ValueError, match=r"the energy takes points of shape \(n, 2\), got \("):
            model.energy(wrong)
    for words, saying in [
        ({"count": -1}, "count must be greater than 0, got -1"),
        ({"count": 5, "start": "moon"}, "start must be 'chains', 'noise' or 'data', got 'moon'"),
        ({"count": 2.5, "thin": 0}, "count must be a valid integer.*; thin must be greater than 0"),
        ({"count": 5, "seed": -1}, "seed must be greater than or equal to 0, got -1"),
    ]:
        with pytest.raises(ConfigError, match=saying):
            model.sample(**words)
    best = ebmtrain.load(run, checkpoint="best.pt")
    assert best.step == model.result["best"]["step"]
    with pytest.raises(ConfigError):
        ebmtrain.load(run / "checkpoints")


def test_load_uses_the_averaged_weights(run: Path):
    state = torch.load(run / "checkpoints/last.pt", weights_only=True)
    model = ebmtrain.load(run)
    for name, value in model.standard_energy.state_dict().items():
        assert torch.equal(value, state["average"][name])


def test_a_damaged_newest_checkpoint_is_skipped_with_a_warning(run: Path):
    for name in ("last.pt", "step_00000020.pt"):
        path = run / "checkpoints" / name
        path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.warns(UserWarning, match=r"is damaged.*step_00000010\.pt is used instead"):
        assert ebmtrain.load(run).step == 10


def test_a_verb_names_the_checkpoint_used_instead_of_a_damaged_one(command, run: Path):
    path = run / "checkpoints/last.pt"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    for verb in (["evaluate"], ["sample", "count=5"]):
        outcome = command(verb[0], run, *verb[1:])
        assert (outcome.code, outcome.err) == (0, "")
        (line,) = [line for line in outcome.lines if "last.pt is damaged" in line]
        assert line.startswith("warning: ")
        assert line.endswith("; step_00000020.pt is used instead")


def test_an_invalid_yaml_configuration_is_refused_in_one_line(command, run: Path):
    (run / "config.yaml").write_text("x: [")
    outcome = command("evaluate", run)
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1
    assert "config.yaml cannot be read: " in outcome.err


def changed(run: Path, *keys: str, value: object) -> None:
    config = RunDir.open(run).config()
    node = config
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    RunDir(run).write_config(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("model",), {"_target_": "os.system", "command": "touch executed"}),
        (("sampler", "adaptation"), {"_target_": "subprocess.run", "args": ["touch", "executed"]}),
        (("dataset", "density"), {"_target_": "ebmtrain.runs.storage.rundir.os.system"}),
        (("dataset", "density", "std"), "${oc.env:HOME}"),
        (
            ("optimizer",),
            {
                "_target_": "ebmtrain.cli.main.main",
                "argv": ["check", "--config-dir", "evil", "dataset=evil"],
            },
        ),
    ],
)
def test_a_foreign_run_directory_executes_no_code(command, run, folder, keys, value):
    changed(run, *keys, value=value)
    with pytest.raises(UnsafeError):
        ebmtrain.load(run)
    for verb in ("resume", "evaluate", "sample", "plot"):
        assert command(verb, run).code == 7
    assert not (folder / "executed").exists()


@pytest.mark.slow
def test_plot_reproduces_the_figures_of_the_run(command, folder: Path, tiny):
    words = ("train.steps=8", "plots.every=4", "checkpoint.every=4", "evaluation.every=4")
    assert command(*tiny, "hydra.run.dir=run", *words).code == 0
    plots = folder / "run/plots"
    drawn = {path.name: path.read_bytes() for path in plots.iterdir()}
    assert {"landscape_final.png", "samples_final.png", "curves.png", "progress.png",
            "landscape.gif", "landscape_00000004.png"} <= set(drawn)  # fmt: skip
    shutil.rmtree(plots)
    assert command("plot", "run").code == 0
    for name in ("samples_final.png", "curves.png", "chains.png", "landscape_final.png"):
        assert (plots / name).read_bytes() == drawn[name], name
    again = {path.name: path.read_bytes() for path in plots.iterdir()}
    assert command("plot", "run", "checkpoint=4").code == 0
    now = {path.name: path.read_bytes() for path in plots.iterdir()}
    assert again.items() <= now.items()
    shown = ("landscape", "samples", "progress", "chains")
    assert set(now) - set(again) == {f"{name}_step_00000004.png" for name in shown}


# Data of one's own


def saved(folder: Path, x: np.ndarray) -> str:
    np.save(folder / "data.npy", x)
    return "dataset.path=data.npy"


@pytest.fixture
def run_of_file(command, folder: Path, tiny_file, no_pictures) -> Path:
    path = saved(folder, np.random.default_rng(0).normal(size=(300, 2)) * 7 + 100)
    assert command(*tiny_file, "dataset=file", path, "hydra.run.dir=run").code == 0
    return folder / "run"


def test_a_model_keeps_its_units_without_its_data(command, folder, run_of_file):
    before = ebmtrain.load(run_of_file)
    x = before.sample(50)
    energy = before.energy(x)
    for points in (np.random.default_rng(1).normal(size=(300, 2)), None):
        if points is None:
            (folder / "data.npy").unlink()
        else:
            np.save(folder / "data.npy", points)
        after = ebmtrain.load(run_of_file)
        assert torch.equal(after.sample(50), x)
        assert torch.equal(after.energy(x), energy)
        assert command("sample", "run", "count=20").code == 0


@pytest.mark.usefixtures("unrendered")
def test_out_of_distribution_points_are_compared_with_held_out_points(command, folder, run_of_file):
    """Not with samples of the model, which here are far from the data."""
    others = np.random.default_rng(2).normal(size=(50, 2)) * 14 + 100
    np.save(folder / "others.npy", others)
    outcome = command("evaluate", "run", "ood=others.npy")
    assert outcome.code == 0, outcome.err
    model = ebmtrain.load(run_of_file)
    assert model.experiment.dataset is not None
    usual, unusual = model.energy(model.experiment.dataset.holdout), model.energy(others)
    pairs = unusual[:, None] > usual[None, :]
    found = json.loads((run_of_file / "evaluation.json").read_text())["metrics"]["ood_auroc"]
    assert found == pytest.approx(float(pairs.double().mean()), abs=1e-6)


CHANGES = {
    "scaled": lambda x: x * 1.5,
    "row added": lambda x: np.concatenate([x, x[:1]]),
    "rows swapped": lambda x: x[[1, 0, *range(2, len(x))]],
    "one number": lambda x: x + np.eye(len(x), 2) * 1e-4,
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_data_that_differ_from_the_training_data_are_refused(command, folder, run_of_file, change):
    x = np.load(folder / "data.npy")
    np.save(folder / "data.npy", CHANGES[change](x))
    before = {p: p.read_bytes() for p in run_of_file.rglob("*") if p.is_file()}
    for words in (["evaluate", "run"], ["resume", "run", "train.steps=30"],
                  ["sample", "run", "start=data"]):  # fmt: skip
        outcome = command(*words)
        assert outcome.code == 2, words
        assert "the data are not those the model was trained on" in outcome.err
        assert len(outcome.err.splitlines()) == 1
    assert {p: p.read_bytes() for p in run_of_file.rglob("*") if p.is_file()} == before
    np.save(folder / "data.npy", x)
    assert command("evaluate", "run").code == 0


def test_rounding_differences_of_the_data_are_accepted(folder: Path, run_of_file):
    """A processor's logarithm may differ from another's there."""
    x = np.load(folder / "data.npy")
    np.save(folder / "data.npy", x * (1 + 1e-15))
    assert ebmtrain.load(run_of_file).experiment.dataset is not None


@pytest.mark.slow
def test_a_run_is_opened_from_another_folder(command, folder: Path, run_of_file, monkeypatch):
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    for words in (["evaluate", "../run"], ["sample", "../run", "start=data", "count=5"],
                  ["resume", "../run", "train.steps=21"]):  # fmt: skip
        assert command(*words).code == 0, words


def test_large_batches_are_evaluated_in_chunks_without_a_graph():
    class Counting(torch.nn.Linear):
        largest = 0

        def forward(self, x):
            assert not self.training
            self.largest = max(self.largest, len(x))
            return super().forward(x)[:, 0]

    energy = Counting(2, 1)
    x = torch.randn(20_000, 2)
    assert torch.allclose(energies(energy, x), energy.eval()(x), atol=1e-6)
    energy.largest = 0
    assert energies(energy.train(), x).requires_grad is False
    assert energy.largest <= 8192
    assert energy.training


@pytest.mark.slow
def test_a_device_can_be_named(command, run: Path):
    assert command("sample", run, "device.accelerator=cpu", "count=5").code == 0
    assert command("sample", run, "device=cpu", "count=5").code == 0
    outcome = command("sample", run, "device.accelerator=tpu", "count=5")
    assert "device.accelerator must be" in outcome.err
    assert command("plot", run, "deivce.accelerator=cpu").code == 2


def test_a_run_from_an_accelerator_loads_without_one(command, run: Path):
    """What only training needs, like the state of CUDA's generator (16 bytes), is not looked at."""
    files = RunDir(run)
    state, _ = files.load_checkpoint()
    state["generator"] = torch.zeros(16, dtype=torch.uint8)
    state["optimizer"] = {"state": {}, "param_groups": []}
    for name in ("last.pt", "step_00000020.pt"):
        (run / "checkpoints" / name).write_bytes(encode(state))
    for verb in ("sample", "evaluate", "plot"):
        assert command(verb, run).code == 0
    outcome = command("resume", run, "train.steps=30")
    assert outcome.code == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["last", "last.pt", "20", "checkpoints/last.pt"])
@pytest.mark.parametrize("verb", ["sample", "evaluate", "plot"])
def test_checkpoints_are_selected_by_name_and_number(command, run: Path, verb, name):
    assert command(verb, run, f"checkpoint={name}").code == 0
    missing = command(verb, run, "checkpoint=7")
    assert missing.code == 4
    assert "step_00000007.pt cannot be read" in missing.err


@pytest.mark.slow
@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize("shape", [(300,), (300, 1), (300, 3), (300, 5), (300, 4, 3)])
def test_points_may_have_any_shape(command, folder: Path, tiny_file, shape):
    x = np.random.default_rng(0).normal(size=shape) * 7 + 100
    outcome = command(*tiny_file, "dataset=file", saved(folder, x), "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    event = shape[1:] or (1,)
    model = ebmtrain.load(folder / "run")
    assert tuple(model.sample(40).shape) == (40, *event)
    assert model.energy(model.sample(40)).shape == (40,)
    metrics = model.result["metrics"]
    assert ("nll" in metrics) == (np.prod(event) <= 3)
    if np.prod(event) > 3:
        assert "no exact evaluation: quadrature works in up to 3 dimensions" in outcome.out
    assert "no landscape: it is drawn for 2-D data" in outcome.out
    assert (folder / "run/plots/samples_final.png").exists()
    assert command("sample", "run", "count=20", "out=x.csv").code == 0
    assert np.loadtxt("x.csv", delimiter=",", ndmin=2).shape == (20, np.prod(event))
    assert command("plot", "run").code == 0


@pytest.mark.usefixtures("no_pictures")
def test_disabled_figures_run_no_chains(command, folder, tiny_file, monkeypatch):
    def drawn(*_: object):
        raise AssertionError("chains from noise")

    monkeypatch.setattr("ebmtrain.runs.session.chain_starts", drawn)
    words = [w for w in tiny_file if not w.startswith("method.")]
    path = saved(folder, np.random.default_rng(0).normal(size=(80, 3)))
    assert command(*words, "method=dsm", "dataset=file", path, "plots.every=5").code == 0


@pytest.mark.slow
def test_data_of_large_offset_and_small_scale(command, folder: Path, tiny_file):
    """At 1e6 the neighbours of a float32 are 0.06 away; the data are 1e-3 wide."""
    z = np.random.default_rng(0).normal(size=(2000, 2))
    x = 1e6 + 1e-3 * z
    words = ("dataset=file", saved(folder, x), "model=gaussian", "train.steps=200", "method=sm",
             "optimizer.lr=0.02", "train.batch_size=500", "hydra.run.dir=run")  # fmt: skip
    words = [*(w for w in tiny_file if "model." not in w and "method." not in w), *words]
    outcome = command(*words)
    assert outcome.code == 0, outcome.err
    model = ebmtrain.load(folder / "run")
    samples = model.sample(2000, burn_in=300, chains=2000, start="data").numpy()
    assert samples.dtype == np.float64
    assert samples.mean(0) == pytest.approx([1e6, 1e6], abs=2e-4)
    assert samples.std(0) == pytest.approx([1e-3, 1e-3], rel=0.15)
    a, b = torch.from_numpy(x[:50]), torch.from_numpy(x[50:100])
    difference = (model.energy(b) - model.energy(a)).numpy()
    exact = ((z[50:100] ** 2 - z[:50] ** 2) / 2).sum(1)
    assert difference == pytest.approx(exact, abs=0.15 * np.abs(exact).max())
    entropy = 2 * (0.5 * np.log(2 * np.pi * np.e) + np.log(1e-3))
    assert model.result["metrics"]["nll"] == pytest.approx(entropy, abs=0.15)
    assert (folder / "run/plots/landscape_final.png").exists()


@pytest.mark.usefixtures("no_pictures")
def test_a_constant_column_is_refused(command, folder: Path, tiny_file):
    x = np.c_[np.arange(100.0), np.ones(100)]
    outcome = command(*tiny_file, "dataset=file", saved(folder, x), "hydra.run.dir=run")
    assert outcome.code == 2
    assert "data.npy column 2 is constant (1): leave it out" in outcome.err
    assert not (folder / "run").exists()


@pytest.mark.usefixtures("no_pictures")
def test_data_far_from_the_units_of_the_presets_give_a_warning(command, folder: Path, tiny_file):
    x = 5e8 + 1e6 * np.random.default_rng(0).normal(size=(200, 2))
    words = (*tiny_file, "dataset=file", saved(folder, x))
    assert "warning" not in command("check", *words).out
    outcome = command("check", *words, "dataset.standardize=false")
    remedy = "dataset.standardize=true"
    assert outcome.code == 3  # the first step is one too many
    assert remedy in outcome.err
    (line,) = [line for line in outcome.lines if line.startswith("warning: ")]
    assert "coordinates reach 5.03e+08 in the units of training" in line
    assert remedy in line


@pytest.mark.usefixtures("no_pictures")
def test_energy_differences_are_log_density_differences(command, folder: Path, tiny):
    """nll of result.json is the mean energy of the held-out points plus log Z."""
    assert command(*tiny, "hydra.run.dir=run").code == 0
    model = ebmtrain.load(folder / "run")
    held_out = model.experiment.dataset.holdout  # type: ignore[union-attr]
    metrics = model.result["metrics"]
    nll = float(model.energy(held_out).double().mean()) + metrics["log_z"]
    assert metrics["nll"] == pytest.approx(nll, abs=1e-5)


# Parts of one's own

PARTS = """
from dataclasses import dataclass
import torch
from torch import nn
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.score import energy_and_gradient
from ebmtrain.types import Count, LossOutput, Positive, Sampler, StepInfo

class Quartic(nn.Module):
    def __init__(self, *, event_shape: tuple[int, ...], height: Positive):
        super().__init__()
        self.w = nn.Parameter(torch.full(event_shape, height))
    def forward(self, x):
        return (self.w.exp() * x**4).flatten(1).sum(1)

@dataclass(frozen=True, kw_only=True)
class Walk:
    step_size: Positive
    def init(self, energy, x):
        return (x,)
    def step(self, energy, state, generator):
        (x,) = state
        _, g = energy_and_gradient(energy, x)
        noise = torch.empty_like(x).normal_(generator=generator)
        x = x - self.step_size * g + (2 * self.step_size) ** 0.5 * noise
        return State(x), StepInfo(torch.ones(len(x)), torch.zeros(len(x)))
class State(tuple):
    def __new__(cls, x): return super().__new__(cls, (x,))
    x = property(lambda self: self[0])

@dataclass(frozen=True, kw_only=True)
class Shrink:
    k: Count
    def init(self, x, generator):
        return {"count": torch.zeros(())}
    def loss(self, energy, batch, state, generator):
        loss = (energy(batch.x) - 1).square().mean()
        return LossOutput(loss, {"energy_data": loss.detach()}, {"count": state["count"] + self.k})

def line(*, count: Count, seed: int):
    x = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed)).double() * 3
    return Points(x[10:], x[:10], standardization=fit_standardization(x, True))
"""
OWN = {
    "model/quartic": "_target_: my_parts.Quartic\nheight: 0.5\n",
    "sampler/walk": "# A walk of my own\n_target_: my_parts.Walk\nstep_size: 0.01\n",
    "method/shrink": "_target_: my_parts.Shrink\nk: 3\n",
    "dataset/line": "_target_: my_parts.line\ncount: 300\nseed: ${seed}\n",
}


@pytest.fixture
def user_code(folder: Path, monkeypatch) -> Path:
    (folder / "my_parts.py").write_text(PARTS)
    for name, text in OWN.items():
        path = folder / "presets" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    import sys

    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    return folder / "presets"


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_user_classes_are_used_in_every_group(command, folder: Path, user_code: Path, tiny_file):
    words = [w for w in tiny_file if not w.startswith(("model.", "method."))]
    choice = ["model=quartic", "sampler=walk", "method=shrink", "dataset=line"]
    base = ["--config-dir", str(user_code), *words, *choice]
    outcome = command(*base, "hydra.run.dir=run")
    assert outcome.code == 0, outcome.err
    assert "model quartic  sampler walk  method shrink  dataset line" in outcome.out
    bad = command(*base, "model.height=-1", "method.k=0", "+sampler.stepsize=1")
    assert bad.code == 2
    assert "model.height must be greater than 0" in bad.err
    assert "unknown key sampler.stepsize; did you mean sampler.step_size?" in bad.err
    assert "ebmtrain sample run count=1000 --trust my_parts" in outcome.out
    assert "ebmtrain evaluate run --trust my_parts" in outcome.out
    assert "A walk of my own" in command("list", "sampler", "--config-dir", str(user_code)).out
    assert command("evaluate", "run").code == 7
    assert command("evaluate", "run", "--trust", "my_parts").code == 0
    assert command("resume", "run", "train.steps=25", "--trust=my_parts").code == 0
    assert ebmtrain.load("run", trust=["my_parts"]).sample(5).shape == (5, 2)


BROKEN = {
    "constructor": ("super().__init__()", 2, "ebmtrain: model: no room"),
    "forward": ("return (self", 2, "ebmtrain: model Quartic does not take points of shape (2,)"
                ": no room"),
    "loss": ("loss = (energy", 1, "ebmtrain: unexpected ValueError: no room"),
}  # fmt: skip


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("place", BROKEN)
def test_an_error_in_a_users_part_names_file_and_line(
    command, folder: Path, user_code: Path, tiny_file, place
):
    before, code, message = BROKEN[place]
    lines = PARTS.splitlines()
    number = next(i for i, line in enumerate(lines) if before in line)
    indent = lines[number][: -len(lines[number].lstrip())]
    lines.insert(number, f"{indent}raise ValueError('no room')")
    (folder / "my_parts.py").write_text("\n".join(lines))
    words = [w for w in tiny_file if not w.startswith(("model.", "method."))]
    choice = ["model=quartic", "sampler=walk", "method=shrink", "dataset=line"]
    outcome = command("--config-dir", str(user_code), *words, *choice, "hydra.run.dir=run")
    assert outcome.code == code
    location = f"({folder / 'my_parts.py'}, line {number + 1})"
    assert outcome.err.startswith(f"{message} {location}")
    if place == "loss":
        assert outcome.err.endswith("(traceback: add --debug)\n")
        assert (
            json.loads((folder / "run/result.json").read_text())["error"] == f"no room {location}"
        )


def test_the_version_is_that_of_ebmtrain_and_not_of_hydra(command):
    outcome = command("--version")
    assert outcome.code == 0
    assert outcome.out == f"ebmtrain {ebmtrain.__version__}\n"
