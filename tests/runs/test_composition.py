"""Energies of finished runs put together."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
import yaml
from model_presets import PRESETS

import ebmtrain
from ebmtrain.config import presets
from ebmtrain.config.build import build
from ebmtrain.runs import composition
from ebmtrain.runs.composition import Composition, _bounding_window
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.launch import run_experiment
from ebmtrain.runs.loading import load
from ebmtrain.types import Region, Standardization


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny) -> list[str]:
    """Two of the plane, in units and at temperatures of their own, and one of four dimensions."""
    folder = tmp_path_factory.mktemp("runs")
    words = (
        ["dataset=moons", "sampler.temperature=2"],
        ["dataset=five_gaussians", "dataset.n_holdout=300"],
    )
    iris = [w for w in tiny if not w.startswith("dataset.")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFigures, "draw_landscape", lambda *_: None)
        patch.setattr(RunFigures, "draw_all", lambda *_: [])
        for name, chosen in zip("ab", words, strict=True):
            config = presets.to_plain(
                presets.compose_config(
                    [*tiny, *chosen, "evaluation.resolution=256", "evaluation.tolerance=1e-3"]
                )
            )
            run_experiment(build(config), folder / name, {}, quiet=True)
        config = presets.to_plain(presets.compose_config([*iris, "dataset=iris"]))
        run_experiment(build(config), folder / "c", {}, quiet=True)
    return [str(folder / name) for name in "abc"]


def points() -> torch.Tensor:
    return 2 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def log_p(path: str, x: torch.Tensor) -> torch.Tensor:
    run = ebmtrain.load(path)
    assert run.log_z is not None
    return -run.energy(x).double() / run.temperature - run.log_z


@pytest.mark.slow
@pytest.mark.parametrize("weights", [None, [0.5, 2.0]])
def test_a_product_multiplies_densities(runs, weights):
    """E(x) differs from -sum_i w_i log p_i(x) by a constant."""
    model = Composition(runs=runs[:2], weights=weights).double()
    a, b = weights or (1.0, 1.0)
    x = points()
    rest = model(x) + a * log_p(runs[0], x) + b * log_p(runs[1], x)
    torch.testing.assert_close(rest, rest.mean().expand(50), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_a_mixture_adds_them(runs, weights):
    """exp(-E(x)) = sum_i w_i p_i(x), the normaliser included."""
    model = Composition(runs=runs[:2], kind="mixture", weights=weights).double()
    a, b = (0.5, 0.5) if weights is None else (0.25, 0.75)
    x = points()
    expected = a * log_p(runs[0], x).exp() + b * log_p(runs[1], x).exp()
    torch.testing.assert_close((-model(x)).exp(), expected, rtol=1e-4, atol=0.0)


def test_the_window_contains_those_of_its_runs(runs):
    low, high = (torch.tensor(v) for v in Composition(runs=runs[:2]).window)
    for path in runs[:2]:
        train = ebmtrain.load(path).experiment.dataset.train  # type: ignore[union-attr]
        assert (train.amin(0) >= low - 1e-6).all()
        assert (train.amax(0) <= high + 1e-6).all()


def test_the_window_of_whitened_units():
    """The least box of the data's units around the images of both regions' corners."""
    mixing = torch.tensor([[0.8, -0.5], [-0.5, 0.9]], dtype=torch.float64)
    units = [
        Standardization(*torch.tensor([[3.0, -1.0], [2.0, 0.5]]).double(), mixing),
        Standardization(*torch.tensor([[4.0, -1.0], [0.1, 3.0]]).double()),
    ]
    regions = [
        Region(*torch.tensor(v).double()) for v in ([[-1.0, -3], [2, 1]], [[-1.0, -1], [1, 1]])
    ]
    corners = torch.cat(
        [
            unit.to_data(torch.cartesian_prod(*torch.stack(region, 1)))
            for unit, region in zip(units, regions, strict=True)
        ]
    )
    low, high = _bounding_window(regions, units)
    torch.testing.assert_close(torch.tensor(low).double(), corners.amin(0))
    torch.testing.assert_close(torch.tensor(high).double(), corners.amax(0))


@pytest.mark.usefixtures("no_pictures")
def test_the_command_evaluates_and_samples_a_composition(command, folder: Path, runs, tiny):
    words = [w for w in tiny if w.split(".")[0] not in ("model", "dataset")]
    words += ["model=composition", f"model.runs=[{runs[0]},{runs[1]}]", "model.kind=mixture"]
    outcome = command(*words, "train.steps=0", "hydra.run.dir=run", "evaluation.resolution=256",
                      "evaluation.tolerance=1e-3")  # fmt: skip
    assert outcome.code == 0, outcome
    log_z = ebmtrain.load("run").result["metrics"]["log_z"]
    assert abs(log_z) < 0.01
    assert command("sample", "run", "count=5").code == 0


@pytest.mark.usefixtures("no_pictures")
def test_a_composition_loads_from_any_folder_and_does_not_contain_itself(
    command, folder: Path, runs, tiny, monkeypatch
):
    monkeypatch.chdir(Path(runs[0]).parent)
    words = [w for w in tiny if w.split(".")[0] not in ("model", "dataset")]
    words += ["model=composition", "model.runs=[a,b]", "train.steps=0", "evaluation.tolerance=1"]
    assert command(*words, f"hydra.run.dir={folder / 'run'}").code == 0
    monkeypatch.chdir(folder)
    assert command("sample", "run", "count=5").code == 0
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    config["model"]["runs"] = [str(folder / "run")]
    Path("run/config.yaml").write_text(yaml.safe_dump(config))
    refused = command("sample", "run", "count=5")
    assert (refused.code, len(refused.err.splitlines())) == (2, 1), refused
    assert "composed of itself" in refused.err


def composition_of(path: Path, runs: list[str], config: dict) -> str:
    """A run directory of a composition of these runs, with nothing but its configuration."""
    path.mkdir()
    model = config["model"] | {"runs": runs, "kind": "product", "weights": None}
    (path / "config.yaml").write_text(yaml.safe_dump(config | {"model": model}))
    return str(path)


@pytest.fixture
def config(tiny) -> dict:
    words = [w for w in tiny if w.split(".")[0] not in ("model", "dataset")]
    return presets.to_plain(
        presets.compose_config([*words, "model=composition", "model.runs=[x]", "train.steps=0"])
    )


def test_each_run_is_opened_once(runs, config, folder: Path, monkeypatch):
    """Six compositions, each the square of the one before: the 64th power."""
    opened = []
    monkeypatch.setattr(composition, "load", lambda path: opened.append(path) or load(path))
    model = runs[0]
    for i in range(6):
        model = composition_of(folder / str(i), [model, model], config)
    power, x = ebmtrain.load(model), points()
    assert len(opened) == 6
    assert power.standard_energy.n_terms == 64
    one = ebmtrain.load(runs[0])
    expected = 64 * one.energy(x).double() / one.temperature
    torch.testing.assert_close(power.energy(x).double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("depth", "width", "said"),
    [(9, 2, "adds up to 512 energies"), (30, 2, "more than 16 compositions"),
     (199, 1, "more than 16 compositions"), (1, 300, "adds up to 300 energies")],
)  # fmt: skip
def test_compositions_are_bounded(command, runs, config, folder: Path, depth, width, said):
    model = runs[0]
    for i in range(depth):
        model = composition_of(folder / str(i), [model] * width, config)
    began = time.process_time()
    for verb in ("sample", "evaluate", "plot"):
        outcome = command(verb, model)
        assert (outcome.code, outcome.err.count("\n")) == (2, 1), outcome
        assert said in outcome.err
    assert time.process_time() - began < 10


def test_no_more_runs_are_opened_than_there_may_be_terms(runs, config, folder: Path, monkeypatch):
    monkeypatch.setattr(composition, "_MAX_TERMS", 3)
    inner = [composition_of(folder / str(i), [runs[0]], config) for i in range(3)]
    with pytest.raises(ebmtrain.errors.ConfigError, match=r"leads to more than 3 runs"):
        ebmtrain.load(composition_of(folder / "all", inner, config))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"runs": []}, "model.runs is empty"),
        ({"runs": ["a", "b"], "weights": [1.0]}, "has 1 number for 2 runs"),
        ({"runs": ["a", "b"], "weights": [1.0, 0.0], "kind": "mixture"}, "must be positive"),
        ({"runs": ["a", "c"]}, "runs of the same kind of points"),
        ({"runs": ["c"], "kind": "mixture"}, "log Z of .* is not known"),
        ({"runs": ["nowhere"]}, "nowhere"),
    ],
)
def test_invalid_compositions_are_refused(runs, options, said):
    places = dict(zip("abc", runs, strict=True))
    chosen = [places.get(name, name) for name in options["runs"]]
    with pytest.raises(ebmtrain.errors.ConfigError, match=said):
        Composition(**(options | {"runs": chosen}))


def test_preset_names_every_option():
    config = yaml.safe_load((PRESETS / "composition.yaml").read_text())
    assert set(config) == {"_target_", "runs", "kind", "weights"}
