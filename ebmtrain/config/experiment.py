"""The objects of one run: model, sampler, training specification, evaluators, settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from ebmtrain.config.schema import CheckpointSettings, PlotSettings, SampleSettings
from ebmtrain.datasets.spec import DataSpec, in_units
from ebmtrain.evaluation.protocol import Evaluator
from ebmtrain.runtime.devices import CompileOption
from ebmtrain.runtime.seeding import stream
from ebmtrain.samplers.chain import temperature_of
from ebmtrain.training.state import TrainSpec
from ebmtrain.types import Dataset, Method, Region, Sampler, Standardization


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The objects of one run."""

    config: dict[str, Any]
    energy: nn.Module
    """Of standardized points, on `device` and in `dtype`; untrained."""
    sampler: Sampler
    method: Method | None
    """None for an analytic landscape."""
    train_spec: TrainSpec | None
    """None if there is nothing to train: an analytic landscape, or a run that is only opened."""
    data_spec: DataSpec
    data: Callable[[], Dataset] | None
    """Reads the dataset; None for an analytic landscape."""
    evaluators: Mapping[str, Evaluator]
    """By their names, in the order in which they run."""
    checkpoint: CheckpointSettings
    plots: PlotSettings
    samples: SampleSettings
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
        """The data, read at first use; None for an analytic landscape.

        Raises:
            DataError: they cannot be read, or are not the training data of the model.
        """
        return None if self.data is None else self.data()

    def with_units(self, units: Standardization) -> Experiment:
        """The same experiment, whose data are standardized in these units."""
        assert self.dataset is not None
        assert self.train_spec is not None
        dataset = in_units(self.dataset, units)
        return replace(
            self,
            data_spec=DataSpec.of(dataset),
            data=lambda: dataset,
            train_spec=replace(self.train_spec, dataset=dataset),
        )

    @property
    def temperature(self) -> float:
        """T of the density exp(-E / T): the sampler's, or 1 if the sampler only descends, at 0."""
        return temperature_of(self.sampler) or 1.0

    def generator(self, purpose: str, index: int = 0) -> torch.Generator:
        """An independent random stream for this purpose and index, on the device."""
        seed = stream(self.seed, purpose, index).initial_seed()
        return torch.Generator(self.device).manual_seed(seed)
