"""Weights of a finished run as the initial weights of a new one: `model.init=RUN`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ebmtrain.config.experiment import Experiment
from ebmtrain.config.trust import refuse_hostile
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.errors import ConfigError, UnsafeError
from ebmtrain.runs.storage.checkpoint_schema import validate_state
from ebmtrain.runs.storage.rundir import RunDir


def read_model(path: str) -> dict[str, Any]:
    """The section `model` of the run in `path`.

    Raises:
        ConfigError: it is no run, or its model is not one of ebmtrain's.
    """
    model = RunDir.open(Path(path).expanduser()).config().get("model")
    try:
        refuse_hostile({"model": model}, ())
    except UnsafeError as error:
        raise ConfigError(
            f"the model of model.init={path} is not one of ebmtrain's: give it as model=..., too"
        ) from error
    return {k: v for k, v in model.items() if k != "init"} if isinstance(model, dict) else {}


def with_initial_weights(experiment: Experiment) -> Experiment:
    """The experiment with the evaluated weights of the newest whole checkpoint of `model.init` and
    with the units of that run, if that option is given. No code of that run is executed.

    E(x) of points in the data's units is then that of the run, whatever the data.

    Raises:
        ConfigError: there is no such run, or its weights are of another model.
        CheckpointError: none of its checkpoints is whole.
    """
    path = experiment.config["model"].get("init")
    if path is None:
        return experiment
    if experiment.train_spec is None:
        raise ConfigError("model.init is for models with weights, and a landscape has none")
    saved = validate_state(RunDir.open(Path(path)).load_checkpoint()[0])
    weights = saved["energy"] if saved["average"] is None else saved["average"]
    spec = DataSpec.from_state(saved["frame"])
    units, space = spec.standardization, experiment.data_spec.support.space
    try:
        if spec.support.space != space:
            raise ValueError(f"its points are {spec.support.space}, and these {space}")
        if units.shift.shape != experiment.standardization.shift.shape:
            raise ValueError(f"its points have shape {tuple(units.shift.shape)}")
        if not all(value.isfinite().all() for value in weights.values()):
            raise ValueError("they are not finite")
        experiment.energy.load_state_dict(weights)
    except (RuntimeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"the weights of model.init={path} do not fit this model and these data "
            f"({' '.join(str(error).split())[:200]}): leave out model=..., which takes the model "
            "of that run too, and give points of the same shape"
        ) from error
    return experiment.with_units(units)
