"""What the documents say is so: commands compose, keys and links exist, the example runs."""

from __future__ import annotations

import csv
import functools
import importlib
import json
import pydoc
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from ebmtrain.cli.arguments import dotted_keys, parse_overrides
from ebmtrain.cli.main import VERBS, main
from ebmtrain.config import presets
from ebmtrain.config.instantiate import PARTS
from ebmtrain.config.validate import validate

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PRESETS = sorted((ROOT / "configs").rglob("*.yaml"))
EXAMPLE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FORMER_EXAMPLE = (ROOT / "tests/fixtures/extending_of_0fcc4f4.md").read_text(encoding="utf-8")
NAMED_BLOCK = re.compile(r"^```\w+ (\S+\.\w+)\n(.*?)^```$", re.M | re.S)
FENCED = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)
SHELL = ("", "console", "sh", "bash")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")

SHORT = (
    "train.steps=4", "train.batch_size=32", "train.log_every=2", "dataset.n_train=200",
    "dataset.n_holdout=200", "evaluation.resolution=32", "evaluation.tolerance=1",
    "plots.points=50", "samples.count=50", "samples.chains=50", "samples.burn_in=5",
    "samples.thin=1", "device.threads=1",
)  # fmt: skip


def commands_in(text: str) -> list[str]:
    """The lines `ebmtrain ...` of shell blocks and of inline code, verbatim."""
    blocks = [block for language, block in FENCED.findall(text) if language in SHELL]
    lines = [line for block in blocks for line in block.splitlines()]
    lines += INLINE.findall(FENCED.sub("", text))
    commands = [line.split("  #")[0].strip() for line in lines]
    return [c for c in commands if c == "ebmtrain" or c.startswith("ebmtrain ")]


def commands_of(paths: list[Path]) -> list[str]:
    found: dict[str, None] = {}
    for path in paths:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".yaml":  # a preset's second comment is the command that uses it
            text = "".join(f"`{line}`\n" for line in re.findall(r"^#   (ebmtrain.*)$", text, re.M))
        found |= dict.fromkeys(commands_in(text))
    return list(found)


@pytest.fixture(params=[EXAMPLE], ids=[""])
def example(request, folder, monkeypatch) -> Iterator[Path]:
    """The files of the example, in the working directory."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("my_parts", None)  # of another test
    for name, content in NAMED_BLOCK.findall(request.param):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    yield folder
    sys.modules.pop("my_parts", None)


@pytest.mark.slow
@pytest.mark.parametrize("line", commands_of([*DOCUMENTS, *PRESETS]))
def test_each_command_is_one_that_works(line, example):
    words = shlex.split(line)[1:]
    schematic = any(mark in line for mark in ("[", "...", "|", "DIR"))
    if words and words[0].isalpha():
        assert words[0] in VERBS
        if words[0] != "check" or schematic:
            return
        words = words[1:]
    if schematic:
        return
    if words[-1:] in (["-h"], ["--help"]):
        assert main(words) == 0
        return
    words = [w.replace("NAME", "moons") for w in words if w not in ("-m", "--cfg", "job")]
    user = "my_presets" if "--config-dir" in words else None
    presets.extend_import_path(example / user if user else None)
    chosen = presets.Presets(user=example / user if user else None)
    parsed = OverridesParser.create().parse_overrides(parse_overrides(words)[0])
    jobs = BasicSweeper.split_arguments(parsed, None)[0]
    for job in jobs:
        validate(presets.to_plain(chosen.compose(list(job))))


@functools.cache
def known_keys() -> set[str]:
    """Every dotted key that some choice of presets has."""
    keys = set(dotted_keys(yaml.safe_load((presets.BUILT_IN / "config.yaml").read_text())))
    for path in PRESETS:
        if path.parent.name not in ("configs", "experiment", "recommended"):
            keys |= set(dotted_keys(yaml.safe_load(path.read_text()), f"{path.parent.name}."))
    return keys | {f"{name}.{key}" for name, kind in PARTS.items() for key in kind.general}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_each_key_that_is_named_exists(path):
    sections = {key.partition(".")[0] for key in known_keys()} - {"hydra"}
    for code in INLINE.findall(NAMED_BLOCK.sub("", path.read_text(encoding="utf-8"))):
        key = re.fullmatch(r"([a-z]+)\.([a-z0-9_.]+)(=.*)?", code)
        if key and key[1] in sections and key[2] != "py":
            assert f"{key[1]}.{key[2]}" in known_keys(), code
        choice = re.fullmatch(r"([a-z]+)=(\w+)", code)
        if choice and choice[1] in presets.Presets().groups() and choice[2] != "NAME":
            assert choice[2] in presets.Presets().options(choice[1]), code


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_each_link_leads_somewhere(path):
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


SOURCES = sorted((ROOT / "ebmtrain").rglob("*.py"))
PLACEHOLDERS = {"ebmtrain/samplers/full_name.py", "configs/sampler/short.yaml"}


def names_nothing(code: str) -> bool:
    """Whether inline code is the dotted name of a part of ebmtrain, or the path of a source file or
    document, that does not exist."""
    if re.fullmatch(r"ebmtrain(\.\w+)+", code):
        try:
            pydoc.locate(code) or importlib.import_module(code)
        except ImportError:
            return True
        return False
    path = re.fullmatch(r"([\w-]+)/([\w.-]+/)*([\w-]+\.(py|cpp|h|yaml|md))?", code)
    if path is None or path[1] == "outputs":  # that of runs
        return False
    folders = [folder for folder in (ROOT, ROOT / "ebmtrain") if (folder / path[1]).is_dir()]
    return bool(folders) and not any((folder / code).exists() for folder in folders)


def test_names_of_what_does_not_exist_are_recognised():
    for code in ("ebmtrain.load", "ebmtrain.runs.launch.resume", "a.b", "run/x.py", "types/",
                 "models/perceptron/perceptron.cpp", "docs/guide.md"):  # fmt: skip
        assert not names_nothing(code)
    for code in ("ebmtrain.lod", "ebmtrain.runs.launch.resum", "runs/lanch.py", "docs/guid.md",
                 "ebmtrain/runs/lanch.py", "tests/runz/"):  # fmt: skip
        assert names_nothing(code)


@pytest.mark.parametrize("path", [*DOCUMENTS, *SOURCES], ids=lambda p: str(p.relative_to(ROOT)))
def test_each_source_file_and_part_that_is_named_exists(path):
    if path.name == "CHANGELOG.md":
        return  # it has names of earlier versions
    text = path.read_text(encoding="utf-8")
    named = {code for code in INLINE.findall(text) if names_nothing(code)}
    assert named <= PLACEHOLDERS


def layout(text: str) -> list[str]:
    """The lines of the tree in a document."""
    return text.partition("```\nebmtrain/\n")[2].partition("\n```")[0].splitlines()


def test_the_layout_in_the_documents_is_that_of_the_repository():
    lines = layout((ROOT / "README.md").read_text())
    assert lines == layout((ROOT / "CONTRIBUTING.md").read_text())
    folders, paths = [ROOT / "ebmtrain"], []
    for line in lines:
        depth = (len(line) - len(line.lstrip())) // 2
        for name in line.strip().split("   ")[0].split():
            folder = ROOT if not depth else folders[depth - 1]
            folders[depth:] = [folder / name]
            paths.append(folder / name)
    assert [path for path in paths if not path.exists()] == []
    packages = {p.parent for p in (ROOT / "ebmtrain").glob("*/__init__.py")}
    assert packages <= set(paths)


def test_the_numbers_of_the_readme_are_the_measured_ones():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    results = results.partition("## Sampler-free")[0]
    measured = [line.split(" | ")[1:6] for line in results.splitlines() if line.startswith("| pcd")]
    assert measured
    for row in measured:
        assert f"| {' | '.join(row)} |" in readme
    with (ROOT / "docs" / "results.csv").open(encoding="utf-8", newline="") as file:
        first = next(r for r in csv.DictReader(file) if r["method"] == "pcd" and not r["words"])
    assert f"`KL {float(first['kl']):.4f} nats`" in readme


def small_run(command, *words: str) -> Path:
    run = Path("run")
    outcome = command("--config-dir", "my_presets", *words, *SHORT, f"hydra.run.dir={run}")
    assert outcome.code == 0, outcome.err
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["metrics"]["kl"] > 0
    return run


@pytest.mark.slow
def test_the_example_trains_and_is_opened_by_who_trusts_it(example, command):
    words = ("model=mixture", "sampler=random_walk", "dataset=banana", "method.slots=64")
    run = small_run(command, *words)
    assert (run / "plots" / "landscape_final.png").exists()
    refused = command("sample", run, "count=10")
    assert refused.code == 7
    assert "--trust my_parts" in refused.err
    assert command("sample", run, "count=10", "--trust", "my_parts").code == 0


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_the_method_of_the_example_trains_the_built_in_model(example, command):
    run = small_run(command, "method=cnce", "dataset=banana", "model.width=8")
    assert (run / "checkpoints/last.pt").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
@pytest.mark.parametrize("example", [FORMER_EXAMPLE], ids=["0fcc4f4"], indirect=True)
def test_the_example_of_an_earlier_version_trains(example, command):
    """Its file imports functions by former names, which gives one notice."""
    words = ("model=mixture", "sampler=random_walk", "dataset=banana", "method.slots=64")
    with pytest.warns(FutureWarning) as notices:
        small_run(command, *words)
    (notice,) = {str(each.message) for each in notices}
    assert "accepted is now accept_mask" in notice
    assert command("sample", "run", "count=10", "--trust", "my_parts").code == 0


def test_the_presets_of_the_example_are_listed_with_where_they_come_from(example, command):
    outcome = command("list", "--config-dir", "my_presets", "sampler")
    (line,) = [line for line in outcome.lines if "random_walk" in line]
    assert "Random-walk Metropolis" in line
    assert "my_presets" in line


def test_a_range_of_the_example_is_checked(example, command):
    outcome = command("--config-dir", "my_presets", "sampler=random_walk", "sampler.step_size=-1")
    assert outcome.code == 2
    assert "sampler.step_size must be greater than 0, got -1" in outcome.err


def test_the_density_of_the_example_is_what_it_is_said_to_be(example, monkeypatch):
    """-log p of its own points is its entropy on average."""
    monkeypatch.syspath_prepend(example)
    banana = importlib.import_module("my_parts").Banana(bend=0.7, std=0.3)
    surprise = -banana.log_prob(banana.sample(40_000, torch.Generator().manual_seed(0)))
    standard_error = surprise.std() / len(surprise) ** 0.5
    assert abs(surprise.mean() - banana.entropy) < 4 * standard_error


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_the_commands_for_data_of_ones_own_run(command, folder, tiny_file):
    text = (ROOT / "docs/index.md").read_text(encoding="utf-8").partition("## Your own data")[2]
    make, *lines = FENCED.search(text)[2].splitlines()  # type: ignore[index]
    subprocess.run([sys.executable, *shlex.split(make)[1:]], check=True, cwd=folder)
    assert len(lines) == 2
    for line in lines:
        outcome = command(*shlex.split(line)[1:], *tiny_file)
        assert outcome.code == 0, outcome.err


def test_what_the_dockerfile_copies_exists():
    lines = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    assert lines
    assert all((ROOT / name).exists() for line in lines for name in line.split())
