"""`ebmtrain evaluate RUN [evaluation=ais] [evaluation.chains=2000]`: computes the metrics of a
checkpoint again, by the evaluation of the run or another; with ood=FILE also the AUROC of energies
between held-out points and the points of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebmtrain.cli.arguments import check_options, parse_run_and_options, warn
from ebmtrain.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from ebmtrain.runs.trained_run import Run


USAGE = (
    "ebmtrain evaluate RUN [evaluation=ais] [evaluation.KEY=V] [ood=FILE] [checkpoint=best] "
    "[dataset.path=MOVED] [--trust P]"
)
# Sections that do not change the model.
_OPTIONS = ("evaluation.*", "quality.*", "diagnostics.*", "device.*", "dataset.path")


def main(arguments: list[str]) -> int:
    path, options, trust = parse_run_and_options(arguments, USAGE)
    checkpoint, ood = options.pop("checkpoint", None), options.pop("ood", None)
    check_options(options, ("checkpoint", "ood", *_OPTIONS))

    from ebmtrain.cli.run_files import open_with_options
    from ebmtrain.evaluation.protocol import split_timings
    from ebmtrain.runs.evaluate import evaluation_input, run_evaluations

    run = open_with_options(path, options, checkpoint, trust)
    others = None if ood is None else _read_ood_points(run, str(ood))
    model = evaluation_input(run.experiment, run.standard_energy, run.method_state)
    metrics, warnings = run_evaluations(run.experiment, model)
    if others is not None:
        metrics = {**metrics, **_ood_auroc(run, others)}
    numbers, timings = split_timings(metrics)
    content = {
        "step": run.step,
        "checkpoint": checkpoint,
        "options": options if ood is None else {**options, "ood": str(ood)},
        "metrics": numbers,
        "timings": timings,
        "warnings": warnings,
    }
    run.directory.write_json("evaluation.json", content)
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        shown = " ".join(f"{v:.4f}" for v in value) if isinstance(value, list) else f"{value:.6g}"
        print(f"{name:{width}} {shown}")
    for warning in warnings:
        print(f"warning: {warning}")
    print(f"step {run.step}: {path / 'evaluation.json'}")
    return 0


def _read_ood_points(run: Run, path: str) -> Tensor:
    """Points that are not of the data, (n, *event)."""
    if run.experiment.data is None:
        raise ConfigError("ood needs data to compare with, and an analytic landscape has none")
    return run.read(path)


def _ood_auroc(run: Run, others: Tensor) -> dict[str, float]:
    """AUROC of the energy between held-out points and others; draws plots/ood.png."""
    from ebmtrain.evaluation.estimators.auroc import auroc
    from ebmtrain.evaluation.estimators.threshold import false_positive_rate
    from ebmtrain.runs.figures import RunFigures
    from ebmtrain.runs.trained_run import final_samples
    from ebmtrain.score import energies

    dataset, units = run.experiment.dataset, run.experiment.standardization
    assert dataset is not None
    groups = {
        "held-out data": dataset.holdout,
        "model samples": units.to_data(final_samples(run)),
        "out of distribution": others,
    }
    found = {name: energies(run.energy, x) / run.temperature for name, x in groups.items()}
    value, error = auroc(found["held-out data"], found["out of distribution"])
    title = f"step {run.step}  AUROC {value:.4f}"
    RunFigures(run.experiment, run.directory, warn=warn).draw_energies("ood", found, title)
    fpr95 = false_positive_rate(found["held-out data"], found["out of distribution"])
    return {"ood_auroc": value, "ood_auroc_se": error, "ood_fpr95": fpr95}
