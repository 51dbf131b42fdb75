"""`ebmtrain list [GROUP[/OPTION]]`: the options of each group, with their descriptions and origin;
or the options of one preset, such as method/pcd, or of a section, such as train."""

from __future__ import annotations

from ebmtrain.cli.arguments import parse_overrides
from ebmtrain.config.preset_files import BUILT_IN, describe, header, read_options
from ebmtrain.config.presets import Presets
from ebmtrain.errors import ConfigError, suggestion

USAGE = "ebmtrain list [GROUP | GROUP/OPTION | SECTION] [--config-dir DIR]"


def main(arguments: list[str]) -> int:
    wanted, folder = parse_overrides(arguments)
    available = Presets(user=folder)
    known = available.groups()
    pages = [preset_page(available, name) for name in wanted if name not in known]
    for page in pages:
        print(page)
    for group in (name for name in (wanted or known) if name in known):
        options = available.options(group)
        width = max(map(len, options))
        print(f"{group}=")
        for name, path in options.items():
            origin = "" if path.is_relative_to(BUILT_IN) else f"  ({path})"
            print(f"  {name:{width}}  {describe(path)}{origin}")
    return 0


def preset_page(available: Presets, name: str) -> str:
    """Description and options of a preset, GROUP/OPTION, or of a section of config.yaml.

    Raises:
        ConfigError: there is no such preset, group or section.
    """
    group, _, option = name.partition("/")
    config = available.options("")["config"]
    sections = {o.key.split(".")[0] for o in read_options(config)} - {"hydra", "defaults"}
    if not option and group in sections:
        title, shown = [], [o for o in read_options(config) if o.key.split(".")[0] == group]
    elif option in (options := available.options(group)):
        path = options[option]
        title, shown = [f"{group}={option}", *(f"  {x}" for x in header(path))], read_options(path)
        if group != "experiment":  # whose options are those of several groups
            shown = [o._replace(key=f"{group}.{o.key}") for o in shown]
    elif option and options:
        raise ConfigError(f"unknown option {group}={option}{suggestion(option, options)}")
    else:
        known = [*available.groups(), *sections]
        raise ConfigError(f"unknown group {name}{suggestion(name, known)}")
    shown = [o for o in shown if o.value or o.comment]
    words = [f"{o.key}={o.value}" if o.value else o.key for o in shown]
    width = min(max(map(len, words), default=0), _MAX_WIDTH)
    rows = [f"  {w:{width}}  {o.comment}".rstrip() for w, o in zip(words, shown, strict=True)]
    return "\n".join([*title, *rows])


_MAX_WIDTH = 40
