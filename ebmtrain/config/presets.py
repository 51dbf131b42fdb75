"""Finds the YAML presets and composes them into one configuration. Imports no torch."""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf, open_dict

from ebmtrain.config import hydra_private, preset_files
from ebmtrain.config.preset_files import BUILT_IN, yaml_files
from ebmtrain.errors import ConfigError

Kind = Literal["run", "landscape", "ensemble"]
_MAX_NAME_BYTES = 150  # file systems allow 255; job numbers distinguish longer names


@dataclass(frozen=True)
class Presets:
    """Two folders of YAML files, GROUP/OPTION.yaml and config.yaml.

    Args:
        built_in: the presets of ebmtrain, or a copy of them.
        user: searched first. (Hydra's own --config-dir is searched last and could not replace a
            built-in preset.)
    """

    built_in: Path = BUILT_IN
    user: Path | None = None

    @property
    def folders(self) -> list[Path]:
        """A later folder hides the presets of an earlier one."""
        return [self.built_in, *([self.user] if self.user else [])]

    def loader(self) -> ConfigLoader:
        return hydra_private.config_loader(self.built_in, self.user)

    def compose(self, overrides: Sequence[str] = ()) -> DictConfig:
        """The configuration of these overrides, with Hydra's section `hydra`."""
        return hydra_private.load_config(self.loader(), overrides)

    def freeze(self, target: Path) -> Presets:
        """Copies the presets to `target`, so that an edit during a sweep changes no later job.

        Raises:
            OSError: a copy cannot be written; its `filename` is that of the copy.
        """
        copies = Presets(target / "built_in", target / "user" if self.user else None)
        try:
            for folder, copy in zip(self.folders, copies.folders, strict=True):
                copy.mkdir(parents=True)
                for path in yaml_files(folder):
                    file = copy / path.relative_to(folder)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, file)
        except OSError as error:
            file = error.filename2 or error.filename  # of a copy the target comes second
            raise OSError(error.errno, error.strerror, str(file)) from error
        return copies

    def digest(self) -> str:
        """SHA-256 of the names and contents of all presets."""
        digest = hashlib.sha256()
        for folder in self.folders:
            for path in sorted(yaml_files(folder)):
                data = path.read_bytes()
                name = path.relative_to(folder).as_posix()
                digest.update(f"{folder.name}/{name} {len(data)}\n".encode() + data)
        return digest.hexdigest()

    def groups(self) -> list[str]:
        """Names of the config groups, the user's included."""
        return preset_files.groups(self.folders)

    def options(self, group: str) -> dict[str, Path]:
        """Name and file of each option of a group; the user's hide built-in ones."""
        return preset_files.options(self.folders, group)

    def undecodable_files(self) -> list[Path]:
        """Presets that are not UTF-8."""
        found = []
        for path in (path for folder in reversed(self.folders) for path in yaml_files(folder)):
            try:
                path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                found.append(path)
        return found

    def check_targets(self, config: DictConfig) -> None:
        """Raises ConfigError for a chosen preset without a `_target_`, with the name of its file,
        which the validator does not know."""
        choices = config.hydra.runtime.choices
        for group in ("model", "sampler", "method", "dataset"):
            path, node = self.options(group).get(str(choices.get(group))), config.get(group)
            if path and not (OmegaConf.is_dict(node) and "_target_" in node):
                raise ConfigError(f"{path} names no class: give it a line _target_: package.Class")


def compose_config(overrides: Sequence[str] = ()) -> DictConfig:
    """The configuration of these overrides and the built-in presets, without Hydra's section."""
    config = Presets().compose(overrides)
    with open_dict(config):
        del config["hydra"]
    return config


def to_plain(config: DictConfig) -> dict[str, Any]:
    """The resolved configuration as plain Python values, without Hydra's section."""
    ours = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    content = OmegaConf.to_container(ours, resolve=True, throw_on_missing=False)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def group_choices(choices: Mapping[Any, Any]) -> dict[str, str]:
    """The option of each group, from Hydra's `runtime.choices`, without Hydra's own groups."""
    return {str(k): str(v) for k, v in choices.items() if not {"/", "@"} & set(str(k))}


def extend_import_path(*folders: Path | str | None) -> None:
    """Makes modules in these folders and in the working directory importable. The folders come
    last, so that no file in them replaces an installed module."""
    for folder in (*folders, Path.cwd()):
        if folder and str(folder) not in sys.path:
            sys.path.append(str(folder))


# The resolvers of configs/config.yaml


def set_kind(config: DictConfig, kind: Kind) -> None:
    """Sets what the configuration describes, on which the path of its directory depends."""
    hydra_private.set_runtime(config, "kind", kind)


def _kind_of(root: DictConfig) -> Kind:
    return OmegaConf.select(root, "hydra.runtime.kind", default="run")


def _stamp() -> str:
    """<date>-<time>-<4 hex>. OmegaConf caches the value, and Hydra copies the cache into the
    configuration of each job: a command has one stamp."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


_NAMED_BY_PATH = ("file", "image_folder", "idx")


def dataset_name(option: str, path: Any) -> str:
    """The name of the data in titles and folders: the option of `dataset`, or the name of the
    file or folder that it reads."""
    if option not in _NAMED_BY_PATH or not isinstance(path, str):
        return option
    stem = Path(path).name.partition(".")[0]
    printable = "".join(c for c in stem if c.isprintable()).strip()
    return folder_name(printable) or option


def _data_name(option: str, *, _root_: DictConfig) -> str:
    typed = OmegaConf.select(_root_, "hydra.overrides.task", default=[])
    if any(word.startswith("dataset=") and "," in word for word in typed):
        return "datasets"  # a sweep over them
    return dataset_name(option, OmegaConf.select(_root_, "dataset.path", default=None))


def _place(dataset: str, method: str, model: str, *, _root_: DictConfig) -> str:
    """The folders of a run below outputs/."""
    places = {"landscape": f"landscapes/{model}", "ensemble": "sweeps"}
    data = _data_name(dataset, _root_=_root_)
    return places.get(_kind_of(_root_), f"{data}/{method}_{model}")


def _tail(seed: int, dataset: str, *, _root_: DictConfig) -> str:
    """The end of the name of a directory, after the stamp."""
    is_ensemble = _kind_of(_root_) == "ensemble"
    return _data_name(dataset, _root_=_root_) if is_ensemble else f"s{seed}"


def folder_name(text: str) -> str:
    """The text as a single folder name: the overrides of a job may hold paths."""
    return re.sub(r"[/\\\s]", "_", text).encode()[:_MAX_NAME_BYTES].decode(errors="ignore")


OmegaConf.register_new_resolver("stamp", _stamp, use_cache=True, replace=True)
OmegaConf.register_new_resolver("data_name", _data_name, replace=True)
OmegaConf.register_new_resolver("place", _place, replace=True)
OmegaConf.register_new_resolver("tail", _tail, replace=True)
OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
