"""Every private interface of Hydra that ebmtrain uses, behind named functions.

`hydra.main` reads `sys.argv`, searches a user's folder after the built-in presets, and creates the
directory of a run before the configuration is validated. Here its steps are separate: compose, then
run or sweep. `tests/config/test_hydra_private.py` names the version.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobRuntime, JobStatus, configure_log, run_job, setup_globals
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

VERSION = "1.3"
"""Minor version of hydra-core that these interfaces belong to."""
_APP = "ebmtrain"
_BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def config_loader(built_in: Path, user: Path | None) -> ConfigLoader:
    """A loader that searches the user's folder first, then the built-in presets."""
    version.setbase(VERSION)
    setup_globals()
    JobRuntime.instance().set("name", _APP)
    search_path = create_config_search_path(str(built_in))
    if user is not None:
        search_path.prepend(provider="user", path=f"file://{user}")
    return ConfigLoaderImpl(config_search_path=search_path)


def load_config(
    loader: ConfigLoader, overrides: Sequence[str], *, name: str = "config", multirun: bool = False
) -> DictConfig:
    """The composed configuration, with Hydra's own section `hydra`."""
    mode = RunMode.MULTIRUN if multirun else RunMode.RUN
    return loader.load_configuration(name, list(overrides), mode, from_shell=True)


def flag_names() -> list[str]:
    """The flags of Hydra's command line: --cfg, -c, --multirun, ..."""
    return [name for action in get_args_parser()._actions for name in action.option_strings]


def parse_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments, parsed by Hydra's parser, flags and overrides in any order. Raises SystemExit
    for --version and for a value that a flag does not accept."""
    return get_args_parser().parse_intermixed_args(list(arguments))


def show_information(loader: ConfigLoader, flags: argparse.Namespace, name: str) -> bool:
    """Prints what --cfg, --info, --hydra-help or --shell-completion request; False without them."""
    app = Hydra(task_name=_APP, config_loader=loader)
    if flags.hydra_help:
        app.hydra_help(config_name=name, args_parser=get_args_parser(), args=flags)
    elif flags.cfg:
        app.show_cfg(name, flags.overrides, flags.cfg, flags.package, flags.resolve)
    elif flags.shell_completion:
        app.shell_completion(config_name=name, overrides=flags.overrides)
    elif flags.info is not None:
        app.show_info(flags.info, config_name=name, overrides=flags.overrides)
    else:
        return False
    return True


@contextmanager
def current_config(config: DictConfig) -> Iterator[None]:
    """Makes this the configuration that the resolver `hydra:` reads, as names of directories do."""
    instance = HydraConfig.instance()
    before = instance.cfg
    instance.set_config(config)
    try:
        yield
    finally:
        instance.cfg = before


def set_runtime(config: DictConfig, key: str, value: Any) -> None:
    """Sets `hydra.runtime.KEY`."""
    runtime = config.hydra.runtime
    with read_write(config.hydra), read_write(runtime), open_dict(runtime):
        runtime[key] = value


def fix_sweep_directory(config: DictConfig) -> Path:
    """`hydra.sweep.dir`, resolved once for all jobs: resolved for each of them, its name would
    follow the values of the job."""
    with current_config(config):
        path = str(config.hydra.sweep.dir)
    written = path.replace('"', '\\"')
    with read_write(config.hydra):
        config.hydra.overrides.hydra.append(f'hydra.sweep.dir="{written}"')
    return Path(path)


def run(loader: ConfigLoader, config: DictConfig, task: Callable[[DictConfig], Any]) -> Any:
    """Creates `hydra.run.dir` and runs the task; returns its value or raises its error."""
    callbacks = _start(config, RunMode.RUN)
    callbacks.on_run_start(config=config, config_name=config.hydra.job.config_name)
    done = run_job(
        task_function=task,
        config=config,
        job_dir_key="hydra.run.dir",
        job_subdir_key=None,
        hydra_context=HydraContext(config_loader=loader, callbacks=callbacks),
    )
    callbacks.on_run_end(config=config, config_name=config.hydra.job.config_name, job_return=done)
    if done.status is JobStatus.FAILED:  # `return_value` would also print a line about it
        raise done._return_value
    return done.return_value


def sweep(loader: ConfigLoader, config: DictConfig, task: Callable[[DictConfig], Any]) -> None:
    """Runs the task for every job of a composed multirun, by its sweeper and launcher."""
    callbacks = _start(config, RunMode.MULTIRUN)
    name = config.hydra.job.config_name
    callbacks.on_multirun_start(config=config, config_name=name)
    sweeper = Plugins.instance().instantiate_sweeper(
        config=config,
        hydra_context=HydraContext(config_loader=loader, callbacks=callbacks),
        task_function=task,
    )
    if config.hydra.sweeper._target_ == _BASIC_SWEEPER:
        # It composes every job before the first one starts: 0.1 s each.
        sweeper.validate_batch_is_legal = lambda batch: None
    with current_config(config):
        sweeper.sweep(arguments=list(config.hydra.overrides.task))
    callbacks.on_multirun_end(config=config, config_name=name)


def _start(config: DictConfig, mode: RunMode) -> Callbacks:
    with read_write(config.hydra):
        config.hydra.mode = mode
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    return Callbacks(config)


def sweep_jobs(config: DictConfig) -> list[list[str]]:
    """The overrides of each job of Hydra's basic sweeper; [] for another sweeper."""
    if config.hydra.sweeper._target_ != _BASIC_SWEEPER:
        return []
    params = config.hydra.sweeper.get("params") or {}
    texts = [*(f"{key}={value}" for key, value in params.items()), *config.hydra.overrides.task]
    overrides = OverridesParser.create().parse_overrides(texts)
    return BasicSweeper.split_arguments(overrides, None)[0]


def sweep_folders(
    loader: ConfigLoader,
    config: DictConfig,
    jobs: Sequence[Sequence[str]],
    folder_name: Callable[[str], str],
) -> list[str]:
    """The folder of each job: `hydra.sweep.subdir` as Hydra resolves it when the job starts.

    One that names other values than the number and the overrides of the job, such as ${seed},
    takes composing each job, 0.1 s.

    Args:
        folder_name: the resolver of that name.
    """
    pattern = str(OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"])  # type: ignore
    number, overrides = "${hydra:job.num}", "${hydra:job.override_dirname}"
    named = f"${{folder_name:{overrides}}}"
    if "${" in pattern.replace(named, "").replace(number, "").replace(overrides, ""):
        return [
            _sweep_folder(loader.load_sweep_config(config, list(job)), i)
            for i, job in enumerate(jobs)
        ]
    style, found = config.hydra.job.config.override_dirname, []
    item_sep, kv_sep, excluded = str(style.item_sep), str(style.kv_sep), set(style.exclude_keys)
    for i, job in enumerate(jobs):
        own = [t for t in job if t.lstrip("+~").partition("=")[0].partition("@")[0] not in excluded]
        name = item_sep.join(sorted(own)).replace("=", kv_sep)  # as Hydra's get_overrides_dirname
        folder = pattern.replace(named, folder_name(name)).replace(number, str(i))
        found.append(folder.replace(overrides, name))
    return found


def _sweep_folder(config: DictConfig, number: int) -> str:
    with read_write(config.hydra), open_dict(config.hydra.job):
        config.hydra.job.num = config.hydra.job.id = number
    with current_config(config):
        return str(config.hydra.sweep.subdir)


def remove_callbacks(config: DictConfig, targets: Sequence[str]) -> None:
    """Removes the callbacks of these classes."""
    callbacks = OmegaConf.select(config, "hydra.callbacks") or {}
    for key in [k for k, node in callbacks.items() if node and node.get("_target_") in targets]:
        with read_write(config.hydra), open_dict(config.hydra.callbacks):
            del config.hydra.callbacks[key]
