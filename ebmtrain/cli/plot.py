"""`ebmtrain plot RUN`: draws the pictures of a run again, from its newest checkpoint or another."""

from __future__ import annotations

import torch
from torch import Tensor

from ebmtrain.cli.arguments import apply_options, check_options, parse_run_and_options, warn
from ebmtrain.datasets.io.read_numpy import read_npz
from ebmtrain.errors import DataError
from ebmtrain.masks import finite_mask
from ebmtrain.runs.evaluate import evaluation_input
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.loading import open_run
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.runs.summary import figure_title, run_title
from ebmtrain.runs.trained_run import Run

USAGE = "ebmtrain plot RUN [checkpoint=best] [device.accelerator=cpu] [--trust PACKAGE]"


def main(arguments: list[str]) -> int:
    path, options, trust = parse_run_and_options(arguments, USAGE)
    checkpoint = options.pop("checkpoint", None)
    check_options(options, ("checkpoint", "device.*"))
    files = RunDir.open(path)
    run = open_run(
        files, apply_options(files.config(), options), checkpoint, trust, warn, set_up_process=True
    )
    row = next((row for row in reversed(files.rows()) if row.get("step") == run.step), {})
    title = run_title(run.experiment, files.group_choices())
    last = checkpoint is None or run.step == run.result.get("step")
    name = "final" if last else f"step_{run.step:08d}"
    model = evaluation_input(run.experiment, run.standard_energy, run.method_state)
    for notice in RunFigures(run.experiment, files).draw_all(
        model, final_points(run), figure_title(title, run.step, row), name
    ):
        print(notice)
    print(f"pictures: {path / 'plots'}")
    return 0


def final_points(run: Run) -> Tensor:
    """Those of samples/final.npz where they are of this state, else new ones; standardized.

    Raises:
        DataError: they are not what a run writes there.
    """
    units, file = run.experiment.standardization, run.path / "samples/final.npz"
    finished = run.result.get("status") == "finished" and run.result.get("step") == run.step
    if finished and file.is_file():
        x = torch.from_numpy(read_npz(file, "x"))
        fine = finite_mask(x).all() if run.experiment.data_spec.ragged else x.isfinite().all()
        if x.shape[1:] != units.shift.shape or not len(x) or not fine:
            raise DataError(f"{file} does not hold points of this model: remove it")
        return units.to_standard(x)
    return units.to_standard(run.sample(run.experiment.samples.count))
