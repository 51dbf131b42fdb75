"""A trained model with its run directory: `Run`, which `ebmtrain.load` returns."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from ebmtrain.config.experiment import Experiment
from ebmtrain.config.schema import Samples
from ebmtrain.config.validate import Seed, call_problems, value_problems
from ebmtrain.datasets.images import check_pixel_values
from ebmtrain.datasets.io.long_format import LongColumns
from ebmtrain.datasets.io.read_csv import UnnamedColumnsError
from ebmtrain.datasets.io.read_points import read_points
from ebmtrain.errors import CheckpointError, ConfigError, DataError
from ebmtrain.models.wrappers import ClassEnergies, to_data_units
from ebmtrain.runs.posterior import DenoisedDraws, denoise, inpaint
from ebmtrain.runs.sampling import draw_samples
from ebmtrain.runs.storage.checkpoint_schema import Checkpoint
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.samplers.chain import temperature_of
from ebmtrain.types import Joint, Positive, method_chains


class Run:
    """A trained model: its energy, samples, draws of missing or noisy values, class probabilities.

    Attributes:
        path: its directory.
        config: its configuration, plain Python values.
        result: the content of result.json.
        energy: E(x) of points in the data's own units, (batch, *event) -> (batch,): the evaluated
            weights (the average where one is kept). p(x) = exp(-E(x) / T) / Z. Takes tensors,
            arrays and lists, and returns a tensor.
        temperature: T.
        step: updates behind these weights.
        experiment: the objects of the run, whose energy is of standardized points.
    """

    def __init__(self, path: Path, experiment: Experiment, checkpoint: Checkpoint | None = None):
        self.path = path
        self.experiment = experiment
        self.config = experiment.config
        self.result = RunDir(path).read_json("result.json")
        self.temperature = experiment.temperature
        self.method_state: dict[str, Tensor] = {}
        self.standard_energy: nn.Module = experiment.energy.eval().requires_grad_(False)
        self.step = 0
        if checkpoint is not None:
            self.method_state = _load_weights(experiment, checkpoint)
            self.step = checkpoint["step"]
        self.energy = to_data_units(self.standard_energy, experiment.standardization)

    def sample(
        self,
        count: int,
        *,
        start: str | None = None,
        burn_in: int | None = None,
        thin: int | None = None,
        chains: int | None = None,
        seed: int | None = None,
        label: int | None = None,
    ) -> Tensor:
        """Points from the model by its own sampler, (count, *event), in the data's own units.

        Two calls with the same arguments return the same points: for others, give another `seed`.

        Args:
            count: how many, > 0.
            start: chains (the method's own, where it keeps some), noise or data.
            burn_in: steps of each chain before the first point is taken.
            thin: steps between two points of a chain.
            chains: how many run side by side.
            seed: of the draws; by default that of the run.
            label: class of the points, counted from 0, for a model of classes; None:
                of any.

        What is not given is as in the configuration's section `samples`.

        Raises:
            ConfigError: a value out of its range, or a label for a model without classes.
        """
        settings, number = self._sample_settings(
            seed, count=count, start=start, burn_in=burn_in, thin=thin, chains=chains
        )
        if label is not None and not self.classes:
            raise ConfigError(
                f"label is {label}, but this model knows of no classes: leave it out, or train "
                "with method=jem"
            )
        if label is not None and label not in range(self.classes or 0):
            raise ConfigError(
                f"label is {label}; classes of this model are 0 to {(self.classes or 0) - 1}"
            )
        generator = self.experiment.generator("sample", number)
        points = draw_samples(
            self.experiment, self.standard_energy, self.method_state, settings, generator, label
        )
        return self.experiment.standardization.to_data(points)

    def inpaint(
        self,
        x: Tensor | ArrayLike,
        known: Tensor | ArrayLike,
        count: int = 1,
        *,
        burn_in: int | None = None,
        thin: int | None = None,
        chains: int | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Draws of missing values given the known ones, (n, count, *event), in data units.

        Known values are returned unchanged.

        Args:
            x: (n, *event); values at missing positions are ignored, but must be finite.
            known: (*event), true where a number of each point is kept.
            count: draws for each point, > 0.
            burn_in, thin, chains, seed: as of `sample`; the chains are those of each point.

        Raises:
            ConfigError: a value out of its range, or points or a mask that do not fit.
        """
        settings, number = self._sample_settings(
            seed, count=count, burn_in=burn_in, thin=thin, chains=chains
        )
        points, mask = self._points(x, "inpainting fills in"), torch.as_tensor(known).bool()
        if mask.shape != points.shape[1:]:
            raise ConfigError(
                f"the mask is of shape {tuple(mask.shape)}: the points are of "
                f"{tuple(points.shape[1:])}"
            )
        if mask.all() or not mask.any():
            raise ConfigError("the mask must keep some numbers of a point and not all of them")
        generator = self.experiment.generator("inpaint", number)
        return inpaint(
            self.experiment,
            self.standard_energy,
            self.method_state,
            points,
            mask,
            settings,
            generator,
        )

    def denoise(
        self,
        y: Tensor | ArrayLike,
        noise: float,
        count: int = 1,
        *,
        burn_in: int | None = None,
        thin: int | None = None,
        chains: int | None = None,
        seed: int | None = None,
    ) -> DenoisedDraws:
        """Draws of clean points given noisy ones y, in the data's own units.

        They follow p(x | y), proportional to p(x) N(y; x, noise^2 I): `draws` of shape
        (n, count, *event), and their `mean` of shape (n, *event).

        Args:
            y: (n, *event).
            noise: standard deviation of each number, > 0, in the data's own units.
            count: draws for each point, > 0.
            burn_in, thin, chains, seed: as of `sample`; the chains are those of each point.

        Raises:
            ConfigError: a value out of its range, points that do not fit, or chains at T = 0.
        """
        settings, number = self._sample_settings(
            seed, count=count, burn_in=burn_in, thin=thin, chains=chains
        )
        points = self._points(y, "denoising draws")
        problems = value_problems("noise", noise, Positive)
        if temperature_of(self.experiment.sampler) == 0:
            problems.append("sampler.temperature is 0: such chains descend, and draw from nothing")
        if problems:
            raise ConfigError("; ".join(problems))
        generator = self.experiment.generator("denoise", number)
        return denoise(
            self.experiment,
            self.standard_energy,
            self.method_state,
            points,
            noise,
            settings,
            generator,
        )

    def _points(self, given: Tensor | ArrayLike, act: str) -> Tensor:
        """Points of the model's one shape, (n, *event), float64.

        Args:
            act: what is to be done, for what is said.

        Raises:
            ConfigError: they are of another shape, or not all finite, or the model takes sequences
                of different lengths.
        """
        if self.experiment.data_spec.ragged:
            raise ConfigError(
                f"{act} points of one shape, and these sequences are of different lengths: draw "
                "whole ones, ebmtrain sample RUN, or train on one length"
            )
        points, event = torch.as_tensor(given).double(), self.experiment.standardization.shift.shape
        if points.shape[1:] != event:
            raise ConfigError(
                f"the points are of shape {tuple(points.shape[1:])}: the model takes {tuple(event)}"
            )
        if not points.isfinite().all():
            bad = points[~points.isfinite()][0]
            raise ConfigError(
                f"the points hold {bad}, and {act} points of finite numbers: leave such points "
                "out, or give any number where one is missing and have it inpainted"
            )
        return points

    def _sample_settings(self, seed: int | None, **given: Any) -> tuple[Samples, int]:
        """The sampling settings and the seed; arguments that are None are as configured.

        Raises:
            ConfigError: a value out of its range.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        settings = replace(self.experiment.samples, **chosen)
        number: int = self.config["seed"] if seed is None else seed
        problems = call_problems("sample", vars(settings), Samples, frozenset(), ())
        problems += value_problems("sample.seed", number, Seed)
        if problems:
            raise ConfigError("; ".join(problem.removeprefix("sample.") for problem in problems))
        return settings, number

    @property
    def classes(self) -> int | None:
        """Number of classes of the model; None if it models no classes."""
        return self.standard_energy.classes if isinstance(self.standard_energy, Joint) else None

    def class_probabilities(self, x: Tensor | ArrayLike) -> Tensor:
        """p(y | x) = softmax_y(-E(x, y)), as it was learnt, of points in the data's own units,
        (n, classes).

        Raises:
            ConfigError: the model knows of no classes.
            ValueError: points of another shape.
        """
        if not self.classes:
            raise ConfigError("this model tells no classes apart: train with method=jem")
        joint = to_data_units(ClassEnergies(self.standard_energy), self.experiment.standardization)
        return torch.softmax(-joint(x), 1)

    def read(self, path: str | Path, array: str | None = None) -> Tensor:
        """Points in a file, (n, *event) float64, in the data's own units.

        From a table with named columns, the columns that the run was trained on are read, in any
        order; others are ignored. For a run on sequences of different lengths, shorter sequences
        are padded with NaN at their ends.

        Args:
            path: a .npy, .npz, .csv, .tsv or .txt file.
            array: name of the array in a .npz file that holds several.

        Raises:
            DataError: the file cannot be read, or holds points of another kind, or pixels as whole
                numbers for a model of dequantised images.
        """
        names = self.experiment.data_spec.names
        by_name = names if names is not None and len(set(names)) == len(names) else None
        learnt, ragged = self.config["dataset"], self.experiment.data_spec.ragged
        long = None
        if learnt.get("id") is not None and learnt.get("time") is not None:
            by_name, long = learnt.get("columns"), LongColumns(learnt["id"], learnt["time"])
        try:
            values = read_points(str(path), array, by_name, long, ragged=ragged).values
        except UnnamedColumnsError:
            values = read_points(str(path), array, ragged=ragged).values
        event = tuple(self.experiment.standardization.shift.shape)
        if ragged and values.ndim == 3 and values.shape[1] < event[0]:
            missing = np.full((len(values), event[0] - values.shape[1], values.shape[2]), np.nan)
            values = np.concatenate([values, missing], 1)
        if values.shape[1:] != event:
            last = len(event) == 3 and values.shape[1:] == (*event[1:], event[0])
            remedy = (
                "put the channels first, x.transpose(0, 3, 1, 2) in numpy"
                if last
                else "give the columns that it has learnt"
            )
            raise DataError(
                f"{path} holds points of shape {values.shape[1:]}, the model takes {event}: "
                f"{remedy}"
            )
        if isinstance(dequantize := learnt.get("dequantize"), bool):
            check_pixel_values(values, str(path), dequantize=dequantize)
        return torch.from_numpy(values)

    @property
    def log_z(self) -> float | None:
        """log Z of these weights in the data's own units, p(x) = exp(-E(x) / T - log Z).

        The run or `ebmtrain evaluate` estimated it; None if neither did at this step.

        Raises:
            ConfigError: result.json or evaluation.json cannot be read.
        """
        for name, when in (("result.json", "metrics_step"), ("evaluation.json", "step")):
            content = RunDir(self.path).read_json(name)
            metrics = content.get("metrics")
            value = metrics.get("log_z") if isinstance(metrics, dict) else None
            if isinstance(value, float) and math.isfinite(value) and content.get(when) == self.step:
                return value
        return None


def _load_weights(experiment: Experiment, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Loads the evaluated weights into the energy; returns the method's state.

    State that only training needs is not read, so a run trained on a GPU opens without one.

    Raises:
        CheckpointError: it is of another model.
    """
    try:
        average = checkpoint["average"]
        experiment.energy.load_state_dict(checkpoint["energy"] if average is None else average)
        if not all(value.isfinite().all() for value in experiment.energy.state_dict().values()):
            raise ValueError("its weights are not finite")
        method = checkpoint["method"]
        event, kept = experiment.standardization.shift.shape, method_chains(method)
        if kept is not None:  # the other numbers of a method are for training
            chains, weights = kept.chains, kept.log_weights
            if chains.shape[1:] != event or not chains.is_floating_point():
                raise ValueError(f"its chains are {chains.dtype} of shape {tuple(chains.shape)}")
            if weights is not None and (
                weights.shape != chains.shape[:1] or not weights.is_floating_point()
            ):
                raise ValueError(f"its weights are {weights.dtype} of shape {tuple(weights.shape)}")
        return {k: _as_of(experiment, value) for k, value in method.items()}
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"the checkpoint does not fit the model ({reason})") from error


def _as_of(experiment: Experiment, value: Tensor) -> Tensor:
    """On the device of the run, in its type of floats."""
    return value.to(
        experiment.device, experiment.dtype if value.is_floating_point() else value.dtype
    )
