"""The provenance of a run: command, versions, commit, device."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ebmtrain.config.experiment import Experiment
from ebmtrain.runtime import native


def run_info(
    experiment: Experiment, choices: dict[str, str], command: Sequence[str] | None = None
) -> dict[str, Any]:
    """Command, versions, device and seed of a run, for run.json."""
    return {
        "command": list(command or sys.argv),
        "choices": choices,
        **_environment(experiment),
        "git": _git_state(),
        "seed": experiment.seed,
    }


def _environment(experiment: Experiment) -> dict[str, Any]:
    """All that results depend on beside the configuration."""
    return {
        "versions": {
            "ebmtrain": version("ebmtrain"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "device": str(experiment.device),
        "threads": torch.get_num_threads(),
        "dtype": str(experiment.dtype).removeprefix("torch."),
        "cpp_library": native.enabled() and not native.rejections(),
    }


def environment_changes(saved: Mapping[str, Any], experiment: Experiment) -> list[str]:
    """A warning if the environment is not the one in run.json, `saved`: rounding differs then, and
    the resumed run is not bit-identical to an uninterrupted one."""
    then, now = _by_name(saved), _by_name(_environment(experiment))
    changes = [
        f"{name} from {then[name]!r:.40} to {value!r}"
        for name, value in now.items()
        if name in then and then[name] != value
    ]
    if not changes:
        return []
    listed = ", ".join(changes)
    return [f"rounding may differ from that of an uninterrupted run: changed are {listed}"]


def _by_name(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Without the level `versions`; of a damaged file, what can be read."""
    versions = environment.get("versions")
    return {**environment, **(versions if isinstance(versions, dict) else {}), "versions": None}


def _git_state() -> dict[str, Any] | None:
    """Commit of the current directory's git repository; None outside of one.

    The files of the repository are read without git, which would execute programs that the
    repository's configuration names: core.fsmonitor, filters. `dirty` is None, as comparing files
    takes those filters.
    """
    with suppress(OSError, ValueError):
        here = Path.cwd()
        for folder in (here, *here.parents):
            if (found := folder / ".git").exists():
                return {"commit": _head_commit(_git_directory(found)), "dirty": None}
    return None


_MAX_LINK_BYTES = 4096  # of HEAD, a branch, and a file that names a directory
_MAX_PACKED_REFS_BYTES = 10_000_000
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCH = re.compile(r"refs(/(?!\.)[^/\0]+)+")


def _git_directory(found: Path) -> Path:
    """The directory that `.git` is or, as a file of a worktree or submodule, names."""
    if found.is_dir():
        return found
    return found.parent / _read_small_file(found).removeprefix("gitdir: ")


def _head_commit(directory: Path) -> str:
    """The commit that HEAD names, directly or by a branch. Raises OSError or ValueError if there is
    none, or the files are not git's."""
    common = directory  # of all worktrees
    if (file := directory / "commondir").exists():
        common = directory / _read_small_file(file)
    head = _read_small_file(directory / "HEAD")
    branch = head.removeprefix("ref: ")
    if branch != head:
        if not _BRANCH.fullmatch(branch):
            raise ValueError(f"HEAD names {branch}")
        if (common / branch).exists():
            head = _read_small_file(common / branch)
        else:
            packed = _read_small_file(common / "packed-refs", _MAX_PACKED_REFS_BYTES)
            lines = (line.split(" ", 1) for line in packed.splitlines() if line[:1] not in "#^")
            head = next((commit for commit, name in lines if name == branch), "")
    if not _COMMIT.fullmatch(head):
        raise ValueError(f"HEAD is {head}")
    return head


def _read_small_file(path: Path, largest: int = _MAX_LINK_BYTES) -> str:
    """The text of a regular file, without a final newline. Raises ValueError if it is no regular
    file, such as a pipe, too large or no text."""
    if not path.is_file() or path.stat().st_size > largest:
        raise ValueError(f"{path} is no file of git")
    return path.read_text(encoding="utf-8").rstrip("\n")
