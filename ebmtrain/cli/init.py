"""`ebmtrain init DIR [GROUP/OPTION ...]`: copies presets, to be edited and used by --config-dir."""

from __future__ import annotations

import shutil
from pathlib import Path

from ebmtrain.config.presets import Presets
from ebmtrain.errors import ConfigError, OutputError, suggestion

USAGE = "ebmtrain init DIR [GROUP/OPTION ...] [--force]"


def main(arguments: list[str]) -> int:
    force = "--force" in arguments
    arguments = [argument for argument in arguments if argument != "--force"]
    if not arguments or any(argument.startswith("-") for argument in arguments):
        raise ConfigError(f"expected a folder; usage: {USAGE}")
    target, wanted = Path(arguments[0]), arguments[1:]
    known = {
        f"{group}/{name}": path
        for group in Presets().groups()
        for name, path in Presets().options(group).items()
    }
    for name in wanted:
        if name not in known:
            raise ConfigError(f"unknown preset {name}{suggestion(name, known)}")
    copies = {target / f"{name}.yaml": known[name] for name in wanted or known}
    there = [copy for copy in copies if copy.exists()]
    if there and not force:
        raise ConfigError(f"{there[0]} exists; --force overwrites it")
    try:
        for copy, original in copies.items():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(original, copy)
    except OSError as error:
        raise OutputError(f"cannot write {error.filename}: {error.strerror}") from error
    print(f"{len(copies)} presets in {target}; edit them, then: ebmtrain --config-dir {target}")
    return 0
