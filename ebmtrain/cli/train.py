"""`ebmtrain [group=option] [key=value] [-m]`: trains, by Hydra's own way through a run or a sweep.

Hydra composes the configuration, names the directory and, with -m, walks through the jobs. Between
composing and the first directory it calls `BeforeRun`, where everything is checked and built: what
cannot be used leaves nothing behind.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from ebmtrain.cli import multirun as sweep
from ebmtrain.cli.arguments import find_key, parse_overrides
from ebmtrain.config import presets
from ebmtrain.config.ensemble import build_members, member_configs
from ebmtrain.errors import ConfigError, OutputError, suggestion
from ebmtrain.runs import ensemble
from ebmtrain.runs.report.discovery import find_runs

if TYPE_CHECKING:
    from ebmtrain.config.experiment import Experiment


@dataclass
class Call:
    """What one call of the command carries past Hydra, which hands nothing through by itself."""

    members: list[Experiment] = field(default_factory=list)
    """One, or those of an ensemble."""
    error: Exception | None = None
    signal: int = 0
    snapshot: Path | None = None
    sweep: sweep.Sweep | None = None
    arguments: list[str] = field(default_factory=list)


_CALL = Call()


class BeforeRun(Callback):
    """Named in configs/config.yaml. Hydra swallows a callback's exceptions, but not SystemExit."""

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        HydraConfig.instance().set_config(config)  # for the resolvers in hydra.run.dir
        sys.argv[1:] = _CALL.arguments  # what run.json keeps is what the user typed
        try:
            presets.check_targets(config)
            _CALL.members = members = build_members(config)
            if len(members) > 1:
                presets.place_as("ensemble")
                jobs = [[argument] for argument in ensemble.member_overrides(members)]
                _CALL.sweep = sweep.Sweep(
                    Path(config.hydra.run.dir),
                    jobs,
                    "hydra.run.dir",
                    quiet=bool(config.train.get("leave_one_out")),
                )
            elif members[0].data is None:
                presets.place_as("landscape")
        except Exception as error:  # of any kind: Hydra would swallow it
            _CALL.error = error
            raise SystemExit from error

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        from ebmtrain.config.validate import validate

        HydraConfig.instance().set_config(config)
        sys.argv[1:] = _CALL.arguments
        try:
            _CALL.sweep = sweep.plan_sweep(config)
            validate(member_configs(presets.compose_config(_CALL.sweep.first_job))[0])
            if _CALL.snapshot is not None:
                _CALL.sweep.keep_presets(_CALL.snapshot)
        except Exception as error:  # likewise
            _CALL.error = error
            raise SystemExit from error


def main(arguments: list[str]) -> int:
    _CALL.__init__(arguments=arguments)  # a second call in one process starts afresh
    arguments, user_folder = parse_overrides(arguments, others=True)
    _check_flags(arguments)
    presets.prepare(user_folder)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions come to us instead of being printed
    sys.argv[1:] = arguments  # without --config-dir: Hydra would search that folder last
    with tempfile.TemporaryDirectory(prefix="ebmtrain-presets-") as temporary:
        folder = presets.BUILT_IN
        if any(argument in ("-m", "--multirun") for argument in arguments):
            _CALL.snapshot = Path(temporary)
            folder = presets.freeze(_CALL.snapshot)
            # What all jobs share does not belong into their names.
            shared = [
                w.partition("=")[0].lstrip("+~") for w in arguments if "=" in w and "," not in w
            ]
            keys = "hydra.job.config.override_dirname.exclude_keys"
            sys.argv.append(f"{keys}=[{','.join(shared)}]")
        try:
            hydra.main(version_base="1.3", config_path=str(folder), config_name="config")(job)()
        except SystemExit as stop:
            if _CALL.error is None and stop.code:
                return int(stop.code)
        except KeyboardInterrupt as stop:
            if _CALL.sweep is None:
                raise
            _CALL.signal = getattr(stop, "signal", signal.SIGINT)
        except Exception as error:  # of Hydra itself: told below, unless it is a consequence
            _CALL.error = _CALL.error or error
        finally:
            if _CALL.sweep is not None:
                _CALL.sweep.tidy()
    if isinstance(_CALL.error, OSError) and _CALL.error.filename:  # Hydra made the folder, or tried
        place = Path(_CALL.error.filename).absolute()
        key = "hydra.run.dir" if _CALL.snapshot is None else "hydra.sweep.dir"
        raise OutputError(
            f"cannot write {place}: {_CALL.error.strerror}; choose another {key}"
        ) from _CALL.error
    if _CALL.error is not None:
        raise _CALL.error
    code = _CALL.sweep.report() if _CALL.sweep is not None and find_runs(_CALL.sweep.path) else 0
    return 128 + _CALL.signal if _CALL.signal else code


def job(config: DictConfig) -> None:
    """What Hydra runs, once or once per job of a sweep. Keeps exceptions for `main`."""
    settings = HydraConfig.get()
    choices = presets.group_choices(settings.runtime.choices)
    path = Path(settings.runtime.output_dir)
    if str(settings.mode).endswith("MULTIRUN"):
        sweep.run_job(config, choices, path, settings)
        return
    from ebmtrain.runs.launch import run_experiment

    members = _CALL.members  # BeforeRun built them, or has ended the process
    try:
        if _CALL.sweep is not None:
            _CALL.signal = ensemble.run_ensemble(members, _CALL.sweep.path, choices) or 0
        else:
            _CALL.signal = run_experiment(members[0], path, choices).get("signal") or 0
    except Exception as error:  # Hydra would print a line of its own about it
        _CALL.error = error


def _check_flags(arguments: list[str]) -> None:
    """Raises ConfigError for the first flag that Hydra does not have: it would print its usage."""
    known = get_args_parser()._option_string_actions
    for i, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name.startswith("-") and name not in known:
            presets.prepare(None)
            if key := find_key(name.lstrip("-").replace("-", "_")):
                value = value or "".join(arguments[i + 1 : i + 2])
                raise ConfigError(f"unknown flag {name}; did you mean {key}={value or '...'}?")
            raise ConfigError(f"unknown flag {name}{suggestion(name, [*known, '--debug'])}")
