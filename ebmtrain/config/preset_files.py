"""Finds and reads the YAML presets as files. Imports no Hydra, which takes longer than a completion
may."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_PACKAGE = Path(__file__).resolve().parents[1]
# A wheel has the presets inside the package, a checkout has them next to it.
BUILT_IN = next(p / "configs" for p in (_PACKAGE, _PACKAGE.parent) if (p / "configs").is_dir())


def groups(folders: Sequence[Path]) -> list[str]:
    """Names of the config groups in these folders."""
    found = {p.parent.relative_to(f).as_posix() for f in folders for p in yaml_files(f)}
    hidden = (".", "recommended")  # files that presets include, which are no options of their own
    return sorted(g for g in found if g not in hidden and not g.startswith("hydra"))


def options(folders: Sequence[Path], group: str) -> dict[str, Path]:
    """Name and file of each option of a group; those of a later folder hide those of an earlier."""
    found = {p.stem: p for folder in folders for p in (folder / group).glob("*.yaml")}
    return dict(sorted(found.items()))


_CHOICE = re.compile(r"  - (?:override )?/?(\w+): *(\w+)", re.ASCII)


def read_choices(path: Path) -> dict[str, str]:
    """The option of each group in the list `defaults` of config.yaml or of an experiment."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {m[1]: m[2] for line in lines if (m := _CHOICE.fullmatch(line))}


def header(path: Path) -> list[str]:
    """The comments at the start of a preset: its description, a command, and more."""
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):  # which Hydra requires on the first line
            found.append(line.removeprefix("#").removeprefix(" "))
    return found


def describe(path: Path) -> str:
    """The first comment of a preset, its description."""
    return next(iter(header(path)), "").strip()


class PresetOption(NamedTuple):
    """An option of a preset, as its file writes it."""

    key: str
    """Dotted, within the file."""
    value: str
    """Empty if options follow that are nested in it."""
    comment: str


_LINE = re.compile(r"( *)([\w/]+): *((?:[^#\s]|\s+(?=[^#\s])|(?<!\s)#)*) *(?:# *(.*))?")


def read_options(path: Path) -> list[PresetOption]:
    """The options of a preset with their comments, in order. Lists of several lines, such as
    `defaults`, are left out, and so is the class of the preset itself."""
    found: list[PresetOption] = []
    parents: list[tuple[int, str]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if found and re.fullmatch(r" +#.*", line):  # a comment of several lines
            more = line.lstrip(" #")
            found[-1] = found[-1]._replace(comment=f"{found[-1].comment}; {more}".lstrip("; "))
        if not (match := _LINE.fullmatch(line)):
            continue
        indent, key, value, comment = len(match[1]), match[2], match[3], match[4] or ""
        parents = [*(p for p in parents if p[0] < indent), (indent, key)]
        dotted = ".".join(name for _, name in parents)
        if dotted not in ("_target_", "defaults"):
            found.append(PresetOption(dotted, value, comment))
    return found


def yaml_files(folder: Path) -> Iterator[Path]:
    # Not recursive: a user's folder may hold many other files.
    for pattern in ("*.yaml", "*/*.yaml", "*/*/*.yaml"):
        yield from (p for p in folder.glob(pattern) if os.access(p, os.R_OK))
