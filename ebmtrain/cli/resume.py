"""`ebmtrain resume RUN [key=value ...]`: continues in the same directory from the exact state.
`ebmtrain resume SWEEP [failed=again]`: runs the jobs of a sweep that are not complete. Several such
processes may share the work."""

from __future__ import annotations

from ebmtrain.cli.arguments import apply_options, parse_run_and_options
from ebmtrain.errors import ConfigError
from ebmtrain.runs.report.discovery import find_runs
from ebmtrain.runs.storage.manifest import is_sweep

USAGE = "ebmtrain resume RUN|SWEEP [train.steps=N ...] [failed=again] [--trust PACKAGE]"


def main(arguments: list[str]) -> int:
    path, options, trust = parse_run_and_options(arguments, USAGE)

    if is_sweep(path):
        from ebmtrain.cli import sweep_worker

        return sweep_worker.main(path, options, trust)

    if not (path / "config.yaml").exists() and (runs := find_runs(path)):
        raise ConfigError(f"{path} has no sweep.json: resume its runs, ebmtrain resume {runs[0]}")

    from ebmtrain.runs.launch import resume
    from ebmtrain.runs.storage.rundir import RunDir

    if options.get("train.steps") is not None:
        options.setdefault("train.epochs", None)  # epochs take precedence over steps
    config = apply_options(RunDir.open(path).config(), options) if options else None
    signal = resume(path, config, trust)["signal"]
    return 128 + signal if signal else 0
