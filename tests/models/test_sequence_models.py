"""Laws of the models that read a sequence step by step."""

from __future__ import annotations

import math

import pytest
import torch
from hydra.errors import InstantiationException
from model_presets import SEQUENCES, preset
from repeats import normal
from torch import nn
from torch.nn.functional import silu

from ebmtrain.models.conv1d import Conv1d
from ebmtrain.models.lstm import Lstm
from ebmtrain.models.transformer import Transformer, _TransformerBlock

EVERY = pytest.mark.parametrize("which", sorted(SEQUENCES))


def seeded(kind: type[nn.Module], seed: int = 0, **options) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(**options).double()


@EVERY
def test_one_channel_needs_no_channel_axis(which):
    bare, with_axis = (preset(which, event_shape=e).double() for e in ((16,), (16, 1)))
    x = normal(5, 16)
    torch.testing.assert_close(bare(x), with_axis(x[..., None]))


@EVERY
def test_base_measure_is_added(which):
    """E with base_std = b less E without is ||x||^2 / (2 b^2)."""
    x = normal(4, 16, 2)
    one, other = (preset(which, event_shape=(16, 2), base_std=b).double() for b in (0.7, None))
    torch.testing.assert_close(one(x) - other(x), x.square().sum((1, 2)) / (2 * 0.7**2))


@EVERY
def test_input_scale_multiplies_the_input(which):
    options = {"event_shape": (16, 2), "base_std": None}
    one, other = (preset(which, input_scale=a, **options).double() for a in (1.0, 3.0))
    x = normal(4, 16, 2)
    torch.testing.assert_close(other(x), one(3 * x))
    assert not torch.allclose(other(x), one(x))


@EVERY
def test_energy_depends_on_every_step_and_channel(which):
    model = preset(which, event_shape=(16, 3), base_std=None).double()
    x = normal(8, 16, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(model(x).sum(), x)
    assert float(gradient.abs().mean(0).min()) > 0


@EVERY
def test_energy_depends_on_the_order_of_the_steps(which):
    model = preset(which, event_shape=(16, 1)).double()
    x = normal(4, 16, 1)
    assert not torch.allclose(model(x), model(x[:, torch.randperm(16)]), rtol=1e-6)


@EVERY
@pytest.mark.parametrize("event", [(), (2, 3, 4)])
def test_events_that_are_no_sequences_are_refused(which, event):
    with pytest.raises(
        InstantiationException, match=r"the model takes sequences, \(length, channels\)"
    ):
        preset(which, event_shape=event)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model=conv1d", "model.depth=6"), "6 layers halve a sequence of 32 steps to nothing"),
        (("model=transformer", "model.width=30"), "width=30 is no multiple of heads=4"),
        (("model=lstm", "model.width=0"), "model.width must be greater than 0, got 0"),
        (("model=lstm", "model.base_std=0"), "model.base_std"),
    ],
)
def test_invalid_options_are_refused_in_one_line(command, words, message):
    outcome = command("check", "dataset=sine_waves", *words)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.err.count("\n") == 1


# LSTM


def mirrored(model: Lstm) -> Lstm:
    """The same weights with the two directions exchanged, wherever something reads one of them."""
    twin = seeded(Lstm, event_shape=(7, 2), width=6, base_std=None)
    exchanged = {}
    for name, value in model.state_dict().items():
        other = name.removesuffix("_reverse") if name.endswith("_reverse") else f"{name}_reverse"
        above = "weight_ih_l" in name and "_l0" not in name
        if above or name == "hidden.weight":  # its inputs are [forward, backward]
            value = torch.cat(value.chunk(2, 1)[::-1], 1)
        exchanged[other if name.startswith("lstm.") else name] = value
    twin.load_state_dict(exchanged)
    return twin


def test_reversed_input_with_exchanged_directions_has_the_same_energy():
    """E(x) of a model = E(x reversed) of its mirror image: true if each direction's state is that
    after its own last step. `out[:, -1]` would hold a backward state that has seen one step."""
    model = seeded(Lstm, event_shape=(7, 2), width=6, base_std=None)
    x = normal(10, 7, 2)
    torch.testing.assert_close(mirrored(model)(x.flip(1)), model(x))
    assert not torch.allclose(model(x.flip(1)), model(x), rtol=1e-3)


def test_gradients_of_both_ends_are_of_equal_size():
    """Over random weights the mean square slopes at the first and at the last step are the same,
    since exchanging the directions is a symmetry of their law. Within 4 standard errors."""
    ratios = []
    for seed in range(60):
        model = seeded(Lstm, seed, event_shape=(9, 1), width=8, base_std=None)
        x = normal(16, 9, 1, seed=seed).requires_grad_()
        (gradient,) = torch.autograd.grad(model(x).sum(), x)
        slopes = gradient.square().mean((0, 2))
        ratios.append((slopes[0] / slopes[-1]).log())
    logs = torch.stack(ratios)
    assert abs(float(logs.mean())) < 4 * float(logs.std()) / math.sqrt(len(logs))


def test_forget_gates_are_initially_open():
    """Biases of mean 1 in each layer and direction, those of the other gates of mean 0: sums of two
    uniform numbers within 1 / sqrt(width), of variance 2 / (3 width); 4 standard errors."""
    width = 64
    model = seeded(Lstm, event_shape=(5, 2), width=width)
    for *_, of_input, of_state in model.lstm.all_weights:  # two layers of two directions
        gates = (of_input + of_state).view(4, width).mean(1)  # input, forget, cell, output
        room = 4 * math.sqrt(2 / 3) / width
        torch.testing.assert_close(gates, torch.tensor([0.0, 1, 0, 0]).to(gates), rtol=0, atol=room)


# Transformer


def test_attention_agrees_with_torch():
    block = seeded(_TransformerBlock, width=12, heads=3)
    peer = nn.MultiheadAttention(12, 3, batch_first=True).double()
    peer.in_proj_weight.data = block.query_key_value.weight.data
    peer.in_proj_bias.data = block.query_key_value.bias.data
    peer.out_proj.load_state_dict(block.joined.state_dict())
    h = normal(5, 7, 12)
    torch.testing.assert_close(block.attention(h), peer(h, h, h, need_weights=False)[0])


def test_a_block_agrees_with_torch():
    """Pre-norm, with both ways around."""
    block = seeded(_TransformerBlock, width=12, heads=3)
    peer = nn.TransformerEncoderLayer(
        12, 3, 48, dropout=0.0, activation=silu, batch_first=True, norm_first=True
    ).double()
    peer.self_attn.in_proj_weight.data = block.query_key_value.weight.data
    peer.self_attn.in_proj_bias.data = block.query_key_value.bias.data  # type: ignore[union-attr]
    for other, own in (
        (peer.self_attn.out_proj, block.joined), (peer.linear1, block.up),
        (peer.linear2, block.down), (peer.norm1, block.before_attention),
        (peer.norm2, block.before_perceptron),
    ):  # fmt: skip
        nn.init.normal_(own.bias)
        other.load_state_dict(own.state_dict())
    h = normal(5, 7, 12)
    torch.testing.assert_close(block(h), peer(h))


def test_transformer_is_invariant_to_joint_permutation_of_steps_and_positions():
    model = seeded(Transformer, event_shape=(9, 2), width=8, heads=2)
    x, order = normal(5, 9, 2), torch.randperm(9)
    before = model(x)
    assert not torch.allclose(model(x[:, order]), before, rtol=1e-6)
    model.places.data = model.places.data[order]
    torch.testing.assert_close(model(x[:, order]), before)


# Convolutions


@pytest.mark.parametrize("length", [8, 9, 13, 32])
def test_conv1d_accepts_any_length(length):
    model = seeded(Conv1d, event_shape=(length, 2), width=4)
    assert model(normal(3, length, 2)).shape == (3,)


def test_conv1d_layers_cover_both_ends_equally():
    model = seeded(Conv1d, event_shape=(12, 1), width=1, depth=1)
    for layer in model.layers:
        nn.init.ones_(layer.weight)
    x = normal(1, 1, 12).requires_grad_()
    (slope,) = torch.autograd.grad(model.layers[0](x).sum(), x)
    assert slope.flatten().tolist() == [1.0, *[2.0] * 10, 1.0]
