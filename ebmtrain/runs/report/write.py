"""Writes the report of a folder of runs into that folder."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from ebmtrain.errors import ConfigError, EbmtrainError, counted
from ebmtrain.runs.report.collect import printable, read_entries
from ebmtrain.runs.report.entry import Entry
from ebmtrain.runs.report.figures import FIGURE_FILES, figures
from ebmtrain.runs.report.leaderboard import sections
from ebmtrain.runs.report.page import PAGE, page
from ebmtrain.runs.report.tables import status_counts, tables, to_csv, to_markdown
from ebmtrain.runs.storage.atomic_io import write_file
from ebmtrain.runs.storage.rundir import RunDir, relative_to_cwd

_PAUSE_S = 2.0  # per run, of which reading and drawing takes less than 0.1 s
_MAX_PRINTED_ROWS = 40  # longer tables are only written to the files


def report(folder: Path, sort: str | None = None, *, quiet: bool = False) -> list[Entry]:
    """Prints the leaderboard of all runs below `folder` and writes summary.csv, summary.md,
    landscapes.png, curves.png and report.html into it; returns the runs. If `folder` is a run
    itself, it writes report.html only.

    Args:
        sort: a metric, ascending; None: KL, else regret, else NLL.
        quiet: nothing is printed.

    Raises:
        ConfigError: there are no runs, or none has that metric.
        OutputError: a file cannot be written.
    """
    entries, shown = read_entries(folder), relative_to_cwd(folder)
    if not entries:
        raise ConfigError(f"there are no runs below {shown}: give a sweep, or outputs")
    board = sections(entries, sort)
    write_file(folder, PAGE, page(folder, board, entries))
    if entries[0].path == folder:
        return entries
    every = tables(board, entries)
    write_file(folder, "summary.csv", to_csv(board, entries).encode())
    text = to_markdown(
        f"Report on {printable(folder.resolve().name)}", every, FIGURE_FILES, status_counts(entries)
    )
    write_file(folder, "summary.md", text.encode())
    for name, picture in figures(board, _warn_of_picture):
        write_file(folder, name, picture)
    # Last: whoever reads a pipe may close it.
    for table in () if quiet else every:
        if len(table.rows) <= _MAX_PRINTED_ROWS:
            table.show()
        else:
            print(f"\n{table.title}: {counted(len(table.rows), 'row')}, in summary.md")
    if not quiet:
        print()
    return entries


def write_run_page(run: RunDir) -> None:
    """Writes report.html of one run into its directory. Raises OutputError if it cannot."""
    entries = read_entries(run.path)
    run.write_bytes(PAGE, page(run.path, sections(entries), entries))


def refresh_page(folder: Path) -> None:
    """Rebuilds report.html of a sweep in progress, unless it is so recent that the rebuilding would
    take more than some percent of the time. The end of the sweep reports what goes wrong here."""
    with suppress(EbmtrainError, OSError):
        file = folder / PAGE
        pause = _PAUSE_S * len(list(folder.iterdir()))
        if not file.exists() or time.time() - file.stat().st_mtime > pause:
            entries = read_entries(folder)
            write_file(folder, PAGE, page(folder, sections(entries), entries))


def _warn_of_picture(name: str, why: str) -> None:
    print(f"warning: {name} could not be drawn: {why}")
