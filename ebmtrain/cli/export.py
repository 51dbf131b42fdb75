"""`ebmtrain export RUN|SWEEP tracker=tensorboard`: writes the metrics and figures of runs for an
experiment tracker, as `tracker=tensorboard` does during training."""

from __future__ import annotations

from ebmtrain.cli.arguments import check_options, parse_run_and_options
from ebmtrain.errors import ConfigError
from ebmtrain.runs.report.discovery import find_runs

USAGE = "ebmtrain export RUN|SWEEP tracker=tensorboard"


def main(arguments: list[str]) -> int:
    path, options, _ = parse_run_and_options(arguments, USAGE)
    check_options(options, ("tracker",))
    runs = [path] if (path / "config.yaml").exists() else find_runs(path)
    if not runs:
        raise ConfigError(f"there are no runs below {path}; usage: {USAGE}")
    if not isinstance(name := options.get("tracker"), str):
        raise ConfigError(f"no tracker is given: tracker=tensorboard; usage: {USAGE}")

    from ebmtrain.runs.loggers.trackers import tracker_named
    from ebmtrain.runs.storage.atomic_io import lock_directory
    from ebmtrain.runs.storage.rundir import RunDir

    for place in runs:
        run = RunDir.open(place)
        tracker = tracker_named(name, run)
        with lock_directory(place, run.identity):
            tracker.replay()
            tracker.close()
        print(f"{name}  {place / name}")
    return 0
