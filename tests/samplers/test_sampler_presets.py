"""What every sampler of configs/sampler promises, on every model of configs/model."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_object, instantiate
from repeats import seeded

from ebmtrain.samplers.chain import run_chain
from ebmtrain.score import freeze
from ebmtrain.types import StepInfo, takes_space

CONFIGS = Path(__file__).parents[2] / "configs"


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def read(group: str, name: str) -> dict:
    return yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text())


def takes(group: str, name: str, space) -> bool:
    return takes_space(get_object(read(group, name)["_target_"]), space)


REAL_SAMPLERS = [name for name in names("sampler") if takes("sampler", name, "real")]


@pytest.fixture(params=REAL_SAMPLERS)
def sampler(request):
    return build_sampler(request.param)


def build_sampler(name: str):
    return instantiate(read("sampler", name), _convert_="all")


IMAGES = {"conv": (1, 8, 8), "resnet": (2, 5, 5)}  # what models of images take
SEQUENCES = {"conv1d": (8, 2)}  # halved three times; others take any length


OTHERS = {*IMAGES, *SEQUENCES, "lstm", "transformer"}
# Without what is made of finished runs. Of images and sequences, with and without momentum.
PAIRS = [
    (sampler, model)
    for sampler in names("sampler")
    for model in names("model")
    if model != "composition"
    and (model not in OTHERS or sampler in ("mala", "hmc"))
    and sampler in REAL_SAMPLERS
    and takes("model", model, "real")
] + [("gibbs", "mlp"), ("gwg", "mlp"), *((name, "rbm") for name in ("block_gibbs", "gibbs", "gwg"))]


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request):
    """A sampler and an energy."""
    sampler, model = request.param
    return build_sampler(sampler), build_energy(model)


def build_energy(name: str):
    config = read("model", name)
    if "event_shape" in inspect.signature(get_object(config["_target_"])).parameters:
        config["event_shape"] = (IMAGES | SEQUENCES).get(name, (2,))
    if name in IMAGES:
        config["widths"] = [4, 6]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return instantiate(config, _convert_="all")


def points(sampler, energy, n: int, dtype=torch.float32) -> torch.Tensor:
    x = torch.randn(n, *event_shape(energy), generator=seeded(), dtype=dtype)
    return x if takes_space(sampler, "real") else (x > 0).to(dtype)


def event_shape(energy) -> tuple[int, ...]:
    if hasattr(energy, "image"):
        return energy.image
    return SEQUENCES["conv1d"] if type(energy).__name__ == "Conv1d" else (2,)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_a_run_keeps_shape_dtype_and_the_global_generator(pair, dtype):
    """Deterministic in its generator, which is the only one it draws from; energies finite."""
    sampler, energy = pair
    energy.to(dtype)
    x = points(sampler, energy, 6, dtype)
    kept, world = x.clone(), torch.get_rng_state()
    one = run_chain(sampler, energy, x, 7, seeded(1))
    two = run_chain(sampler, energy, x, 7, seeded(1))
    other = run_chain(sampler, energy, x, 7, seeded(2))
    assert torch.equal(one.x, two.x)
    assert not torch.equal(one.x, other.x)
    assert torch.equal(torch.get_rng_state(), world)
    assert torch.equal(x, kept)
    assert (one.x.shape, one.x.dtype, one.x.device) == (x.shape, x.dtype, x.device)
    assert energy(one.x).isfinite().all()
    assert all(metric.shape == () for metric in one.metrics.values())
    for value in (*one.metrics.values(), *one.adaptation_state.values()):
        assert value.isfinite().all()
    assert 0 <= one.metrics.get("acceptance", torch.ones(())).item() <= 1
    assert ("step_size" in one.metrics) is ("step_size" in one.adaptation_state)


@pytest.mark.parametrize("event", [(3,), (2, 2), (1, 3, 3)])
def test_events_of_any_shape(sampler, event):
    def energy(x):
        return x.flatten(1).square().sum(1) / 2

    x = torch.randn(5, *event, generator=seeded())
    assert run_chain(sampler, energy, x, 6, seeded(1)).x.shape == x.shape


def test_step_reports_each_chain(pair):
    sampler, energy = pair
    x = points(sampler, energy, 5)
    with freeze(energy):
        state, info = sampler.step(energy, sampler.init(energy, x), seeded())
    assert isinstance(info, StepInfo)
    assert state.x.shape == x.shape
    assert all(value is None or value.shape == (5,) for value in info)


@pytest.mark.parametrize("name", names("sampler"))
def test_preset_names_every_option(name):
    text = (CONFIGS / "sampler" / f"{name}.yaml").read_text()
    head, usage = text.splitlines()[:2]
    assert head.startswith("# ")
    assert usage.startswith(f"#   ebmtrain sampler={name}")
    config = read("sampler", name)
    parameters = inspect.signature(get_object(config["_target_"])).parameters
    assert set(config) - {"_target_"} == set(parameters)
