"""Composes the configuration that arguments describe, for verbs that build it."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf, open_dict

from ebmtrain.cli.arguments import parse_overrides
from ebmtrain.cli.habits import refuse_habits
from ebmtrain.config.presets import Presets, extend_import_path


def compose_arguments(arguments: list[str]) -> DictConfig:
    """The configuration that `[--config-dir DIR] key=value ...` describes."""
    overrides, folder = parse_overrides(arguments)
    extend_import_path(folder)
    presets = Presets(user=folder)
    refuse_habits(overrides, presets)
    config = presets.compose(overrides)
    presets.check_targets(config)
    adopt_model(config, config.hydra.overrides.task)
    return config


def adopt_model(config: DictConfig, typed: Sequence[str]) -> None:
    """With `model.init=RUN` and no other option of the model among the words that the user typed,
    the model of that run."""
    path = OmegaConf.select(config, "model.init")
    words = [word.lstrip("+~") for word in typed]
    own = [w for w in words if w.startswith(("model=", "model.")) and w[:11] != "model.init="]
    if not isinstance(path, str) or own:
        return
    from ebmtrain.runs.initial_weights import read_model

    if model := read_model(path):
        with open_dict(config):
            config.model = {**model, "init": path}
