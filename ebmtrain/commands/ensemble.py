"""`train.ensemble=8` and `train.leave_one_out=true`: from one configuration to the runs of its
seeds, or to one for each class that is left out, each in its own folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, open_dict

from ebmtrain import presets
from ebmtrain.commands.outcome import outcome
from ebmtrain.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ebmtrain.build import Parts


def configurations(config: DictConfig) -> list[dict[str, Any]]:
    """Itself, or one for each member of an ensemble, with all that follows from its seed.

    Raises:
        ConfigError: it asks for an ensemble and is not valid.
        DataError: it asks for classes to be left out and the data have none, or cannot be read.
    """
    whole = presets.plain(config)
    train = whole.get("train")
    if not isinstance(train, dict):
        return [whole]
    if train.get("leave_one_out") not in (None, False):
        return without_each(config, whole)
    if train.get("ensemble") in (None, 1):
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


def without_each(config: DictConfig, whole: dict[str, Any]) -> list[dict[str, Any]]:
    """One configuration for each class of the data, the others as they are."""
    from ebmtrain.making import made
    from ebmtrain.validate import validate

    validate(whole)
    labels = getattr(made(whole, "dataset"), "labels", None)
    if labels is None:
        raise DataError(
            "train.leave_one_out=true leaves out one class after the other, and these data have no "
            "classes: train.leave_one_out=false, or data with labels (dataset=digits)"
        )
    found = []
    for i in range(len(labels.names)):
        member = config.copy()
        with open_dict(member):
            member.dataset.without, member.train.leave_one_out = i, False
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
        whole = config.train
        word = "leave_one_out" if whole.get("leave_one_out") else "ensemble"
        raise ConfigError(
            f"train.{word} is {whole[word]}, but model {type(members[0].energy).__name__} has "
            "nothing to train and would be the same in all runs: train.ensemble=null "
            "train.leave_one_out=false"
        )
    return members


def words(members: list[Parts]) -> list[str]:
    """What each member is, and the others are not: its seed, or the class that it has not seen."""
    if len({parts.seed for parts in members}) == len(members):
        return [f"seed={parts.seed}" for parts in members]
    return [f"without={parts.config['dataset']['without']}" for parts in members]


def folders(path: Path, members: list[Parts]) -> list[Path]:
    """Of the members, named like the jobs of a sweep."""
    return [path / f"{i}_{word}" for i, word in enumerate(words(members))]


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
    from ebmtrain.report.classes import summed_up

    began, paths, each = time.perf_counter(), folders(path, members), words(members)
    results: dict[int, dict[str, Any]] = {}

    def ended(number: int, found: dict[str, Any] | Exception) -> None:
        told = f"{name or f'member {number}'}  {each[number]}"
        config = members[number].config
        results[number] = outcome(told, found, paths[number], config, choices, began)

    stopped = begin_all(members, paths, choices, ended, quiet=quiet)
    if stopped and not quiet:
        say(f'next     for run in {path}/*_*=*; do ebmtrain resume "$run"; done')
    if each[0].startswith("without="):
        summed_up(path, [results[i] for i in sorted(results)], time.perf_counter() - began)
    return stopped
