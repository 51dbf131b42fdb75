"""Composes jobs from the presets in the folder of a sweep, which are untrusted.

Composing reads YAML and calls nothing, but Hydra imports the packages of `hydra.searchpath`, reads
files above a search path, and resolvers read the environment: all of these are refused. The
section `hydra` of the result is never used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict

from ebmtrain.config import hydra_private
from ebmtrain.config.presets import BUILT_IN, Presets, group_choices
from ebmtrain.errors import ConfigError, UnsafeError
from ebmtrain.runs.report.discovery import PRESETS_FOLDER
from ebmtrain.runs.storage import safe_yaml
from ebmtrain.runs.storage.atomic_io import check_file_type
from ebmtrain.runs.storage.manifest import Job, Manifest

_MAX_FILES = 2000
_ESCAPES = re.compile(r"\.\.|//")  # of the name of an option, from the folder of its group
_REFERENCE = re.compile(r"(?:[^$]|\$(?!\{)|\$\{[\w.]+\})*")  # text without calls of resolvers


class FrozenPresets:
    """The presets of a sweep.

    Args:
        sweep: its folder.
        manifest: of the sweep.

    Raises:
        ConfigError: they are not those with which the sweep began, or are missing.
        UnsafeError: a link, or content that could import, or read files elsewhere.
    """

    def __init__(self, sweep: Path, manifest: Manifest):
        folder = sweep / PRESETS_FOLDER
        for path in _files(folder):
            if path.suffix == ".yaml":
                _check(path, folder)
        user = folder / "user"
        self.presets = Presets(folder / "built_in", user if user.is_dir() else None)
        if self.presets.digest() != manifest.presets:
            raise ConfigError(
                f"the presets in {folder} are not those with which the sweep began: restore them, "
                "or begin another sweep"
            )
        self.config_name = manifest.config_name
        self._loader: Any = None

    def compose(self, job: Job) -> tuple[DictConfig, dict[str, str]]:
        """The configuration of a job without Hydra's section, and the option of each group.

        Raises:
            UnsafeError: an argument leaves the presets, or a value calls a resolver.
        """
        for override in job.overrides:
            key, _, value = override.partition("=")
            if "." not in key.partition("@")[0] and _ESCAPES.search(value):
                raise UnsafeError(f"job {job.number} has the argument {override!r}: remove it")
        self._loader = self._loader or self.presets.loader()
        try:
            config = hydra_private.load_config(self._loader, job.overrides, name=self.config_name)
        except RecursionError as error:
            raise UnsafeError(f"an argument of job {job.number} is nested too deep") from error
        choices = group_choices(config.hydra.runtime.choices)
        with open_dict(config):
            del config["hydra"]
        _refuse_resolvers(config)
        return config, choices


def _files(folder: Path) -> list[Path]:
    """All files of the presets. Raises UnsafeError for links, and ConfigError if there are none."""
    found: list[Path] = []
    if folder.is_symlink():
        check_file_type(folder, folder.lstat())
    for name, folders, files in os.walk(folder):
        for path in (Path(name) / each for each in (*folders, *files)):
            check_file_type(path, path.lstat())
        found += [Path(name) / file for file in files]
        if len(found) > _MAX_FILES:
            raise UnsafeError(f"{folder} has more than {_MAX_FILES:,} files")
    if not found:
        raise ConfigError(f"{folder} holds no presets: restore it, or begin another sweep")
    return found


def _check(path: Path, folder: Path) -> None:
    """Raises UnsafeError for a preset that ebmtrain does not have and that is not plain YAML, names
    a search path, or includes files from elsewhere."""
    built_in = BUILT_IN / Path(*path.relative_to(folder).parts[1:])
    if path.stat().st_size <= safe_yaml.MAX_BYTES:
        data = path.read_bytes()
        if built_in.is_file() and built_in.read_bytes() == data:
            return
        try:
            content = safe_yaml.read(data)
        except UnsafeError as error:
            raise UnsafeError(f"{path} is refused: {error}") from error
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    else:
        raise UnsafeError(f"{path} has more than {safe_yaml.MAX_BYTES:,} bytes")
    if not isinstance(content, dict):
        return
    texts = list(_texts(content.get("defaults")))
    if any(_ESCAPES.search(text) or "${" in text for text in texts):
        raise UnsafeError(f"{path} includes files from outside of the presets: remove them")
    if any("searchpath" in text for text in _texts(content)):
        raise UnsafeError(f"{path} names a search path: remove it")


def _texts(content: Any) -> Iterator[str]:
    """All keys and values that are text, at any depth."""
    waiting = [content]
    for node in waiting:  # grows during the loop
        if isinstance(node, dict):
            waiting += [*node, *node.values()]
        elif isinstance(node, list):
            waiting += node
        elif isinstance(node, str):
            yield node


def _refuse_resolvers(config: DictConfig) -> None:
    """Raises UnsafeError for a value that calls a resolver, such as `${oc.env:NAME}`: only
    references to other values of the configuration, `${seed}`, are resolved."""
    for text in _texts(OmegaConf.to_container(config, resolve=False)):
        if not _REFERENCE.fullmatch(text):
            raise UnsafeError(
                f"the presets or arguments of the sweep hold {text!r}: write the value itself there"
            )
