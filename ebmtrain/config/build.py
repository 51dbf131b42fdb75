"""Builds the objects of a configuration."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ebmtrain.config import schema
from ebmtrain.config.annotations import accepts_argument, get_target
from ebmtrain.config.cross_checks import ragged_problems, space_problems
from ebmtrain.config.experiment import Experiment
from ebmtrain.config.instantiate import initialize_model, instantiate_part
from ebmtrain.config.shards import check_shards, divide, with_shards
from ebmtrain.config.sizes import check_sizes
from ebmtrain.config.trust import Trust
from ebmtrain.config.validate import ValidConfig, validate
from ebmtrain.datasets.spec import DataSpec, in_units
from ebmtrain.datasets.support import Categorical
from ebmtrain.errors import ConfigError, DataError, first_line, own_code_location
from ebmtrain.evaluation.classification import Classification
from ebmtrain.evaluation.diagnostics import Diagnostics
from ebmtrain.evaluation.protocol import ChecksDimensions, Evaluator
from ebmtrain.evaluation.quality import Quality
from ebmtrain.evaluation.ragged_quality import RaggedDiagnostics, RaggedQuality
from ebmtrain.runtime.devices import Device
from ebmtrain.runtime.optional import import_optional
from ebmtrain.training.loop import RETRIES
from ebmtrain.training.shards import Shards
from ebmtrain.training.state import TrainSpec
from ebmtrain.types import (
    Dataset,
    Joint,
    Landscape,
    Method,
    Region,
    Sampler,
    Standardization,
    Support,
    labels_of,
    needs_labels,
    takes_ragged,
)


def build(
    config: dict[str, Any],
    trust: Trust = None,
    saved: Callable[[], DataSpec] | None = None,
    *,
    set_up_process: bool = False,
) -> Experiment:
    """Builds a configuration, which is validated unless it is a `ValidConfig`.

    Args:
        config: plain and resolved, from `presets.to_plain` or a run directory.
        trust: see `validate`.
        saved: returns the data spec of a trained model; the experiment then reads its data on
            request and has nothing to train.
        set_up_process: sets threads, determinism, native code and precision of the section `device`
            in this process. For commands; a library leaves those of its caller.

    Raises:
        ConfigError, DataError, UnsafeError: with a remedy.
    """
    valid = config if isinstance(config, ValidConfig) else validate(config, trust)
    config = dict(valid)
    settings = Device(**config["device"])
    device, dtype = settings.select()
    if set_up_process:
        settings.set_up_process()
    if saved is None and config.get("tracker"):  # before anything is written
        import_optional(config["tracker"], f"tracker={config['tracker']}", config["tracker"])
    if trust is None:
        config = _with_absolute_paths(config)
    if saved is None:
        config = with_shards(config, resumed=trust is not None)
    sampler = instantiate_part(config, "sampler")
    built = _build_model_and_data(config, sampler, saved, device, dtype, resumed=trust is not None)
    return Experiment(
        config=built.config,
        energy=built.energy.to(device=device, dtype=dtype),
        sampler=sampler,
        method=built.method,
        train_spec=built.train_spec,
        data_spec=built.data_spec,
        data=built.data,
        evaluators={k: e for k, e in _build_evaluators(config, built.data_spec).items() if e.every},
        checkpoint=schema.CheckpointSettings(**config["checkpoint"]),
        plots=schema.PlotSettings(**config["plots"]),
        samples=schema.SampleSettings(**config["samples"]),
        device=device,
        dtype=dtype,
        compile=settings.compile,
    )


def _build_evaluators(config: dict[str, Any], data_spec: DataSpec) -> dict[str, Evaluator]:
    first: Evaluator = instantiate_part(config, "evaluation")
    if isinstance(first, ChecksDimensions):
        first.check_dimensions(len(data_spec.region.low))
    found: dict[str, Evaluator] = {"evaluation": first}
    if data_spec.ragged:
        found = found if takes_ragged(first) else {}
        found["ragged_diagnostics"] = RaggedDiagnostics(every=first.every)
        found["quality"] = RaggedQuality(**config["quality"])
        return found
    found["quality"] = Quality(**config["quality"])
    found["diagnostics"] = Diagnostics(**config["diagnostics"])
    if needs_labels(get_target(config["method"])):
        found["classification"] = Classification(every=first.every)
    return found


class _ModelAndData(NamedTuple):
    config: dict[str, Any]
    energy: nn.Module
    data_spec: DataSpec
    data: Callable[[], Dataset] | None = None
    method: Method | None = None
    train_spec: TrainSpec | None = None


def _build_model_and_data(
    config: dict[str, Any],
    sampler: Sampler,
    saved: Callable[[], DataSpec] | None,
    device: torch.device,
    dtype: torch.dtype,
    *,
    resumed: bool,
) -> _ModelAndData:
    """The model and its data. A landscape has none, and those of a trained model are not read."""
    energy = None if accepts_argument(config["model"], "event_shape") else initialize_model(config)
    if isinstance(energy, Landscape):
        check_sizes(config, math.prod(energy.event_shape), dtype.itemsize, 0)
        spec = _landscape_spec(energy, config)
        if problems := space_problems(config, spec.support.space):
            raise ConfigError("\n".join(problems))
        check_energy(energy, energy.event_shape)
        return _ModelAndData(config, energy, spec)
    if saved is not None:
        data_spec = saved()
        data = partial(_read_checked_dataset, config, data_spec)
        energy = energy or _initialize_for_data(config, data_spec)
        return _ModelAndData(
            config, energy, data_spec, data, _build_method(config, sampler, data_spec.support)
        )
    with _moved_data_remedy(config) if resumed else nullcontext():
        dataset = instantiate_part(config, "dataset").to(dtype=dtype, device=device)
    config, data_spec = _with_classes(config, dataset), DataSpec.of(dataset)
    check_sizes(config, dataset.train[0].numel(), dtype.itemsize, len(dataset.holdout))
    if data_spec.ragged and (problems := ragged_problems(config)):
        raise ConfigError("\n".join(problems))
    if problems := space_problems(config, data_spec.support.space):
        raise ConfigError("\n".join(problems))
    units = data_spec.standardization
    energy = energy or _initialize_for_data(config, data_spec, units.to_standard(dataset.train))
    check_energy(energy.to(device=device, dtype=dtype), units.shift.shape)
    if not any(p.requires_grad for p in energy.parameters()):
        raise ConfigError(f"model {type(energy).__name__} has no parameters to train")
    method = _build_method(config, sampler, data_spec.support)
    train_spec = _build_train_spec(config, method, dataset)
    _check_classes(method, energy, dataset)
    return _ModelAndData(config, energy, data_spec, lambda: dataset, method, train_spec)


def _initialize_for_data(
    config: dict[str, Any], data_spec: DataSpec, points: Tensor | None = None
) -> nn.Module:
    """The untrained model for points of this shape.

    Args:
        points: standardized training points, for a model whose initial weights depend on them;
            None: its weights will be loaded.
    """
    supplied: dict[str, Any] = {"event_shape": tuple(data_spec.standardization.shift.shape)}
    if data_spec.ragged:
        supplied["ragged"] = True
    if isinstance(data_spec.support, Categorical):
        supplied["states"] = len(data_spec.support.alphabet)
    if accepts_argument(config["model"], "training_points"):
        supplied["training_points"] = points
    return initialize_model(config, **supplied)


def _with_classes(config: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """The configuration with model.classes of the data, if the method needs it and it is null."""
    model, labels = config["model"], labels_of(dataset)
    if labels is None or model.get("classes", 0) is not None:
        return config
    if not needs_labels(get_target(config["method"])):
        return config
    return {**config, "model": {**model, "classes": len(labels.names)}}


def _with_absolute_paths(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with absolute paths of data and of the runs of a composition: the run may
    be opened from another folder."""
    dataset, model = config["dataset"], config["model"]
    if isinstance(dataset.get("path"), str):
        dataset = {**dataset, "path": _absolute(dataset["path"])}
    if isinstance(model.get("init"), str):
        model = {**model, "init": _absolute(model["init"])}
    if isinstance(model.get("runs"), list):
        model = {**model, "runs": [_absolute(run) for run in model["runs"]]}
    return {**config, "dataset": dataset, "model": model}


def _absolute(path: Any) -> Any:
    """The absolute path of an existing file or folder; any other value is returned unchanged."""
    try:
        file = Path(path).expanduser().absolute()
        return str(file) if file.exists() else path
    except (OSError, RuntimeError, ValueError, TypeError):
        return path


def _read_checked_dataset(config: dict[str, Any], data_spec: DataSpec) -> Dataset:
    with _moved_data_remedy(config):
        dataset = instantiate_part(config, "dataset")
    if config["model"].get("init") is not None:  # whose units the run has taken over
        dataset = in_units(dataset, data_spec.standardization)
    data_spec.check(dataset)
    return dataset


@contextmanager
def _moved_data_remedy(config: dict[str, Any]) -> Iterator[None]:
    """Adds a remedy to a DataError about the data of a run, which may have moved."""
    try:
        yield
    except DataError as error:
        path = config["dataset"].get("path")
        if not isinstance(path, str) or Path(path).exists():
            raise
        raise DataError(f"{error}; if the data have moved, add dataset.path=PLACE") from error


def _landscape_spec(energy: Landscape, config: dict[str, Any]) -> DataSpec:
    """The data spec of an analytic energy, whose units are those of its points."""
    steps, epochs = config["train"]["steps"], config["train"]["epochs"]
    if steps if epochs is None else epochs:
        raise ConfigError(
            f"model {type(energy).__name__} has no parameters to train: give train.steps=0 to "
            "sample and draw it as it is"
        )
    region = _window_region(energy)
    zero = torch.zeros(energy.event_shape, dtype=torch.float64)
    return DataSpec(Standardization(zero, zero + 1), region)


def _window_region(energy: Landscape) -> Region:
    """The box of a landscape; ConfigError unless its corners have a number for each coordinate."""
    d, found = math.prod(energy.event_shape), energy.window
    try:
        low, high = (torch.tensor(end, dtype=torch.float64) for end in found)
    except (TypeError, ValueError):
        low = high = torch.zeros(())
    right = low.shape == high.shape == (d,) and bool((high - low).isfinite().all())
    if not right or not bool((low < high).all()):
        corners = tuple([-3.0] * min(d, 3)), tuple([3.0] * min(d, 3))
        raise ConfigError(
            f"model {type(energy).__name__}: window must be the lower and the upper corner of a "
            f"box, {d} numbers each, say {corners}; got {found!r}"
        )
    return Region(low, high)


def check_energy(energy: nn.Module, event_shape: Sequence[int]) -> None:
    """Raises ConfigError unless the energy maps points of this shape to (batch,), and each of them
    whatever the rest of the batch, in training too.
    """
    parameter = next(energy.parameters(), torch.zeros(()))
    x = torch.randn(4, *event_shape, generator=torch.Generator().manual_seed(0)).to(parameter)
    # BatchNorm changes its buffers, and dropout draws from the global generator.
    with torch.no_grad(), torch.random.fork_rng():
        try:
            joint = copy.deepcopy(energy).train()(x)
            separate = copy.deepcopy(energy).train()(x[:2])
        except (RuntimeError, ValueError, IndexError) as error:
            raise ConfigError(
                f"model {type(energy).__name__} does not take points of shape "
                f"{tuple(event_shape)}: {first_line(error)}"
                f"{own_code_location(error)}; choose another model or dataset"
            ) from error
    if joint.shape != (len(x),):
        raise ConfigError(
            f"model {type(energy).__name__} must return one energy per point, shape (batch,); "
            f"for a batch of {len(x)} it returned {tuple(joint.shape)}"
        )
    change = float((joint[:2] - separate).abs().max())
    if change > _MAX_BATCH_EFFECT * max(1.0, float(joint.abs().max())):
        raise ConfigError(
            f"model {type(energy).__name__} has an energy of a point that changes by {change:.2g} "
            "with the other points of the batch, or from call to call, as with BatchNorm and "
            "dropout: it is no density; leave them out, or use LayerNorm"
        )


_MAX_BATCH_EFFECT = 1e-3  # of an energy, relative; rounding in float32 gives about 1e-6


def _build_method(config: dict[str, Any], sampler: Sampler, support: Support) -> Method:
    available: dict[str, Any] = {"sampler": sampler, "support": support}
    supplied = {k: v for k, v in available.items() if accepts_argument(config["method"], k)}
    return instantiate_part(config, "method", **supplied)


def _build_train_spec(config: dict[str, Any], method: Method, dataset: Dataset) -> TrainSpec:
    settings = schema.TrainSettings(**config["train"])
    n_train = len(dataset.train)
    batch_size = min(settings.batch_size, n_train)  # `opening_lines` says so
    shards = check_shards(config, batch_size)
    steps = settings.steps
    if settings.epochs is not None:
        steps = -(-settings.epochs * n_train // batch_size)
    assert steps is not None  # checked by `validate`
    return TrainSpec(
        method=divide(method, shards),
        dataset=dataset,
        optimizer=instantiate_part(config, "optimizer"),
        n_steps=steps,
        batch_size=batch_size,
        ema=settings.ema,
        log_every=settings.log_every,
        seed=config["seed"],
        retries=RETRIES if config["supervisor"] == "retry" else 0,
        shards=Shards(shards),
    )


def _check_classes(method: Method, energy: nn.Module, dataset: Dataset) -> None:
    """Raises ConfigError if the method learns from labels and the data have none, or the model does
    not have one output per class."""
    if not needs_labels(method):
        return
    labels = labels_of(dataset)
    if labels is None:
        raise ConfigError(
            f"method {type(method).__name__} learns from labels and these data have none: "
            "method=pcd, or data with labels (dataset=wine)"
        )
    wanted = len(labels.names)
    if not isinstance(energy, Joint):
        raise ConfigError(
            f"model {type(energy).__name__} has no classes, which method "
            f"{type(method).__name__} needs: model=mlp"
        )
    found = energy.classes
    if found != wanted:
        raise ConfigError(
            f"model.classes is {found}, the data have {wanted} classes: model.classes={wanted}"
        )
