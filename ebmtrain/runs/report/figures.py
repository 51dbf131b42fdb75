"""Selects the figures of a report and their runs; `plots` draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ebmtrain.evaluation.headlines import HEADLINES
from ebmtrain.plots.attempt import attempt
from ebmtrain.runs.report.entry import EVALUATIONS, SECONDS, Entry
from ebmtrain.runs.report.leaderboard import COSTS, Group, Section, curve_points

FIGURE_FILES = ("landscapes.png", "curves.png")
_MAX_TILES = 48  # pictures on the sheet
_MAX_PANELS = 6  # data sets with curves
TILE_FILES = ("landscape_final.png", "samples_final.png")  # the latter where data are not 2-D
_LABELS = {"kl": "KL(data || model) in nats", "regret": "regret in nats", "nll": "NLL in nats"}


def figures(
    board: Sequence[Section], on_failure: Callable[[str, str], None]
) -> Iterator[tuple[str, bytes]]:
    """File name and PNG of each figure; `on_failure` gets the name and the reason of one that
    cannot be drawn."""
    for name, draw in zip(FIGURE_FILES, (_landscapes, _curves), strict=True):
        with attempt(name, on_failure):
            yield name, draw(board)


def _landscapes(board: Sequence[Section]) -> bytes:
    """The final landscape of each run by rank; of more than _MAX_TILES runs, one per group."""
    from ebmtrain.plots.contact_sheet import Tile, contact_sheet

    shown = [(s, g, run) for s in board for g in s.groups for run in g.finished]
    n_runs, per_group = len(shown), len(shown) > _MAX_TILES
    if per_group:
        shown = [(s, g, middle_run(g, s.sort)) for s in board for g in s.groups if g.finished]
    tiles = []
    for section, group, run in shown:
        files = (run.path / "plots" / name for name in TILE_FILES)
        picture = next((file for file in files if file.is_file()), None)
        value = run.numbers.get(section.sort)
        score = f"{section.sort} {value:.4g}" if value is not None else ""
        n = len(group.finished)
        which = f"median of {n}" if per_group and n > 1 else f"seed {run.seed}"
        dataset = section.dataset if len(board) > 1 else ""
        head = "  ".join(filter(None, [f"#{group.rank}", score, which, dataset]))
        if picture is not None:
            tiles.append(Tile(picture, head, group.label))
    left = n_runs - min(len(tiles), _MAX_TILES)
    footer = f"{left} of {n_runs} finished runs are not shown" if left else ""
    return contact_sheet(tiles[:_MAX_TILES], footer)


def middle_run(group: Group, metric: str) -> Entry:
    """The median run of a group by this metric."""
    runs = [run for run in group.finished if metric in run.numbers] or group.finished
    ordered = sorted(runs, key=lambda run: run.numbers.get(metric, 0.0))
    return ordered[(len(ordered) - 1) // 2]


def _curves(board: Sequence[Section]) -> bytes:
    """The metric that ranks each data set against energy evaluations and seconds; if no evaluation
    during training has it, the first of KL, regret and NLL."""
    from ebmtrain.plots.comparison import DatasetCurves, comparison
    from ebmtrain.plots.encode import encode_png

    found = []
    for section in board:
        curves = {name for run in section.finished for row in run.curve for name in row} - {*COSTS}
        metric = next((name for name in (section.sort, *HEADLINES) if name in curves), None)
        if metric is None:
            continue
        panels = {
            words: {f"{g.rank}  {g.label}": lines for g in section.groups
                    if (lines := [p for r in g.finished if (p := curve_points(r, x, metric))])}
            for words, x in (("energy evaluations", EVALUATIONS), ("seconds of training", SECONDS))
        }  # fmt: skip
        log = metric in ("kl", "regret")
        found.append(DatasetCurves(section.dataset, _LABELS.get(metric, metric), panels, log))
    left = len(found) - _MAX_PANELS
    return encode_png(comparison(found[:_MAX_PANELS], f"{left} more data sets" if left > 0 else ""))
