"""Sequences of different lengths: each alone, and all of them in one tensor."""

from __future__ import annotations

import copy

import torch
from repeats import normal
from torch import Tensor, nn

from ebmtrain.masks import truncate
from ebmtrain.models.conv1d import Conv1d
from ebmtrain.models.layers import SequenceLayout
from ebmtrain.models.lstm import Lstm
from ebmtrain.models.transformer import Transformer

LONGEST, CHANNELS = 16, 2
KINDS: dict[str, type[nn.Module]] = {"conv1d": Conv1d, "lstm": Lstm, "transformer": Transformer}
FEWEST = {"conv1d": 4, "lstm": 1, "transformer": 1}  # steps that a model takes by themselves


def model(which: str, *, ragged: bool = True, seed: int = 0, **options) -> nn.Module:
    options = {"event_shape": (LONGEST, CHANNELS), "width": 8, "depth": 2} | options
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return KINDS[which](ragged=ragged, **options).double()


def resized(energy: nn.Module, length: int, ragged: bool = False) -> nn.Module:
    """The same parameters as the model of sequences of another length, none of them ragged: what
    belongs to places is that of the first ones, and of more than there are 0."""
    twin = copy.copy(energy)
    twin._parameters, twin._modules = {**energy._parameters}, {**energy._modules}
    twin.layout = SequenceLayout(length, energy.layout.channels, ragged)
    if isinstance(energy, Transformer):
        places = energy.places[:length]
        more = places.new_ones(max(length - len(places), 0), places.shape[1])
        del twin._parameters["places"]
        object.__setattr__(twin, "places", torch.cat([places, more]))
    if isinstance(energy, Conv1d):
        last, halvings = energy.layers[-1].out_channels, len(energy.layers)
        weight = energy.output.weight.view(1, last, -1)[..., : length >> halvings]
        more = weight.new_ones(1, last, max((length >> halvings) - weight.shape[2], 0))
        weight = torch.cat([weight, more], 2).flatten(1)
        del twin._modules["output"]
        read = lambda h: nn.functional.linear(h, weight, energy.output.bias)  # noqa: E731
        object.__setattr__(twin, "output", read)
    return twin


def padded(steps: list[int], seed: int = 0) -> Tensor:
    """Sequences of so many steps each, (len(steps), LONGEST, CHANNELS)."""
    return truncate(normal(len(steps), LONGEST, CHANNELS, seed=seed), torch.tensor(steps))


def alone(x: Tensor) -> list[Tensor]:
    """Each by itself, (1, steps, channels)."""
    return [row[None, : int((~row.isnan().all(1)).sum())] for row in x]
