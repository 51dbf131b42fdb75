"""`ebmtrain report DIR [--sort METRIC] [--open]`: leaderboard and page of a sweep or of a folder of
runs, or the page of one run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ebmtrain.cli.arguments import split_flags
from ebmtrain.errors import ConfigError

if TYPE_CHECKING:
    from ebmtrain.runs.report.entry import Entry

USAGE = "ebmtrain report DIR [--sort METRIC] [--open]"


def main(arguments: list[str]) -> int:
    plain, flags = split_flags([a for a in arguments if a != "--open"], ("--sort",))
    if len(plain) != 1:
        raise ConfigError(f"expected one folder of runs, got {len(plain)}; usage: {USAGE}")
    folder = Path(plain[0])
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a directory; usage: {USAGE}")

    from ebmtrain.runs.report.write import report

    entries = report(folder, flags.get("--sort"))
    page = folder / "report.html"
    if entries[0].path != folder:
        _print_files(folder, entries)
    print(f"page     {page}")
    import webbrowser

    if "--open" in arguments and not webbrowser.open(page.absolute().as_uri()):
        print(f"warning: there is no browser to open it with: open {page} in one")
    return 0


def _print_files(folder: Path, entries: Sequence[Entry]) -> None:
    unfinished = sum(not entry.finished for entry in entries)
    print(f"report   {folder / 'summary.md'}  ({len(entries)} found, {unfinished} not finished)")
    print(f"pictures {folder / 'landscapes.png'}  {folder / 'curves.png'}")
