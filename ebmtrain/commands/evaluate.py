"""`ebmtrain evaluate RUN [evaluation=ais] [evaluation.chains=2000]`: the numbers of a checkpoint,
anew, by the evaluation of the run or another one."""

from __future__ import annotations

from ebmtrain.commands.words import check_options, overridden, run_and_options, warn

USAGE = "ebmtrain evaluate RUN [evaluation=ais] [evaluation.KEY=V] [checkpoint=best] [--trust P]"

# How a model is measured. Anything else, say its base measure or temperature, makes it another one.
CHANGEABLE = ("evaluation.*", "quality.*", "diagnostics.*", "device.*")


def main(words: list[str]) -> int:
    path, options, trust = run_and_options(words, USAGE)
    checkpoint = options.pop("checkpoint", None)
    check_options(options, ("checkpoint", *CHANGEABLE))

    from ebmtrain.drawing import measured, subject
    from ebmtrain.evaluation.subject import apart
    from ebmtrain.loading import load_with
    from ebmtrain.rundir import RunDir

    files = RunDir.open(path)
    run = load_with(files, overridden(files.config(), options), checkpoint, trust, warn)
    model = subject(run.parts, run.standard_energy, run.method_state)
    metrics, warnings = measured(run.parts, model)
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        shown = " ".join(f"{v:.4f}" for v in value) if isinstance(value, list) else f"{value:.6g}"
        print(f"{name:{width}} {shown}")
    for warning in warnings:
        print(f"warning: {warning}")
    numbers, timings = apart(metrics)
    files.write_json(
        "evaluation.json",
        {
            "step": run.step,
            "checkpoint": checkpoint,
            "options": options,
            "metrics": numbers,
            "timings": timings,
            "warnings": warnings,
        },
    )
    print(f"step {run.step}: {path / 'evaluation.json'}")
    return 0
