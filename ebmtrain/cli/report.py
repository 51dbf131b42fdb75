"""`ebmtrain report DIR [--sort METRIC]`: a leaderboard of a sweep or of a folder of runs."""

from __future__ import annotations

from pathlib import Path

from ebmtrain.cli.arguments import split_flags
from ebmtrain.errors import ConfigError

USAGE = "ebmtrain report DIR [--sort METRIC]"


def main(arguments: list[str]) -> int:
    plain, flags = split_flags(arguments, ("--sort",))
    if len(plain) != 1:
        raise ConfigError(f"expected one folder of runs, got {len(plain)}; usage: {USAGE}")
    folder = Path(plain[0])
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a directory; usage: {USAGE}")

    from ebmtrain.runs.report.write import report

    entries = report(folder, flags.get("--sort"))
    unfinished = sum(not entry.finished for entry in entries)
    print(f"report   {folder / 'summary.md'}  ({len(entries)} found, {unfinished} not finished)")
    print(f"pictures {folder / 'landscapes.png'}  {folder / 'curves.png'}")
    return 0
