"""`ebmtrain.train("method=pcd", ...)`: the command for notebooks and scripts, in their process."""

from __future__ import annotations

from pathlib import Path

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ebmtrain.cli.arguments import explain_error
from ebmtrain.cli.compose import compose_arguments
from ebmtrain.config import hydra_private
from ebmtrain.config.ensemble import build_members, member_configs
from ebmtrain.config.presets import group_choices, set_kind
from ebmtrain.config.trust import packages
from ebmtrain.errors import ConfigError
from ebmtrain.runs.launch import run_experiment
from ebmtrain.runs.loading import load
from ebmtrain.runs.trained_run import Run
from ebmtrain.runtime.devices import keep_process_settings
from ebmtrain.runtime.signals import TerminationSignal


def train(*words: str, quiet: bool = False) -> Run:
    """Trains one run, as the command `ebmtrain WORDS` does, and returns it opened.

        run = ebmtrain.train("method=pcd", "model=mlp", "seed=0")

    Threads, determinism and native code of this process are afterwards as before.

    Args:
        words: `key=value`, as on the command line; `--config-dir`, `DIR` for presets of your own.
        quiet: prints nothing.

    Raises:
        ConfigError: the words cannot be used, or describe several runs (`train.ensemble`).
        DataError: the data cannot be used.
        DivergedError: training diverged.
        TerminationSignal: a KeyboardInterrupt, after the state was saved: `ebmtrain resume RUN`.
    """
    try:
        config = compose_arguments(list(words))
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise ConfigError("; ".join(explain_error(error, list(words))[0])) from error
    if len(member_configs(config)) > 1:
        raise ConfigError(
            "ebmtrain.train trains one run, and these words describe several: call it for each, "
            "or type the command ebmtrain"
        )
    choices, command = group_choices(config.hydra.runtime.choices), ["ebmtrain", *words]
    with keep_process_settings():
        (experiment,) = build_members(config)
        if experiment.data is None:
            set_kind(config, "landscape")
        with hydra_private.current_config(config):
            path = Path(config.hydra.run.dir).absolute()
        result = run_experiment(experiment, path, choices, quiet=quiet, command=command)
    if result["signal"]:
        raise TerminationSignal(result["signal"])
    return load(path, trust=packages(experiment.config))
