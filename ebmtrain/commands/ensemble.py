"""`train.ensemble=8`: from one configuration to the runs of its seeds, each in its own folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, open_dict

from ebmtrain import presets
from ebmtrain.commands.outcome import outcome
from ebmtrain.errors import ConfigError

if TYPE_CHECKING:
    from ebmtrain.build import Parts


def configurations(config: DictConfig) -> list[dict[str, Any]]:
    """Itself, or one for each seed of an ensemble, with all that follows from the seed.

    Raises:
        ConfigError: it asks for an ensemble and is not valid.
    """
    whole = presets.plain(config)
    train = whole.get("train")
    if not isinstance(train, dict) or train.get("ensemble") in (None, 1):
        return [whole]

    from ebmtrain.validate import validate

    validate(whole)
    last = whole["seed"] + train["ensemble"] - 1
    if last >= 2**63:
        raise ConfigError(
            f"train.ensemble is {train['ensemble']}, and the last seed would be {last}, beyond 64 "
            "bits: lower seed"
        )
    found = []
    for i in range(train["ensemble"]):
        member = config.copy()
        with open_dict(member):
            member.seed, member.train.ensemble = whole["seed"] + i, None
        found.append(presets.plain(member))
    return found


def built(config: DictConfig) -> list[Parts]:
    """The parts of each of these.

    Raises:
        ConfigError, DataError, UnsafeError: with what to change.
    """
    from ebmtrain.build import build

    members = [build(one) for one in configurations(config)]
    if len(members) > 1 and members[0].job is None:
        raise ConfigError(
            f"train.ensemble is {len(members)}, but model {type(members[0].energy).__name__} has "
            "nothing to train and no seed would change it: train.ensemble=null"
        )
    return members


def folders(path: Path, members: list[Parts]) -> list[Path]:
    """Of the members, named like the jobs of a sweep over their seeds."""
    return [path / f"{i}_seed={parts.seed}" for i, parts in enumerate(members)]


def begin(
    members: list[Parts],
    path: Path,
    choices: dict[str, str],
    *,
    name: str = "",
    quiet: bool = False,
) -> int | None:
    """Runs the ensemble in this folder; returns the signal that has stopped it, if one has.

    Args:
        name: of the job of a sweep that it is.
        quiet: nothing but a line for each member; else the first one's lines too.
    """
    from ebmtrain.display import say
    from ebmtrain.ensemble import begin_all

    began, paths = time.perf_counter(), folders(path, members)

    def ended(number: int, found: dict[str, Any] | Exception) -> None:
        parts = members[number]
        words = f"{name or f'member {number}'}  seed={parts.seed}"
        outcome(words, found, paths[number], parts.config, choices, began)

    stopped = begin_all(members, paths, choices, ended, quiet=quiet)
    if stopped and not quiet:
        say(f'next     for run in {path}/*_seed=*; do ebmtrain resume "$run"; done')
    return stopped
