"""One job: the function that Hydra's launchers start, in this process or in another."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ebmtrain.config import presets
from ebmtrain.config.ensemble import build_members
from ebmtrain.runtime.signals import TerminationSignal

if TYPE_CHECKING:
    from ebmtrain.config.experiment import Experiment


def run_job(
    config: DictConfig,
    *,
    command: Sequence[str] | None = None,
    import_path: Sequence[str] = (),
    members: list[Experiment] | None = None,
) -> float | None:
    """Validates, builds and runs what a composed configuration describes.

    Args:
        config: with Hydra's section `hydra`, whose `runtime.output_dir` is the directory; or
            without it while Hydra runs the job and offers that section as `HydraConfig`.
        command: what the user typed, for run.json; None: the arguments of this process.
        import_path: folders with the user's own parts.
        members: the experiments of this configuration, where they have been built already.

    Returns:
        The least value of `checkpoint.best`, or of its fallback nll; the mean over an ensemble;
        None where nothing was measured, and for a job of a sweep that failed.

    Raises:
        TerminationSignal: a signal ended the job, after its state was saved.
        Exception: of a single run. A job of a sweep writes it into its result.json, and the next
            job starts.
    """
    from ebmtrain.runs.ensemble import run_ensemble
    from ebmtrain.runs.launch import run_experiment
    from ebmtrain.runs.outcome import report_outcome

    settings = config.hydra if "hydra" in config else HydraConfig.get()
    choices = presets.group_choices(settings.runtime.choices)
    path, began = Path(settings.runtime.output_dir), time.perf_counter()
    in_sweep = settings.mode == RunMode.MULTIRUN
    name = f"job {settings.job.num}  {' '.join(settings.overrides.task)}" if in_sweep else ""
    presets.extend_import_path(*import_path)

    def begin_one(experiment: Experiment) -> dict[str, Any]:
        return run_experiment(experiment, path, choices, quiet=in_sweep, command=command)

    if not in_sweep:
        members = members or build_members(config)
        if len(members) == 1:
            return _objective([begin_one(members[0])])
    try:
        members = members or build_members(config)
    except Exception as error:  # of any kind: the other jobs go on
        report_outcome(name, error, path, presets.to_plain(config), choices, began, command)
        return None
    if len(members) > 1:
        results = run_ensemble(members, path, choices, quiet=in_sweep, name=name, command=command)
        return _objective(results)
    try:
        result: dict[str, Any] | Exception = begin_one(members[0])
    except Exception as error:  # likewise
        result = error
    return _objective(
        [report_outcome(name, result, path, members[0].config, choices, began, command)]
    )


def _objective(results: list[dict[str, Any]]) -> float | None:
    """The mean of the best values.

    Raises:
        TerminationSignal: a signal stopped one of the runs.
    """
    for result in results:
        if result["signal"]:
            raise TerminationSignal(result["signal"])
    values = [result["best"]["value"] for result in results if result["best"]]
    return statistics.fmean(values) if values else None
