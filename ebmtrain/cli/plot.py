"""`ebmtrain plot RUN`: draws the figures of a run again, of its newest checkpoint or another."""

from __future__ import annotations

from ebmtrain.cli.arguments import check_options, parse_run_and_options, warn
from ebmtrain.cli.run_files import open_with_options
from ebmtrain.runs.evaluate import evaluation_input
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.summary import figure_title, run_title
from ebmtrain.runs.trained_run import final_samples

USAGE = (
    "ebmtrain plot RUN [plots.format=pdf] [plots.dpi=300] [checkpoint=best] "
    "[dataset.path=MOVED] [device.accelerator=cpu] [--trust PACKAGE]"
)


def main(arguments: list[str]) -> int:
    path, options, trust = parse_run_and_options(arguments, USAGE)
    checkpoint = options.pop("checkpoint", None)
    check_options(options, ("checkpoint", "plots.*", "device.*", "dataset.path"))
    run = open_with_options(path, options, checkpoint, trust)
    rows = reversed(run.directory.rows())
    metrics = next((row for row in rows if row.get("step") == run.step), {})
    name = run_title(run.experiment, run.directory.group_choices())
    title = figure_title(name, run.step, metrics)
    is_last = checkpoint is None or run.step == run.result.get("step")
    state = "final" if is_last else f"step_{run.step:08d}"
    model = evaluation_input(run.experiment, run.standard_energy, run.method_state)
    figures = RunFigures(run.experiment, run.directory, warn=warn)
    for notice in figures.draw_all(model, final_samples(run), title, state):
        print(notice)
    print(f"pictures: {path / 'plots'}")
    return 1 if figures.failures else 0
