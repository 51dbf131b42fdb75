"""The objects of one run: model, sampler, training specification, evaluators, settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from ebmtrain.config.schema import Checkpoint, Plots, Samples
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.evaluation.protocol import Evaluator
from ebmtrain.runtime.devices import CompileOption
from ebmtrain.runtime.seeding import stream
from ebmtrain.samplers.chain import temperature_of
from ebmtrain.training.state import TrainSpec
from ebmtrain.types import Dataset, Region, Sampler, Standardization


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What one run is made of."""

    config: dict[str, Any]
    energy: nn.Module
    """Of standardized points, on the device, in the type; untrained."""
    sampler: Sampler
    train_spec: TrainSpec | None
    """None for an analytic landscape, and where a run is only opened: there is nothing to train."""
    data_spec: DataSpec
    data: Callable[[], Dataset] | None
    """Reads the dataset; None for an analytic landscape."""
    evaluations: Mapping[str, Evaluator]
    """By their sections of the configuration; made in this order."""
    checkpoint: Checkpoint
    plots: Plots
    samples: Samples
    device: torch.device
    dtype: torch.dtype
    compile: CompileOption

    @property
    def seed(self) -> int:
        return self.config["seed"]

    @property
    def standardization(self) -> Standardization:
        return self.data_spec.standardization

    @property
    def region(self) -> Region:
        """Box in standardized units that holds the data, or the landscape's wells."""
        return self.data_spec.region

    @cached_property
    def dataset(self) -> Dataset | None:
        """Read when it is first asked for.

        Raises:
            DataError: not to be had any more, or not what the model learnt from.
        """
        return None if self.data is None else self.data()

    @property
    def temperature(self) -> float:
        """T of the density exp(-E / T) that is measured and drawn: the sampler's, or 1 where that
        is 0 and the sampler only descends."""
        return temperature_of(self.sampler) or 1.0

    def generator(self, purpose: str, index: int = 0) -> torch.Generator:
        """A stream of its own, on the device, so that no other draw depends on it."""
        seed = stream(self.seed, purpose, index).initial_seed()
        return torch.Generator(self.device).manual_seed(seed)
