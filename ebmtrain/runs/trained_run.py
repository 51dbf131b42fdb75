"""A trained model with its run directory: `Run`, which `ebmtrain.load` returns."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Generator, Tensor, nn

from ebmtrain.config.experiment import Experiment
from ebmtrain.config.schema import SampleSettings
from ebmtrain.config.trust import trust_flags
from ebmtrain.config.validate import Seed, call_problems, value_problems
from ebmtrain.datasets.io.read_numpy import read_npz
from ebmtrain.datasets.read_for_model import read_for_model
from ebmtrain.errors import CheckpointError, ConfigError, DataError, one_line
from ebmtrain.masks import finite_mask
from ebmtrain.models.wrappers import ClassEnergies, to_data_units
from ebmtrain.runs.notebook import run_html
from ebmtrain.runs.posterior import DenoisedDraws, draw_clean_points, draw_missing_values
from ebmtrain.runs.sampling import draw_samples
from ebmtrain.runs.storage.atomic_io import folder_identity
from ebmtrain.runs.storage.checkpoint_schema import Checkpoint
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.runs.summary import closing_lines
from ebmtrain.samplers.chain import temperature_of
from ebmtrain.types import Joint, Positive, labels_of, method_chains


class Run:
    """A trained model: its energy, samples, draws of missing or noisy values, class probabilities.

    Attributes:
        path: its directory.
        config: its configuration, plain Python values.
        result: the content of result.json.
        energy: E(x) of points in the data's own units, (batch, *event) -> (batch,), with the
            evaluated weights (their moving average, if `train.ema` is set). p(x) is proportional to
            exp(-E(x) / T). Takes tensors, arrays and lists, and returns a tensor.
        temperature: T.
        step: number of updates of these weights.
        experiment: the objects of the run, whose energy is of standardized points.
    """

    def __init__(self, path: Path, experiment: Experiment, checkpoint: Checkpoint | None = None):
        self.path = path
        self.directory = RunDir(path, folder_identity(path))
        self.experiment = experiment
        self.config = experiment.config
        self.result = self.directory.read_json("result.json")
        self.temperature = experiment.temperature
        self.method_state: dict[str, Tensor] = {}
        self.standard_energy: nn.Module = experiment.energy.eval().requires_grad_(False)
        self.step = 0
        if checkpoint is not None:
            self.method_state = _load_weights(experiment, checkpoint)
            self.step = checkpoint["step"]
        self._energy = to_data_units(
            self.standard_energy,
            experiment.standardization,
            self.temperature,
            experiment.data_spec.support,
        )

    @property
    def energy(self) -> nn.Module:
        """E(x) of points in the data's own units, (batch, *event) -> (batch,), with the evaluated
        weights: a module that takes tensors, arrays and lists, and returns a tensor."""
        return self._energy

    def __repr__(self) -> str:
        """Its path, model, method, step and status, on one line."""
        model, method = (self.config[k]["_target_"].rpartition(".")[2] for k in ("model", "method"))
        status = self.result.get("status", "killed")
        return f"Run({str(self.path)!r}, {model}, {method}, step {self.step}, {status})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the line of `repr`, the numbers and warnings of the run, and its
        last landscape."""
        return run_html(self.path, [repr(self), *self._result_lines()])

    def _result_lines(self) -> list[str]:
        try:
            lines = closing_lines(self.path, self.result, trust_flags(self.config), True)
            return [*lines, *(f"warning: {text}" for text in self.result["warnings"])]
        except (KeyError, TypeError, ValueError):  # a run without an end, or a damaged result.json
            return []

    @property
    def parts(self) -> Experiment:
        """Former name of `experiment`."""
        warnings.warn("Run.parts is now Run.experiment", DeprecationWarning, stacklevel=2)
        return self.experiment

    def sample(
        self,
        count: int,
        *,
        start: str | None = None,
        burn_in: int | None = None,
        thin: int | None = None,
        chains: int | None = None,
        seed: int | None = None,
        label: int | str | None = None,
    ) -> Tensor:
        """Points from the model by its own sampler, (count, *event), in the data's own units.

        Two calls with the same arguments return the same points. Arguments that are None are as in
        the section `samples` of the configuration.

        Args:
            count: number of points, > 0.
            start: first points of the chains: `chains` (the method's own, if it has some), `noise`
                or `data`.
            burn_in: steps of each chain before its first point.
            thin: steps between two points of a chain.
            chains: number of parallel chains.
            seed: of the draws; None: the seed of the run.
            label: class of the points, by its name in the data or, where the names are words or the
                data cannot be read, counted from 0; None: points of all classes.

        Raises:
            ConfigError: a value out of its range, or a label for a model without classes.
        """
        settings, generator = self._settings(
            "sample", seed, count=count, start=start, burn_in=burn_in, thin=thin, chains=chains
        )
        index = None if label is None else self._class_index(label)
        points = draw_samples(
            self.experiment, self.standard_energy, self.method_state, settings, generator, index
        )
        return self.experiment.standardization.to_data(points)

    def _class_index(self, label: int | str) -> int:
        """The class of this name, or of this number from 0 where names are no numbers.

        Raises:
            ConfigError: there is none.
        """
        if not (n_classes := self.classes or 0):
            raise ConfigError(
                f"label is {label}; this model has no classes: leave it out, or train with "
                "method=jem"
            )
        try:
            labels = labels_of(self.experiment.dataset)
        except DataError:  # the data were moved
            labels = None
        names = [] if labels is None else list(labels.names)
        if str(label) in names:
            return names.index(str(label))
        are_numbers = bool(names) and all(name.lstrip("-").isdigit() for name in names)
        if isinstance(label, int) and label in range(n_classes) and not are_numbers:
            return label
        known = f"0 to {n_classes - 1}"
        if names and names != [str(i) for i in range(n_classes)]:
            known = ", ".join(names) if are_numbers else f"{known}, or {', '.join(names)}"
        raise ConfigError(f"label is {label}; classes of this model are {known}")

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
        """Draws of missing values given the known ones, (n, count, *event), in the data's own
        units. Known values are returned unchanged.

        Args:
            x: (n, *event); values at missing positions are ignored, but must be finite.
            known: (*event), true where a value of each point is known.
            count: draws for each point, > 0.
            burn_in, thin, chains, seed: see `sample`; each point has its own chains.

        Raises:
            ConfigError: a value out of its range, or points or a mask that do not fit.
        """
        settings, generator = self._settings(
            "inpaint", seed, count=count, burn_in=burn_in, thin=thin, chains=chains
        )
        points, mask = self._check_points(x, "inpainting fills in"), torch.as_tensor(known).bool()
        if mask.shape != points.shape[1:]:
            raise ConfigError(
                f"the mask is of shape {tuple(mask.shape)}: the points are of "
                f"{tuple(points.shape[1:])}"
            )
        if mask.all() or not mask.any():
            raise ConfigError("the mask must keep some numbers of a point and not all of them")
        self._check_inside(points.masked_fill(~mask, torch.nan))
        return draw_missing_values(self, points, mask, settings, generator)

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
        """Draws of clean points given noisy ones, and their mean, in the data's own units.

        They follow p(x | y), proportional to p(x) N(y; x, noise^2 I).

        Args:
            y: (n, *event).
            noise: standard deviation of each number, > 0, in the data's own units.
            count: draws for each point, > 0.
            burn_in, thin, chains, seed: see `sample`; each point has its own chains.

        Raises:
            ConfigError: a value out of its range, points that do not fit, or chains at T = 0.
        """
        settings, generator = self._settings(
            "denoise", seed, count=count, burn_in=burn_in, thin=thin, chains=chains
        )
        points = self._check_points(y, "denoising draws")
        problems = value_problems("noise", noise, Positive)
        if self.experiment.standardization.bounds is not None:
            problems.append(
                "denoising takes Gaussian noise on unbounded numbers, and these data have bounds: "
                "train without dataset.support"
            )
        if temperature_of(self.experiment.sampler) == 0:
            problems.append("sampler.temperature is 0: such chains descend and draw no samples")
        if problems:
            raise ConfigError("; ".join(problems))
        return draw_clean_points(self, points, noise, settings, generator)

    def _check_inside(self, points: Tensor) -> None:
        """Raises ConfigError for a point that is not inside of the bounds; NaN is."""
        bounds = self.experiment.standardization.bounds
        if bounds is not None and not (inside := bounds.contains(points)).all():
            raise ConfigError(
                f"point {int((~inside).int().argmax()) + 1} (counted from 1) is outside of "
                "dataset.support, where the model has no density: leave it out"
            )

    def _check_points(self, given: Tensor | ArrayLike, act: str) -> Tensor:
        """The points as float64, (n, *event). Raises ConfigError for another shape, for values that
        are not finite and for a model of sequences of different lengths."""
        if self.experiment.data_spec.ragged:
            raise ConfigError(
                f"{act} points of one shape, and these sequences are of different lengths: draw "
                "whole ones, ebmtrain sample RUN, or train on one length"
            )
        if self.experiment.data_spec.support.space != "real":
            raise ConfigError(
                f"{act} real numbers, and the points of this model are states: draw whole ones, "
                "ebmtrain sample RUN"
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

    def _settings(
        self, purpose: str, seed: int | None, **given: Any
    ) -> tuple[SampleSettings, Generator]:
        """The sampling settings and a generator; ConfigError for a value out of its range."""
        chosen = {name: value for name, value in given.items() if value is not None}
        settings = replace(self.experiment.samples, **chosen)
        number: int = self.config["seed"] if seed is None else seed
        problems = call_problems("sample", vars(settings), SampleSettings, frozenset(), ())
        problems += value_problems("sample.seed", number, Seed)
        if problems:
            raise ConfigError("; ".join(problem.removeprefix("sample.") for problem in problems))
        return settings, self.experiment.generator(purpose, number)

    @property
    def classes(self) -> int | None:
        """Number of classes of the model; None if it models no classes."""
        return self.standard_energy.classes if isinstance(self.standard_energy, Joint) else None

    def score_samples(self, x: Tensor | ArrayLike) -> Tensor:
        """log p(x) = -E(x) / T - log Z of points in the data's own units, (n,), as the estimators
        of scikit-learn call it. Where log Z of these weights is not known, -E(x) / T and a warning.

        Raises:
            ValueError: points of another shape.
        """
        negative = -self.energy(x) / self.temperature
        if (log_z := self.log_z) is not None:
            return negative - log_z
        warnings.warn(
            f"log Z of step {self.step} is not known, so these are -E / T, log p up to a constant: "
            f"ebmtrain evaluate {self.path}",
            stacklevel=2,
        )
        return negative

    def class_probabilities(self, x: Tensor | ArrayLike) -> Tensor:
        """p(y | x) = softmax_y(-E(x, y)) at T = 1 of points in the data's own units, (n, classes).

        Raises:
            ConfigError: the model has no classes, or no density at a point, which is not inside of
                dataset.support.
            ValueError: points of another shape.
        """
        if not self.classes:
            raise ConfigError("this model has no classes: train with method=jem")
        joint = to_data_units(ClassEnergies(self.standard_energy), self.experiment.standardization)
        energies = joint(x)
        self._check_inside(torch.as_tensor(x).double())
        return torch.softmax(-energies, 1)

    def read(self, path: str | Path, array: str | None = None) -> Tensor:
        """Points in a file, (n, *event) float64, in the data's own units; see
        `datasets.read_for_model`.

        Args:
            path: see `datasets.io.read_points`.
            array: name of the array in a .npz file that holds several.

        Raises:
            DataError: the file cannot be read, or holds points of another kind, or pixels as whole
                numbers for a model of dequantised images.
        """
        options = self.config["dataset"]
        return read_for_model(str(path), array, options, self.experiment.data_spec)

    @property
    def log_z(self) -> float | None:
        """log Z of these weights in the data's own units, p(x) = exp(-E(x) / T - log Z), as the run
        or `ebmtrain evaluate` estimated it; None if neither did at this step.

        Raises:
            ConfigError: result.json or evaluation.json cannot be read.
        """
        for name, when in (("result.json", "metrics_step"), ("evaluation.json", "step")):
            content = self.directory.read_json(name)
            metrics = content.get("metrics")
            value = metrics.get("log_z") if isinstance(metrics, dict) else None
            if isinstance(value, float) and math.isfinite(value) and content.get(when) == self.step:
                return value
        return None


def _load_weights(experiment: Experiment, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Loads the evaluated weights into the energy; returns the method's state. State that only
    training needs is not read, so a run trained on a GPU opens without one.

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
        if kept is not None:  # other items of a method are for training
            chains, weights = kept.chains, kept.log_weights
            if chains.shape[1:] != event or not chains.is_floating_point():
                raise ValueError(f"its chains are {chains.dtype} of shape {tuple(chains.shape)}")
            if weights is not None and (
                weights.shape != chains.shape[:1] or not weights.is_floating_point()
            ):
                raise ValueError(f"its weights are {weights.dtype} of shape {tuple(weights.shape)}")
        device, dtype = experiment.device, experiment.dtype
        return {
            k: v.to(device, dtype if v.is_floating_point() else v.dtype) for k, v in method.items()
        }
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = one_line(error)
        raise CheckpointError(f"the checkpoint does not fit the model ({reason})") from error


def final_samples(run: Run) -> Tensor:
    """The points of samples/final.npz if they are of this state, else new ones; standardized.

    Raises:
        DataError: the file does not hold points of this model.
    """
    units, file = run.experiment.standardization, run.path / "samples/final.npz"
    finished = run.result.get("status") == "finished" and run.result.get("step") == run.step
    if not (finished and file.is_file()):
        return units.to_standard(run.sample(run.experiment.samples.count))
    x = torch.from_numpy(read_npz(file, "x"))
    fine = finite_mask(x).all() if run.experiment.data_spec.ragged else x.isfinite().all()
    if x.shape[1:] != units.shift.shape or not len(x) or not fine:
        raise DataError(f"{file} does not hold points of this model: remove it")
    return units.to_standard(x)
