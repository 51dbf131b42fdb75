"""Where the YAML presets are, and how they become one configuration. Imports no torch."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal

from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from ebmtrain.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]
# In a wheel the presets lie inside the package, in a checkout next to it.
BUILT_IN = next(p / "configs" for p in (_PACKAGE, _PACKAGE.parent) if (p / "configs").is_dir())
_first: list[Path] = []  # folders searched before all others


class PresetsOfTheUser(SearchPathPlugin):
    """Puts the user's folder first. Hydra's own --config-dir puts it last, so that a preset with
    the name of a built-in one would be silently ignored."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in _first:
            search_path.prepend(provider="user", path=f"file://{folder}")


@cache
def _stamp() -> str:
    """<date>-<time>-<4 hex>, the same for a whole command, all jobs of a sweep included. Two runs
    that start in the same second differ in the last part."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _folder_name(text: str) -> str:
    """One name for one folder: a path among the words of a job must not nest its directory, and
    file systems end names at 255 bytes (the job's number tells long ones apart)."""
    return re.sub(r"[/\\\s]", "_", text).encode()[:150].decode(errors="ignore")


_Kind = Literal["run", "landscape", "ensemble"]
_kind: _Kind = "run"  # of what is about to begin


def _place(dataset: str, method: str, model: str) -> str:
    """The folders of a run beneath outputs/. A landscape has no data, and no method taught it; an
    ensemble is many runs, like a sweep."""
    places = {"landscape": f"landscapes/{model}", "ensemble": "sweeps"}
    return places.get(_kind, f"{dataset}/{method}_{model}")


def _tail(seed: int, dataset: str) -> str:
    """What stands behind the stamp."""
    return dataset if _kind == "ensemble" else f"s{seed}"


def place_as(kind: _Kind) -> None:
    """Known only when the model was built, which is before Hydra asks for the folder."""
    global _kind
    _kind = kind


def check_targets(config: DictConfig) -> None:
    """Names the preset that says of no class, which the validator cannot: it sees no files.

    Raises:
        ConfigError: there is one.
    """
    for group, option in config.hydra.runtime.choices.items():
        path = options(str(group)).get(str(option))
        node = config.get(str(group))
        if path is None or group not in ("model", "sampler", "method", "dataset"):
            continue
        if not OmegaConf.is_dict(node) or "_target_" not in node:
            raise ConfigError(f"{path} names no class: give it a line _target_: package.Class")


def prepare(user_folder: Path | None) -> None:
    """Registers the resolvers of our presets and the user's folder. May be called again."""
    _stamp.cache_clear()
    OmegaConf.register_new_resolver("stamp", _stamp, replace=True)
    OmegaConf.register_new_resolver("place", _place, replace=True)
    OmegaConf.register_new_resolver("tail", _tail, replace=True)
    place_as("run")
    OmegaConf.register_new_resolver("folder_name", _folder_name, replace=True)
    _first[:] = [user_folder] if user_folder else []
    Plugins.instance().register(PresetsOfTheUser)
    # The parts that a user's preset names lie beside it or in the working directory. Last, so
    # that no file there can stand in for an installed module.
    for folder in (user_folder, Path.cwd()):
        if folder and str(folder) not in sys.path:
            sys.path.append(str(folder))


def compose_config(overrides: list[str], *, hydra: bool = False) -> DictConfig:
    """The configuration that these command-line words make."""
    if GlobalHydra.instance().is_initialized():
        return compose("config", overrides, return_hydra_config=hydra)
    with initialize_config_dir(str(BUILT_IN), version_base="1.3"):
        return compose("config", overrides, return_hydra_config=hydra)


def to_plain(config: DictConfig) -> dict[str, Any]:
    """Resolved, as plain Python values, without Hydra's own section."""
    ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    content = OmegaConf.to_container(ours, resolve=True, throw_on_missing=False)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def group_choices(choices: Mapping[Any, Any]) -> dict[str, str]:
    """The option of each group of ours, from Hydra's `runtime.choices`, which has its own too."""
    return {str(k): str(v) for k, v in choices.items() if "/" not in str(k)}


def freeze(target: Path) -> Path:
    """Copies the presets, ours and the user's, and composes from the copies from now on, so that
    an edit during a sweep changes no later job. Returns where ours are."""
    ours = target / "built_in"
    shutil.copytree(BUILT_IN, ours)
    for i, folder in enumerate(_first):
        copies = target / "user"
        copies.mkdir()
        for path in _yaml_files(folder):
            copy = copies / path.relative_to(folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        _first[i] = copies
    return ours


def groups() -> list[str]:
    """Names of the config groups, the user's included."""
    folders = [BUILT_IN, *_first]
    found = {p.parent.relative_to(f).as_posix() for f in folders for p in _yaml_files(f)}
    return sorted(g for g in found if g != "." and not g.startswith("hydra"))


def options(group: str) -> dict[str, Path]:
    """Name and file of each option of a group; a user's one hides a built-in one."""
    found: dict[str, Path] = {}
    for folder in [BUILT_IN, *_first]:
        for path in sorted((folder / group).glob("*.yaml")):
            found[path.stem] = path
    return dict(sorted(found.items()))


def describe(path: Path) -> str:
    """The preset's first comment, which says what it is."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):  # Hydra wants that one first
            return line.lstrip("# ").strip()
    return ""


def undecodable_files() -> list[Path]:
    """Presets that are no text."""
    found = []
    for path in (path for folder in [*_first, BUILT_IN] for path in _yaml_files(folder)):
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            found.append(path)
    return found


def _yaml_files(folder: Path) -> Iterator[Path]:
    # Only group/option.yaml and what lies directly inside: a user's folder may hold anything.
    for pattern in ("*.yaml", "*/*.yaml", "*/*/*.yaml"):
        yield from (p for p in folder.glob(pattern) if os.access(p, os.R_OK))
