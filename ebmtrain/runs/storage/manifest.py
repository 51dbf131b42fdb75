"""sweep.json: the jobs of a sweep, written before the first of them starts.

Each job is a run directory, or a folder of runs for an ensemble, whose own lock and result.json say
whether it is in progress or complete: the manifest is never changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ebmtrain.errors import ConfigError, UnsafeError
from ebmtrain.runs.storage.atomic_io import check_file_type, write_file

MANIFEST = "sweep.json"
_MAX_BYTES = 50_000_000  # 1,000 jobs of 20 arguments have about 600,000
_MAX_ARGUMENT = 10_000  # characters
_HYDRA = re.compile(r"[+~]*hydra[./=@]")


@dataclass(frozen=True)
class Job:
    """One job.

    Args:
        number: from 0, in the order of the jobs.
        folder: relative to the sweep, with "/" between its parts.
        overrides: its arguments, none of them of Hydra's own section.
    """

    number: int
    folder: str
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"job {self.number}  {' '.join(self.overrides)}"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a sweep consists of.

    Args:
        command: what the user typed.
        config_name: of the primary configuration in the presets.
        versions: of ebmtrain, torch and Python.
        presets: digest of the YAML files in the sweep's folder, see `Presets.digest`.
        jobs: in the order of their numbers, with different folders.
    """

    command: tuple[str, ...]
    config_name: str
    versions: dict[str, str]
    presets: str
    jobs: tuple[Job, ...]

    def write(self, sweep: Path) -> None:
        """Writes sweep.json.

        Raises:
            ConfigError: two jobs have the same folder, or one is outside of the sweep.
            OutputError: the file cannot be written.
        """
        content = asdict(self)
        try:
            _parse(content)
        except ValueError as error:
            raise ConfigError(f"{error}: change hydra.sweep.subdir") from error
        write_file(sweep, MANIFEST, (json.dumps(content, indent=1) + "\n").encode())

    @classmethod
    def read(cls, sweep: Path) -> Manifest:
        """The manifest of a sweep, which is untrusted.

        Raises:
            ConfigError: there is none, or it cannot be read.
            UnsafeError: it is a link, is too large, names a folder outside of the sweep or holds
                other content than ebmtrain writes.
        """
        file = sweep / MANIFEST
        try:
            check_file_type(file, file.lstat())
            if file.stat().st_size > _MAX_BYTES:
                raise UnsafeError(
                    f"{file} has more than {_MAX_BYTES:,} bytes, and no more are read"
                )
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{file} cannot be read: {error}") from error
        try:
            return _parse(content)
        except ValueError as error:
            raise UnsafeError(
                f"{file} is refused: {error}; restore the file that the sweep wrote"
            ) from error


def is_sweep(folder: Path) -> bool:
    """True for the folder of a sweep with a manifest; False for a run."""
    return (folder / MANIFEST).is_file() and not (folder / "config.yaml").exists()


def job_path(sweep: Path, job: Job) -> Path:
    """The folder of a job. Raises UnsafeError if it is reached through a link within the sweep."""
    path = sweep
    for part in PurePosixPath(job.folder).parts:
        path /= part
        if path.is_symlink():
            raise UnsafeError(f"{path} is a link: put what it points to in its place")
    return path


def _parse(content: Any) -> Manifest:
    """The manifest of plain JSON values. Raises ValueError for any other content."""
    if not isinstance(content, dict) or set(content) != set(Manifest.__dataclass_fields__):
        raise ValueError("it does not have the keys of a sweep")
    versions = content["versions"]
    texts = {"config_name": content["config_name"], "presets": content["presets"]}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{key} is no text")
    if not isinstance(versions, dict) or not all(isinstance(v, str) for v in versions.values()):
        raise ValueError("versions are no mapping of texts")
    if _leaves_folder(texts["config_name"]):
        raise ValueError(f"config_name is {texts['config_name']!r}")
    if not isinstance(content["jobs"], list | tuple):
        raise ValueError("jobs are no list")
    jobs = tuple(_parse_job(number, job) for number, job in enumerate(content["jobs"]))
    folders: dict[str, int] = {}
    for job in jobs:
        if (first := folders.setdefault(job.folder, job.number)) != job.number:
            raise ValueError(f"jobs {first} and {job.number} have the same folder {job.folder!r}")
    return Manifest(
        command=_texts(content["command"], "command"), versions=versions, jobs=jobs, **texts
    )


def _parse_job(number: int, job: Any) -> Job:
    if not isinstance(job, dict) or set(job) != set(Job.__dataclass_fields__):
        raise ValueError(f"job {number} does not have the keys of a job")
    if type(job["number"]) is not int or job["number"] != number:
        raise ValueError(f"job {number} has the number {job['number']!r}")
    folder = job["folder"]
    if not isinstance(folder, str) or _leaves_folder(folder):
        raise ValueError(f"job {number} has the folder {folder!r}, which is not in the sweep")
    overrides = _texts(job["overrides"], f"overrides of job {number}")
    for text in overrides:
        if _HYDRA.match(text) or len(text) > _MAX_ARGUMENT:
            raise ValueError(f"job {number} has the argument {text[:100]!r}")
    return Job(number, folder, overrides)


def _texts(content: Any, where: str) -> tuple[str, ...]:
    if not isinstance(content, list | tuple) or not all(isinstance(v, str) for v in content):
        raise ValueError(f"{where}: not a list of texts")
    return tuple(content)


def _leaves_folder(path: str) -> bool:
    """True unless the path is relative, in its shortest form and below its folder."""
    parts: Sequence[str] = path.split("/")
    return "\0" in path or any(part in ("", ".", "..") for part in parts)
