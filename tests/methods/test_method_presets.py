"""What every method of configs/method promises, with every sampler and learnt model."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_object, instantiate
from repeats import seeded

from ebmtrain.config.instantiate import PARTS
from ebmtrain.methods.dual_score_matching import DualScoreMatching
from ebmtrain.methods.jarzynski import _leaves_target_invariant
from ebmtrain.methods.multi_noise_score_matching import MultiNoiseScoreMatching
from ebmtrain.types import Batch, takes_space

CONFIGS = Path(__file__).parents[2] / "configs"


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def target(group: str, name: str):
    return get_object(yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text())["_target_"])


def build(group: str, name: str, **supplied):
    """As the builder makes it: it passes what stands in the signature and not in the YAML."""
    config = yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text())
    config.pop("defaults", None)  # the model that it brings
    parameters = inspect.signature(get_object(config["_target_"])).parameters
    supplied = {key: value for key, value in supplied.items() if key in parameters}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return instantiate(config, _convert_="all", _partial_=True)(**supplied)


REAL_SAMPLERS, REAL_METHODS = (
    [name for name in names(group) if takes_space(target(group, name), "real")]
    for group in ("sampler", "method")
)  # tests/methods/test_state_methods.py has those of states


@pytest.fixture(params=REAL_SAMPLERS)
def sampler(request):
    return build("sampler", request.param)


@pytest.fixture(params=REAL_METHODS)
def method(request, sampler):
    if request.param == "jarzynski" and not _leaves_target_invariant(sampler):
        with pytest.raises(ValueError, match="weights need a sampler"):
            build("method", request.param, sampler=sampler)
        pytest.skip("refused, as it should be")
    return build("method", request.param, sampler=sampler)


@pytest.fixture(params=["mlp", "gaussian"])
def energy(request, method):
    return matching_energy(method, request.param)


def matching_energy(method, model: str, event=(2,)):
    """The model, or one that is told the noise or has an output for each class if the method needs
    it."""
    if isinstance(method, DualScoreMatching):
        return build("model", "film_mlp", event_shape=event)
    if isinstance(method, MultiNoiseScoreMatching):
        return build("model", "noise_conditional_mlp", event_shape=event)
    if getattr(method, "needs_labels", False):
        return build("model", "mlp", event_shape=event, classes=3)
    return build("model", model, event_shape=event)


def labelled(x) -> Batch:
    return Batch(x, torch.arange(len(x)) % 3)


def run(method, energy, x, seed: int):
    """Two steps of one stream of random numbers."""
    generator = seeded(seed)
    state = method.init(x, generator)
    for _ in range(2):
        out = method.loss(energy, labelled(x), state, generator)
        state = out.state
    return out


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_a_step_has_a_finite_loss_and_a_valid_state(method, energy, dtype):
    """A loss of shape () with a gradient, detached metrics of shape (), state of fixed names,
    shapes and types; deterministic in the generator, the only one that it draws from; the data,
    the old state and .grad untouched."""
    energy.to(dtype).train()
    x = torch.randn(6, 2, generator=seeded(), dtype=dtype)
    first = method.init(x, seeded(1))
    kept = {name: value.clone() for name, value in first.items()}
    data, world = x.clone(), torch.get_rng_state()

    out = method.loss(energy, labelled(x), first, seeded(2))

    assert out.loss.shape == ()
    assert out.loss.dtype == dtype
    assert out.loss.isfinite()
    for name, metric in out.metrics.items():
        assert metric.shape == (), name
        assert metric.isfinite(), name
        assert not metric.requires_grad, name
    assert set(out.state) == set(first)
    for name, value in out.state.items():
        assert (value.shape, value.dtype) == (first[name].shape, first[name].dtype), name
        # What is trained beside the energy is handed on as it is.
        assert not value.requires_grad or value is first[name], name
        assert torch.equal(first[name], kept[name]), name
    assert torch.equal(x, data)
    assert torch.equal(torch.get_rng_state(), world)
    assert energy.training
    assert all(p.grad is None for p in energy.parameters())
    out.loss.backward()
    gradients = [p.grad for p in energy.parameters() if p.grad is not None]
    assert all(g.isfinite().all() for g in gradients)
    assert any(g.abs().max() > 0 for g in gradients)


@pytest.mark.slow
def test_a_step_is_deterministic_in_the_generator(method, energy):
    x = torch.randn(6, 2, generator=seeded())
    one, two = (run(method, energy, x, 1) for _ in range(2))
    assert torch.equal(one.loss, two.loss)
    assert all(torch.equal(one.state[name], two.state[name]) for name in one.state)


@pytest.mark.slow
@pytest.mark.parametrize("event", [(3,), (2, 2)])
def test_events_of_any_shape(method, event):
    energy = matching_energy(method, "mlp", event)
    out = run(method, energy, torch.randn(5, *event, generator=seeded()), 1)
    assert out.loss.shape == ()
    assert out.loss.isfinite()


@pytest.mark.parametrize("name", names("method"))
def test_preset_names_every_option(name):
    text = (CONFIGS / "method" / f"{name}.yaml").read_text()
    head, usage = text.splitlines()[:2]
    assert head.startswith("# ")
    assert usage.startswith(f"#   ebmtrain method={name}")
    config = yaml.safe_load(text)
    parameters = inspect.signature(get_object(config["_target_"])).parameters
    assert set(config) - {"_target_", "defaults"} == set(parameters) - PARTS["method"].supplied
