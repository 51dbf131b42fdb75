"""`ebmtrain init DIR [GROUP[/OPTION] ...]`: copies presets, to be edited and used by
--config-dir."""

from __future__ import annotations

from pathlib import Path

from ebmtrain.config.presets import Presets
from ebmtrain.errors import ConfigError, counted, suggestion
from ebmtrain.runs.storage.atomic_io import write_file

USAGE = "ebmtrain init DIR [GROUP | GROUP/OPTION ...] [--force]"


def main(arguments: list[str]) -> int:
    force = "--force" in arguments
    arguments = [argument for argument in arguments if argument != "--force"]
    if not arguments or any(argument.startswith("-") for argument in arguments):
        raise ConfigError(f"expected a folder; usage: {USAGE}")
    target, wanted, presets = Path(arguments[0]), arguments[1:], Presets()
    known = {
        f"{group}/{k}": v for group in presets.groups() for k, v in presets.options(group).items()
    }
    whole = {name: [k for k in known if k.startswith(f"{name}/")] for name in presets.groups()}
    for name in wanted:
        if name not in known and name not in whole:
            near = suggestion(name, known if "/" in name else whole)
            raise ConfigError(f"unknown preset {name}{near}")
    wanted = [preset for name in wanted for preset in whole.get(name, [name])]
    originals = {f"{name}.yaml": known[name] for name in wanted or known}
    existing = [target / name for name in originals if (target / name).exists()]
    if existing and not force:
        raise ConfigError(f"{existing[0]} exists; --force overwrites it")
    for name, original in originals.items():
        write_file(target, name, original.read_bytes())
    count = counted(len(originals), "preset")
    print(f"{count} in {target}; edit, then: ebmtrain --config-dir {target}")
    return 0
