"""How a configuration is divided into shards: `train.shards`."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar, get_args

from ebmtrain.config.annotations import type_hints
from ebmtrain.errors import ConfigError
from ebmtrain.runtime.processes import process_count
from ebmtrain.types import OF_ALL_SHARDS

_Part = TypeVar("_Part")


def with_shards(config: dict[str, Any], *, resumed: bool) -> dict[str, Any]:
    """The configuration with the number of processes where `train.shards` is null, if there are
    several.

    Args:
        resumed: of a run directory, where null means 1.
    """
    train = config["train"]
    if process_count() == 1 or train.get("shards") is not None:
        return config
    return {**config, "train": {**train, "shards": 1 if resumed else process_count()}}


def check_shards(config: dict[str, Any], batch_size: int) -> int:
    """The number of shards.

    Args:
        batch_size: points of an update.

    Raises:
        ConfigError: the processes cannot share the shards, or these the batch; or the update is to
            be compiled.
    """
    shards, processes = config["train"].get("shards") or 1, process_count()
    if shards % processes:
        raise ConfigError(
            f"train.shards={shards} is not a multiple of {processes}, the number of processes: "
            f"train.shards={-(-shards // processes) * processes} in a new run, or a number of "
            "processes that divides it"
        )
    if batch_size % shards:
        raise ConfigError(
            f"a batch of {batch_size} points is not divisible by train.shards={shards}: "
            f"train.batch_size={max(1, batch_size // shards) * shards}"
        )
    if shards > 1 and config["device"].get("compile") in (True, "cuda_graph"):
        raise ConfigError(
            f"an update of several shards (train.shards={shards}) is not compiled: "
            "device.compile=false"
        )
    return shards


def divide(part: _Part, shards: int, path: str = "method") -> _Part:
    """A method, or a sampler in it, with the chains of one shard: `types.ChainCount`.

    Args:
        path: of the part, for messages.

    Raises:
        ConfigError: its chains are not divisible.
    """
    if shards == 1 or not dataclasses.is_dataclass(part) or isinstance(part, type):
        return part
    changed: dict[str, Any] = {}
    hints = type_hints(type(part))
    for field in dataclasses.fields(part):
        value, name = getattr(part, field.name), f"{path}.{field.name}"
        if field.name == "sampler":
            changed["sampler"] = divide(value, shards, name.removeprefix("method."))
        elif OF_ALL_SHARDS in get_args(hints.get(field.name)):
            if value % shards:
                raise ConfigError(
                    f"{name}={value} is not divisible by train.shards={shards}: "
                    f"{name}={-(-value // shards) * shards}"
                )
            changed[field.name] = value // shards
    return dataclasses.replace(part, **changed)
