"""A folder of runs -> tables and pictures in that folder."""

from __future__ import annotations

from pathlib import Path

from ebmtrain.errors import ConfigError
from ebmtrain.runs.report.collect import entries_in, printable
from ebmtrain.runs.report.entry import Entry
from ebmtrain.runs.report.figures import PICTURES, pictures
from ebmtrain.runs.report.leaderboard import sections
from ebmtrain.runs.report.tables import as_csv, as_markdown, counted, tables
from ebmtrain.runs.storage.atomic_io import write
from ebmtrain.runs.storage.rundir import relative

_MANY = 40  # rows beyond which a table of all runs is left to the files


def report(folder: Path, sort: str | None = None, *, quiet: bool = False) -> list[Entry]:
    """Prints the leaderboard of all runs beneath `folder` and writes summary.csv, summary.md,
    landscapes.png and curves.png into it; returns the runs.

    Args:
        sort: a metric, ascending; None: KL, else regret, else NLL.
        quiet: nothing is printed.

    Raises:
        ConfigError: there are no runs, or none has that metric.
        OutputError: a file cannot be written.
    """
    entries = entries_in(folder)
    if not entries:
        raise ConfigError(_nothing_in(folder))
    board = sections(entries, sort)
    every = tables(board, entries)
    for table in () if quiet else every:
        if len(table.rows) <= _MANY:
            table.show()
        else:
            print(f"\n{table.title}: {len(table.rows)} rows, in summary.md")
    if not quiet:
        print()
    write(folder / "summary.csv", as_csv(board, entries).encode())
    text = as_markdown(
        f"Report on {printable(folder.resolve().name)}", every, PICTURES, counted(entries)
    )
    write(folder / "summary.md", text.encode())
    for name, picture in pictures(board):
        write(folder / name, picture)
    return entries


def _nothing_in(folder: Path) -> str:
    if (folder / "config.yaml").exists():
        return (
            f"{relative(folder)} is a run, and a report compares the runs beneath a folder: "
            f"give {relative(folder).parent}, say"
        )
    return f"there are no runs beneath {relative(folder)}: give a sweep, or outputs"
