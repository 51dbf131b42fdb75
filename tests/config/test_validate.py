"""Bad configurations: exit code 2, one clear line for each problem, and nothing is left behind."""

from __future__ import annotations

import copy
import math
import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from torch import nn

from ebmtrain.cli.arguments import _quoting_hint
from ebmtrain.config.build import build
from ebmtrain.config.validate import validate
from ebmtrain.errors import ConfigError, UnsafeError

# words: what the message must say (value, cause, remedy), all of it.
BAD = {
    "typo in a key": (["train.stps=5"], ["unknown key train.stps", "did you mean train.steps?"]),
    "typo in a group": (["modle=mlp"], ["unknown key modle", "did you mean model?"]),
    "typo in an option": (
        ["dataset=mons"], ["unknown option dataset=mons", "did you mean moons?"]),
    "option of another group": (
        ["method=mlp"], ["unknown option method=mlp", "known:", "dsm", "pcd"]),
    "key added": (["+train.stpes=5"], ["unknown key train.stpes", "did you mean train.steps?"]),
    "section added": (["+trian.steps=5"], ["unknown key trian", "did you mean train?"]),
    "key of a part added": (["+method.kk=5"], ["unknown key method.kk"]),
    "nested key added": (
        ["+optimizer.schedule.warmup=5"],
        ["unknown key optimizer.schedule.warmup", "did you mean optimizer.schedule.warmup_steps?"]),
    "key removed": (["~train.batch_size"], ["train.batch_size is required"]),
    "section removed": (["~checkpoint"], ["checkpoint is missing"]),
    "part removed": (["~sampler"], ["sampler"]),
    "comma list without -m": (["seed=0,1"], ["seed=0,1", "add -m", "[a,b]"]),
    "name with = in a list": (
        ["model.runs=[a/0_seed=0,b]"], ["quote", """'model.runs=["a/0_seed=0","b"]'"""]),
    "path with brackets": (["dataset.path=t(1).csv"], ["""'dataset.path="t(1).csv"'"""]),
    "empty value": (["optimizer.lr="], ["optimizer.lr", "number", "got ''"]),
    "null value": (["optimizer.lr=null"], ["optimizer.lr", "nothing (null)"]),
    "lr zero": (["optimizer.lr=0"], ["optimizer.lr must be greater than 0, got 0"]),
    "lr negative": (["optimizer.lr=-1e-3"], ["optimizer.lr must be greater than 0, got -0.001"]),
    "lr nan": (["optimizer.lr=nan"], ["optimizer.lr must be a finite number, got nan"]),
    "lr inf": (["optimizer.lr=inf"], ["optimizer.lr must be a finite number, got inf"]),
    "lr word": (["optimizer.lr=fast"], ["optimizer.lr must be a valid number, got 'fast'"]),
    "lr list": (["optimizer.lr=[1e-3]"], ["optimizer.lr must be a valid number, got [0.001]"]),
    "step size zero": (
        ["sampler.step_size=0"], ["sampler.step_size must be greater than 0, got 0"]),
    "step size negative": (["sampler.step_size=-0.1"], ["sampler.step_size", "greater", "-0.1"]),
    "step size nan": (["sampler.step_size=nan"], ["sampler.step_size", "finite"]),
    "step size inf": (["sampler.step_size=inf"], ["sampler.step_size must be a finite number"]),
    "temperature negative": (
        ["sampler.temperature=-1"], ["sampler.temperature must be greater than", "got -1"]),
    "k zero": (["method.k=0"], ["method.k must be greater than 0, got 0"]),
    "k fraction": (["method.k=1.5"], ["method.k must be a valid integer, got 1.5"]),
    "k word": (["method.k=abc"], ["method.k must be a valid integer, got 'abc'"]),
    "k boolean": (["method.k=true"], ["method.k must be a valid integer, got True"]),
    "noise negative": (["method.data_noise=-0.1"], ["method.data_noise", "or equal to 0", "-0.1"]),
    "dsm sigma": (["method=dsm", "method.sigma=-1"], ["method.sigma must be greater than 0"]),
    "more points than fit": (["dataset.n_train=1000000000"],
                             ["dataset.n_train must be less than or equal to 10000000"]),
    "base too narrow": (["model.base_std=1e-300"], ["model.base_std must be greater than or"]),
    "batch zero": (["train.batch_size=0"], ["train.batch_size must be greater than 0, got 0"]),
    "steps negative": (["train.steps=-1"], ["train.steps must be greater than or equal to 0"]),
    "steps fraction": (["train.steps=1e3"], ["train.steps", "1000.0"]),
    "neither steps nor epochs": (
        ["train.steps=null"], ["train.steps and train.epochs are both null", "train.epochs=N"]),
    "two masters of the step size": (
        ["sampler.step_size_end=0.001"], ["sampler.step_size_end", "sampler.adaptation=null"]),
    "seed negative": (["seed=-1"], ["seed must be greater than or equal to 0, got -1"]),
    "seed huge": (["seed=9223372036854775808"], ["seed must be less than or equal to", "got 9223"]),
    "seed fraction": (["seed=0.5"], ["seed must be a valid integer, got 0.5"]),
    "buffer below batch": (
        ["method.slots=10", "train.batch_size=64"],
        ["method.slots is 10, fewer than train.batch_size=64", "raise method.slots"]),
    "probability": (["method.reinit=1.5"], ["method.reinit must be less than or equal to 1"]),
    "probability negative": (
        ["method.reinit=-0.1"], ["method.reinit must be greater than or equal to 0, got -0.1"]),
    "index of a device": (
        ["device.accelerator=cuda:7"], ["device.accelerator must be", "'cuda'", "got 'cuda:7'"]),
    "beyond 64 bits": (
        [f"evaluation.margin=1{'0' * 30}"], ["evaluation.margin must fit into 64 bits"]),
    "ema one": (["train.ema=1"], ["train.ema must be less than 1, got 1"]),
    "ema negative": (["train.ema=-0.1"], ["train.ema must be greater than or equal to 0"]),
    "momentum": (["optimizer=sgd", "optimizer.momentum=1.0"], ["optimizer.momentum", "less than"]),
    "nesterov alone": (
        ["optimizer=sgd", "optimizer.nesterov=true", "optimizer.momentum=0"],
        ["optimizer", "nesterov needs momentum > 0"]),
    "checkpoint period zero": (["checkpoint.every=0"], ["checkpoint.every must be greater than 0"]),
    "best of what": (["checkpoint.best=''"], ["checkpoint.best string should have at least 1"]),
    "start of what": (["samples.start=moon"], ["samples.start must be", "'noise'", "got 'moon'"]),
    "dtype": (["device.dtype=float16"], ["device.dtype must be 'float32' or 'float64'"]),
    "accelerator": (["device.accelerator=tpu"], ["device.accelerator must be", "got 'tpu'"]),
    "threads zero": (["device.threads=0"], ["device.threads must be greater than 0, got 0"]),
    "threads huge": (["device.threads=1180591620717411303424"], ["device.threads must be less"]),
    "group null": (["sampler=null"], ["a group cannot be null"]),
    "a part where a number was": (
        ["+train.ema._target_=builtins.dict"], ["train.ema"]),
    "a number where a part was": (
        ["sampler.adaptation=3"], ["sampler.adaptation must be a mapping with a _target_, got 3"]),
    "unknown class": (
        ["model._target_=ebmtrain.models.mlp.MPL"],
        ["model._target_: ebmtrain.models.mlp has no MPL; did you mean MLP?"]),
    "unknown module": (["model._target_=nowhere.Thing"], ["no nowhere to import 'nowhere.Thing'"]),
    "no class": (["model._target_=math.pi"], ["'math.pi' is not a class or function"]),
    "missing path": (["dataset=file"], ["dataset.path is required: give dataset.path=..."]),
    "file not there": (
        ["dataset=file", "dataset.path=x.csv"], ["x.csv does not exist: check the path"]),
    "activation": (["model.activation=relu"], ["model.activation must be 'silu', 'softplus'"]),
    "activation for score matching": (
        ["method=sm", "model.activation=leaky_relu"],
        ["no second derivative", "model.activation=silu"]),
    "temperature without chains": (
        ["method=dsm", "sampler.temperature=2"],
        ["sampler.temperature is 2", "runs no chains", "sampler.temperature=1"]),
    "temperature inside of a sampler": (
        ["method=dsm", "sampler=tempering", "sampler.sampler.temperature=2"],
        ["sampler.sampler.temperature is 2", "runs no chains", "sampler.sampler.temperature=1"]),
    "two masters inside of a sampler": (
        ["sampler=tempering", "sampler.sampler.step_size_end=0.001"],
        ["sampler.sampler.step_size_end", "sampler.sampler.adaptation=null"]),
    "an end never reached inside of a sampler": (
        ["sampler=tempering", "sampler.sampler.adaptation=null",
         "sampler.sampler.step_size_end=0.001"],
        ["sampler.sampler.anneal_steps is 100", "method.k=5"]),
    "one checkpoint": (
        ["checkpoint.keep=1"], ["checkpoint.keep must be greater than or equal to 2, got 1"]),
    "no name of a class": (
        ["model._target_=ebmtrain.models."], ["model._target_", "is no name of a class"]),
    "landscape in training": (["model=double_well"], ["no parameters to train", "train.steps=0"]),
    "centres ragged": (
        ["dataset.density.centres=[[0,0],[1]]"], ["dataset", "lists of equal length"]),
    "no such verb": (["trian"], ["unknown verb trian", "to train, give key=value"]),
    "a typo of a verb": (["resum", "x"], ["unknown verb resum", "did you mean resume?"]),
    "config dir": (["--config-dir", "nowhere"], ["--config-dir", "nowhere is not a directory"]),
    "unbalanced bracket": (["model.width=[1"], ["model.width=[1"]),
    "unknown flag": (["--nonsense"], ["unknown flag --nonsense"]),
    "typo in a flag": (["--config-dri=x"], ["did you mean --config-dir?"]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_a_bad_configuration_is_refused(command, folder: Path, name):
    words, sayings = BAD[name]
    outcome = command(*words)
    assert outcome.code == 2
    for saying in sayings:
        assert saying in outcome.err
    assert outcome.err.startswith("ebmtrain: ")
    assert "Traceback" not in outcome.err
    assert len(outcome.err) < 1000
    assert outcome.out == ""
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset.path", "a=b.csv"),
        ("dataset.path", "t (1).csv"),
        ("hydra.run.dir", "é数"),
        ("model.runs", ["0_s=0", "b"]),
        ("dataset.columns", ["é", "b c#"]),
        *(("dataset.path", f"a{c}b.csv") for c in "#'\"[]{}~!;&`^<>\n()=é数"),
        ("dataset.path", 'it\'s "both"'),
        ("dataset.path", "[a.csv"),
    ],
)
def test_the_proposed_quotes_work(key, value):
    written = f"[{','.join(value)}]" if isinstance(value, list) else value
    advice = _quoting_hint(f"{key}={written}")
    assert advice is not None
    (word,) = shlex.split(advice.partition(": ")[2])
    assert word.startswith(f"{key}=")
    assert OverridesParser.create().parse_override(word).value() == value
    assert _quoting_hint(word) is None


@pytest.mark.parametrize("verb", ["check"])
@pytest.mark.parametrize("name", ["typo in a key", "typo in an option", "lr zero", "missing path"])
def test_check_gives_the_same_message(command, folder: Path, verb, name):
    words, sayings = BAD[name]
    outcome = command(verb, *words)
    assert outcome.code == 2
    for saying in sayings:
        assert saying in outcome.err
    assert list(folder.iterdir()) == []


def test_all_problems_are_reported_at_once(command, folder: Path):
    outcome = command(
        "optimizer.lr=-1", "method.k=0", "+train.stpes=3", "train.log_every=0", "train.ema=2"
    )
    assert outcome.code == 2
    first, *others = outcome.err.splitlines()
    assert first == "ebmtrain: 5 problems"
    assert len(others) == 5
    assert all(line.startswith("  - ") for line in others)
    for name in ("optimizer.lr", "method.k", "train.stpes", "train.log_every", "train.ema"):
        assert sum(name in line for line in others) == 1
    assert list(folder.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["-1", "0.5", "x", "null"])
def test_one_bad_seed_is_one_problem(command, seed):
    (line,) = command(f"seed={seed}").err.splitlines()
    assert line.startswith("ebmtrain: seed must be")
    assert "dataset.seed must be" in command("dataset.seed=-2").err


YAML = {
    "unknown key": ("width: 8\nwdith: 16\n", ["unknown key model.wdith", "did you mean"]),
    "the same key twice": ("width: 8\nwidth: 16\n", ["duplicate key width", "own.yaml"]),
    "tab": ("width:\t8\n\tdepth: 2\n", ["own.yaml", "line 2"]),
    "not utf-8": ("width: 8 # \xe9\n", ["own.yaml"]),
    "no mapping": ("- 1\n", ["own"]),
    "unfinished": ("width: [8\n", ["own.yaml", "line"]),
    "no such key to interpolate": ("width: ${modle.width}\n", ["modle.width"]),
    "name for a number": ("width: wide\n", ["model.width must be a valid integer, got 'wide'"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", YAML)
def test_bad_yaml_is_refused(command, folder: Path, name):
    text, sayings = YAML[name]
    own = folder / "presets" / "model" / "own.yaml"
    own.parent.mkdir(parents=True)
    own.write_bytes(f"_target_: ebmtrain.models.mlp.MLP\n{text}".encode("latin-1"))
    outcome = command("--config-dir", "presets", "model=own")
    assert outcome.code == 2
    for saying in sayings:
        assert saying in outcome.err
    assert "Traceback" not in outcome.err
    assert [path.name for path in folder.iterdir()] == ["presets"]


def test_a_model_of_another_event_shape_is_refused(command, folder: Path):
    (folder / "x.csv").write_text("1,2,3\n4,5,6\n7,8,9\n" * 5)
    own = folder / "presets" / "model" / "flat.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("_target_: ebmtrain.models.double_well.DoubleWell\ndim: 2\n")
    words = ("dataset=file", "dataset.path=x.csv", "train.batch_size=4", "method.slots=8")
    outcome = command("--config-dir", "presets", "model=flat", *words)
    assert outcome.code == 2
    assert "model DoubleWell" in outcome.err
    assert not (folder / "outputs").exists()


def test_debug_shows_the_traceback(command):
    with pytest.raises(ConfigError, match=r"greater than 0"):
        command("optimizer.lr=0", "--debug")


# Configurations as a run directory holds them


def test_a_good_configuration_passes(configured):
    config = configured()
    before = copy.deepcopy(config)
    validate(config, trust=())
    assert config == before


@pytest.mark.slow
@pytest.mark.parametrize("value", ["${oc.env:HOME}", "x${seed}", "${", ["a", {"b": "${seed}"}]])
@pytest.mark.parametrize("trust", [(), ("somebody",)])
def test_interpolations_of_a_run_directory_are_refused(configured, value, trust):
    config = configured()
    config["dataset"]["path"] = value
    with pytest.raises(UnsafeError, match=r"the run's configuration holds '.*\$\{"):
        validate(config, trust)


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    ["os.system", "posix.system", "builtins.open", "ebmtrain.runs.storage.rundir.os.system",
     "torch.load", "ebmtrain.config.validate.get_object", "ebmtrain.cli.train.hydra.main",
     "ebmtrain"],
)  # fmt: skip
@pytest.mark.parametrize("place", ["model", "adaptation", "list"])
def test_foreign_targets_of_a_run_directory_are_refused(configured, target, place):
    config = configured()
    hostile = {"_target_": target}
    if place == "model":
        config["model"] = hostile
    elif place == "adaptation":
        config["sampler"]["adaptation"] = hostile
    else:
        config["dataset"]["density"]["centres"] = [[0, 0], hostile]
    with pytest.raises((UnsafeError, ConfigError)) as caught:
        validate(config, trust=())
    assert isinstance(caught.value, UnsafeError) or target == "ebmtrain"


EVIL = {"_target_": "os.system", "command": "touch executed"}
HIDDEN = {
    "verb": (("optimizer",), {"_target_": "ebmtrain.cli.main.main", "argv": ["check"]}),
    "reader": (("optimizer",), {"_target_": "ebmtrain.config.preset_files.describe", "path": "x"}),
    "private": (("optimizer",), {"_target_": "ebmtrain.datasets.file._read", "path": "x"}),
    "below a mapping": (("model", "window"), {"a": {"b": [{"c": EVIL}]}}),
    "below a mapping of numbers": (("train", "steps"), {"a": EVIL}),
    "unknown section": (("hydra",), {"callbacks": {"x": EVIL}}),
    "arguments": (("sampler", "_args_"), [1]),
    "partial": (("sampler", "_partial_"), True),
    "convert": (("dataset", "density", "_convert_"), "all"),
    "recursive": (("dataset", "_recursive_"), False),
    "no name": (("model", "_target_"), ["os.system"]),
    "control character": (("dataset", "path"), "a\x1b[2Jb"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", HIDDEN)
def test_foreign_targets_are_refused_at_any_depth(configured, case):
    (*parents, key), value = HIDDEN[case]
    config = configured()
    node = config
    for name in parents:
        node = node[name]
    node[key] = value
    with pytest.raises(UnsafeError):
        validate(config, trust=())


MOONS = {"_target_": "ebmtrain.datasets.moons.Moons"}
MISPLACED = {
    "method": (("method",), "method: Moons has no init: a method must have init, loss"),
    "model": (("model",), "model: Moons has no forward"),
    "number": (("method", "k"), "method.k must be a valid integer, got {"),
    "word": (("model", "activation"), "model.activation must be 'silu', .*, got {"),
    "section": (("device", "threads"), "device.threads must be a valid integer, got {"),
    "class": (
        ("sampler", "adaptation"),
        "'ebmtrain.datasets.moons.Moons' is no StepSizeAdaptation",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", MISPLACED)
@pytest.mark.parametrize("trust", [None, ()])
def test_a_target_of_the_wrong_kind_is_refused(configured, trust, case):
    (*parents, key), saying = MISPLACED[case]
    config = configured()
    node = config
    for name in parents:
        node = node[name]
    node[key] = MOONS
    with pytest.raises(ConfigError, match=saying):
        build(config, trust)


class LateAttributes:
    """A density of a user's own; two of its attributes are there once it was made."""

    def __init__(self) -> None:
        self.entropy, self.modes = 0.0, None

    def sample(self, count: int, generator: Any) -> Any: ...

    def log_prob(self, x: Any) -> Any: ...


def test_attributes_of_a_protocol_may_be_set_in_init(configured):
    config = configured()
    config["dataset"]["density"] = {"_target_": f"{LateAttributes.__module__}.LateAttributes"}
    validate(config)
    config["dataset"]["density"] = {"_target_": "collections.Counter"}
    with pytest.raises(
        ConfigError, match=r"density\._target_: 'collections.Counter' is no Density"
    ):
        validate(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", [("sampler", "adaptation"), ("optimizer", "schedule"), ("dataset", "density")]
)
@pytest.mark.parametrize("around", ["a mapping", "a list", "no _target_"])
def test_a_container_instead_of_an_object_is_refused(configured, place, around):
    config = configured()
    part = config[place[0]][place[1]]
    bare = {key: value for key, value in part.items() if key != "_target_"}
    wrong = {"a mapping": {"a": part}, "a list": [part], "no _target_": bare or {"x": 1}}[around]
    config[place[0]][place[1]] = wrong
    with pytest.raises(
        ConfigError, match=rf"{place[0]}\.{place[1]} must be a mapping with a _targ"
    ):
        validate(config)


class Picky(nn.Module):
    """A model of a user's own that takes no small batches."""

    def __init__(self, event_shape: tuple[int, ...]):
        super().__init__()

    @staticmethod
    def conflicts(config: dict[str, Any]) -> list[str]:
        size = config["train"]["batch_size"]
        return [f"train.batch_size is {size}: take 100"] if size < 100 else []


def test_a_user_class_may_check_other_sections(configured):
    config = configured()
    config["model"] = {"_target_": f"{Picky.__module__}.Picky"}
    with pytest.raises(ConfigError, match=r"^train\.batch_size is 32: take 100$"):
        validate(config)
    config["train"]["batch_size"], config["method"]["slots"] = 100, 100
    validate(config)


class Open:
    """A part that takes anything."""

    def __init__(self, inner: Any, **more: Any):
        pass


def test_objects_inside_plain_mappings_are_checked(configured):
    config = configured()
    schedule = {"_target_": "ebmtrain.training.optimizers.Schedule", "warmup_steps": -1}
    target = f"{Open.__module__}.Open"
    config["method"] = {"_target_": target, "inner": {"a": [schedule]}, "b": {"c": schedule}}
    with pytest.raises(ConfigError) as caught:
        validate(config)
    assert "method.inner.a[0].warmup_steps must be" in str(caught.value)
    assert "method.b.c.warmup_steps must be" in str(caught.value)


def test_trusted_packages_are_accepted(configured):
    config = configured()
    config["method"] = {"_target_": "collections.Counter"}
    with pytest.raises(UnsafeError, match=r"--trust collections"):
        validate(config, trust=())
    validate(config, trust=("collections",))


def test_values_without_a_json_form_are_refused(configured):
    import datetime

    config = configured()
    config["train"]["steps"] = datetime.date(2020, 1, 1)
    config["optimizer"]["lr"] = math.nan
    with pytest.raises(ConfigError, match=r"(?s)train\.steps must be.*optimizer\.lr must be"):
        validate(config, trust=())
