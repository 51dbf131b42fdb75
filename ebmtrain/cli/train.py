"""`ebmtrain [group=option] [key=value] [-m]`: trains one run, an ensemble, or a sweep of them.

Everything is composed, validated and built before the first directory is created: what cannot be
used leaves nothing behind.
"""

from __future__ import annotations

import errno
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ebmtrain.cli.arguments import find_key, parse_overrides
from ebmtrain.cli.compose import adopt_model
from ebmtrain.cli.habits import refuse_habits
from ebmtrain.cli.jobs import mean_objective, run_unclaimed_job
from ebmtrain.cli.multirun import Sweep, run_and_report
from ebmtrain.config import hydra_private, presets
from ebmtrain.config.aliases import FORMER_CALLBACKS
from ebmtrain.config.ensemble import build_members, member_configs
from ebmtrain.config.presets import Presets
from ebmtrain.errors import ConfigError, OutputError, suggestion
from ebmtrain.runs.storage.manifest import Job
from ebmtrain.runtime.processes import current_rank, process_count

if TYPE_CHECKING:
    from ebmtrain.config.experiment import Experiment


def main(arguments: list[str]) -> int:
    """Trains, or prints what Hydra's flags ask for; returns the exit code."""
    rest, user = parse_overrides(arguments, others=True)
    refuse_habits(rest, Presets(user=user))
    _check_flags(rest)
    try:
        flags = hydra_private.parse_flags(rest)
    except SystemExit as stop:  # it has printed its own message
        return int(stop.code or 0)
    modes = ("run", "multirun", "cfg", "info", "shell_completion")
    if sum(bool(getattr(flags, mode)) for mode in modes) > 1:
        raise ConfigError(f"give one of {', '.join('--' + m.replace('_', '-') for m in modes)}")
    for key in ("hydra.run.dir", "hydra.sweep.dir"):
        if f"{key}=" in flags.overrides:  # an empty path is the current folder
            raise ConfigError(f"{key} is given no value: {key}=FOLDER")
    chosen = Presets(Path(flags.config_path or presets.BUILT_IN).absolute(), user)
    presets.extend_import_path(user)
    command = [sys.argv[0], *arguments]
    if flags.multirun or "hydra.mode=MULTIRUN" in flags.overrides:
        return _sweep(chosen, flags, command)
    if (code := _continue_earlier_attempt()) is not None:
        return code
    loader, name = chosen.loader(), flags.config_name or "config"
    if hydra_private.show_information(loader, flags, name):
        return 0
    config = hydra_private.load_config(loader, flags.overrides, name=name)
    hydra_private.remove_callbacks(config, FORMER_CALLBACKS)
    chosen.check_targets(config)
    adopt_model(config, config.hydra.overrides.task)
    members = build_members(config)

    from ebmtrain.runs.initial_weights import with_initial_weights

    for member in members:
        with_initial_weights(member)  # what cannot be used is refused before anything is written
    start = partial(
        hydra_private.run, loader, config, partial(run_job, members=members, command=command)
    )
    if len(members) > 1:
        return _ensemble(config, members, start)
    if members[0].data is None:
        presets.set_kind(config, "landscape")
    with _output_errors("hydra.run.dir"):
        start()
    return 0


def _continue_earlier_attempt() -> int | None:
    """The exit code of the run that torchrun started before with this command, which ended or was
    killed, and is continued (`--max-restarts`); None: there is none."""
    if current_rank() is None:
        return None
    from ebmtrain.config.trust import packages
    from ebmtrain.runs.launch import resume
    from ebmtrain.runs.storage.rundir import RunDir
    from ebmtrain.runs.team import earlier_run

    path = earlier_run()
    if path is None:
        return None
    run = RunDir.open(path)
    if run.read_json("result.json").get("status") == "finished":
        return 0
    # The parts that it names are those of this command.
    signal = resume(path, None, tuple(packages(run.config())))["signal"]
    return 128 + signal if signal else 0


def run_job(
    config: DictConfig,
    *,
    command: Sequence[str] | None = None,
    import_path: Sequence[str] = (),
    members: list[Experiment] | None = None,
) -> float | None:
    """Validates, builds and runs what a composed configuration describes.

    Hydra's launchers start it, in this process or in another.

    Args:
        config: with Hydra's section `hydra`, whose `runtime.output_dir` is the directory; or
            without it while Hydra runs the job and offers that section as `HydraConfig`.
        command: what the user typed, for run.json; None: the arguments of this process.
        import_path: folders with the user's own parts.
        members: the experiments of this configuration, where they have been built already.

    Returns:
        The least value of `checkpoint.best`, or of its fallback nll, or the last energy distance;
        the mean over an ensemble. Where none was measured, infinity for a job of a sweep, whose
        sweeper may minimize the value, and None otherwise.

    Raises:
        TerminationSignal: a signal ended the job, after its state was saved.
        Exception: of a single run. A job of a sweep writes it into its result.json, and the next
            job starts.
    """
    from ebmtrain.runs.ensemble import run_ensemble
    from ebmtrain.runs.launch import run_experiment

    settings = config.hydra if "hydra" in config else HydraConfig.get()
    choices = presets.group_choices(settings.runtime.choices)
    path, overrides = Path(settings.runtime.output_dir), tuple(settings.overrides.task)
    presets.extend_import_path(*import_path)
    if settings.mode == RunMode.MULTIRUN:
        name = Job(settings.job.num, "", overrides).name
        results = run_unclaimed_job(config, overrides, choices, path, name, command)
        return mean_objective(results, in_sweep=True)
    if members is None:
        adopt_model(config, overrides)
        members = build_members(config)
    if len(members) > 1:
        results = run_ensemble(members, path, choices, command=command)
    else:
        results = [run_experiment(members[0], path, choices, command=command)]
    return mean_objective(results, in_sweep=False)


def _ensemble(config: DictConfig, members: list[Experiment], start: Callable[[], object]) -> int:
    """Several seeds of one configuration, or one run per class that is left out.

    Args:
        start: runs all members.
    """
    from ebmtrain.runs.ensemble import member_overrides

    presets.set_kind(config, "ensemble")
    with hydra_private.current_config(config):
        path = Path(config.hydra.run.dir)
    quiet = bool(config.train.get("leave_one_out"))
    sweep = Sweep(
        path, [[word] for word in member_overrides(members)], "hydra.run.dir", quiet=quiet
    )
    with _output_errors("hydra.run.dir"):
        return run_and_report(sweep, start)


def _sweep(chosen: Presets, flags: Namespace, command: list[str]) -> int:
    """All jobs of a sweep, each in its own directory."""
    if process_count() > 1:
        raise ConfigError(
            f"a sweep trains several runs, and torchrun started {process_count()} processes for "
            "one: ebmtrain -m ... without torchrun"
        )
    # Values that all jobs share are left out of the names of the directories.
    single = [text for text in flags.overrides if "=" in text and "," not in text]
    shared = [text.partition("=")[0].lstrip("+~") for text in single]
    names = f"hydra.job.config.override_dirname.exclude_keys=[{','.join(shared)}]"
    overrides = [*flags.overrides, names, "hydra.mode=MULTIRUN"]
    with _temporary_directory() as temporary:
        with _output_errors("TMPDIR"):
            frozen = chosen.freeze(temporary)
        config = hydra_private.load_config(
            frozen.loader(), overrides, name=flags.config_name or "config", multirun=True
        )
        hydra_private.remove_callbacks(config, FORMER_CALLBACKS)
        path = hydra_private.fix_sweep_directory(config)
        loader = frozen.loader()
        jobs = hydra_private.sweep_jobs(config)
        names = hydra_private.sweep_folders(loader, config, jobs, presets.folder_name)
        found = enumerate(zip(names, jobs, strict=True))
        planned = tuple(Job(i, folder, tuple(words)) for i, (folder, words) in found)
        sweep = Sweep(path, planned)
        _check_jobs(frozen, loader, config, planned)
        if len(sweep.jobs) == 1:
            print("one job: no option has several values; say -m seed=0,1,2")
        import_path = [str(chosen.user)] if chosen.user else []
        task = partial(run_job, command=command, import_path=import_path)

        def start() -> None:
            kept = sweep.keep_presets(frozen)
            sweep.write_manifest(command, config.hydra.job.config_name, kept.digest())
            hydra_private.sweep(kept.loader(), config, task)

        with _output_errors("hydra.sweep.dir"):
            return run_and_report(sweep, start)


def _check_jobs(
    frozen: Presets, loader: ConfigLoader, config: DictConfig, jobs: Sequence[Job]
) -> None:
    """Composes one job for each combination of options of groups, which determines the keys that
    there are, and validates the first of all."""
    from ebmtrain.config.instantiate import instantiate_part
    from ebmtrain.config.validate import validate

    groups, checked = frozen.groups(), set()
    for job in jobs:
        key = tuple(
            word for word in job.overrides
            if word.lstrip("+~").partition("=")[0].partition("@")[0] in groups
        )  # fmt: skip
        if key not in checked:
            composed = loader.load_sweep_config(config, list(job.overrides))
            if not checked:  # data that cannot be read leave nothing behind
                instantiate_part(validate(member_configs(composed)[0]), "dataset")
            checked.add(key)


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    """A directory that is removed at the end.

    Raises:
        OutputError: there is no folder for temporary files that can be written.
    """
    try:
        directory = tempfile.TemporaryDirectory(prefix="ebmtrain-presets-")
    except OSError as error:
        raise OutputError(
            f"cannot create a temporary directory: {error.strerror}; set TMPDIR to a folder that "
            "can be written"
        ) from error
    with directory as path:
        yield Path(path)


@contextmanager
def _output_errors(key: str) -> Iterator[None]:
    """Names the option that chooses another directory where Hydra cannot create this one.

    Raises:
        OutputError: in place of an OSError with the name of a file.
    """
    try:
        yield
    except OSError as error:
        if not error.filename or error.errno == errno.EMFILE:  # of any file, say a font
            raise
        place = Path(error.filename).absolute()
        raise OutputError(
            f"cannot write {place}: {error.strerror}; choose another {key}"
        ) from error


def _check_flags(arguments: list[str]) -> None:
    """Hydra's parser would answer an unknown flag with a page of usage.

    Raises:
        ConfigError: for the first flag that Hydra does not have.
    """
    known = hydra_private.flag_names()
    for i, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name.startswith("-") and name not in known:
            if key := find_key(name.lstrip("-").replace("-", "_")):
                value = value or "".join(arguments[i + 1 : i + 2])
                raise ConfigError(f"unknown flag {name}; did you mean {key}={value or '...'}?")
            raise ConfigError(f"unknown flag {name}{suggestion(name, [*known, '--debug'])}")
