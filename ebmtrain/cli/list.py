"""`ebmtrain list [GROUP]`: the options of each group, with their descriptions and origin."""

from __future__ import annotations

from ebmtrain.cli.arguments import parse_overrides
from ebmtrain.config.presets import BUILT_IN, Presets, describe
from ebmtrain.errors import ConfigError, suggestion


def main(arguments: list[str]) -> int:
    wanted, folder = parse_overrides(arguments)
    available = Presets(user=folder)
    known = available.groups()
    for group in wanted:
        if group not in known:
            raise ConfigError(f"unknown group {group}{suggestion(group, known)}")
    for group in wanted or known:
        options = available.options(group)
        width = max(map(len, options))
        print(f"{group}=")
        for name, path in options.items():
            origin = "" if path.is_relative_to(BUILT_IN) else f"  ({path})"
            print(f"  {name:{width}}  {describe(path)}{origin}")
    return 0
