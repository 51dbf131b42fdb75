"""`ebmtrain resume RUN [key=value ...]`: continues in the same directory from the exact state."""

from __future__ import annotations

from ebmtrain.cli.arguments import apply_options, parse_run_and_options

USAGE = "ebmtrain resume RUN [train.steps=N ...] [--trust PACKAGE]"


def main(arguments: list[str]) -> int:
    path, options, trust = parse_run_and_options(arguments, USAGE)

    from ebmtrain.runs.launch import resume
    from ebmtrain.runs.storage.rundir import RunDir

    if options.get("train.steps") is not None:
        options.setdefault("train.epochs", None)  # epochs take precedence over steps
    config = apply_options(RunDir.open(path).config(), options) if options else None
    signal = resume(path, config, trust)["signal"]
    return 128 + signal if signal else 0
