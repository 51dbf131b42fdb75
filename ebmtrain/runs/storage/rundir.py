"""Layout of a run directory, and all reading and writing of its files.

config.yaml      resolved and validated        run.json     command, versions, device, seed
result.json      status, step, metrics, best   run.log
metrics.jsonl    one row per log or evaluation; metrics.csv, the same as a table
checkpoints/     last.pt best.pt step_00005000.pt
plots/           landscape_00005000.png ... samples_final.png curves.png chains.png ...
samples/         final.npz                           report.html: all of it as one page
tensorboard/     event files, with tracker=tensorboard
.lock            held by the process that works here
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from ebmtrain.errors import CheckpointError, ConfigError, UnsafeError, counted, one_line
from ebmtrain.runs.storage import atomic_io, safe_yaml
from ebmtrain.runs.storage.checkpoint_format import TRAILER_BYTES, decode, encode, has_digest
from ebmtrain.runs.storage.checkpoint_schema import Checkpoint

_FOLDERS = ("checkpoints", "plots", "samples", "tensorboard")
_MAX_JSON_BYTES = 1_000_000  # result.json has about 2,000
_MAX_METRICS_BYTES = 200_000_000  # a million rows


class RunDir:
    """The folder of one run: reads and writes its files."""

    def __init__(self, path: Path, identity: atomic_io.Identity | None = None):
        self.path, self.plots, self.checkpoints = path, path / "plots", path / "checkpoints"
        self.identity = identity
        self._columns: list[str] = []

    # Opening

    @classmethod
    def create(
        cls,
        path: Path,
        config: Mapping[str, Any],
        about: Mapping[str, Any],
        identity: atomic_io.Identity | None = None,
    ) -> RunDir:
        """Creates a run in a locked folder; raises ConfigError if it holds a run already."""
        if (path / "config.yaml").exists():
            shown = relative_to_cwd(path)
            raise ConfigError(
                f"{shown} holds a run already: continue it, 'ebmtrain resume {shown}', or choose "
                "another hydra.run.dir"
            )
        run = cls(path, identity)
        run.write_json("run.json", about)
        run.write_config(config)  # written last: with it, the run can be resumed
        for folder in path.absolute().parents:  # Hydra may have made them
            with suppress(OSError):  # no permission to read it
                atomic_io.sync_folder(folder)
        return run

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """Opens an existing run. Raises ConfigError if there is none, and as `check_files` does."""
        check_files(path)
        if not (path / "config.yaml").is_file():
            raise ConfigError(f"{path} is not a run directory: it has no config.yaml")
        return cls(path, atomic_io.folder_identity(path))

    def remove_temporary_files(self) -> None:
        atomic_io.remove_temporary_files(self.path, _FOLDERS)

    # Small files

    def write_config(self, config: Mapping[str, Any]) -> Path:
        text = yaml.safe_dump(dict(config), sort_keys=False)
        return self.write_bytes("config.yaml", text.encode())

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        return self.write_bytes(name, (json.dumps(_json_safe(content), indent=2) + "\n").encode())

    def write_bytes(self, name: str, data: bytes) -> Path:
        atomic_io.write_file(self.path, name, data, self.identity)
        return self.path / name

    def append_bytes(self, name: str, data: bytes) -> None:
        atomic_io.append_to_file(self.path, name, data, self.identity)

    def write_output(self, file: Path, data: bytes) -> None:
        """Writes a file that the user names. Links outside of the run directory are followed."""
        if file.is_relative_to(self.path):
            self.write_bytes(file.relative_to(self.path).as_posix(), data)
        else:
            file = Path(os.path.realpath(file))  # `Path.resolve` raises for a loop of links
            atomic_io.write_file(file.parent, file.name, data)

    def write_arrays(self, name: str, **arrays: Tensor) -> Path:
        """Writes an npz file."""
        buffer = io.BytesIO()
        contents: dict[str, Any] = {key: value.cpu().numpy() for key, value in arrays.items()}
        np.savez(buffer, **contents)
        return self.write_bytes(name, buffer.getvalue())

    def config(self) -> dict[str, Any]:
        """The validated configuration: plain YAML without interpolations and tags.

        Raises:
            ConfigError: it cannot be read.
            UnsafeError: it holds more than plain values, or is too large or too deep.
        """
        path = self.path / "config.yaml"
        _check_size(path, safe_yaml.MAX_BYTES)
        try:
            content = safe_yaml.read(path.read_bytes())
        except UnsafeError as error:
            raise UnsafeError(f"{path} is refused: {error}") from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = one_line(error)
            raise ConfigError(f"{path} cannot be read: {reason}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{path} is not a mapping")
        return content

    def read_json(self, name: str) -> dict[str, Any]:
        """The mapping in a JSON file; empty if there is no such file. Raises ConfigError if it
        cannot be read or is no mapping."""
        path = self.path / name
        if not path.is_file():  # reading a pipe would block
            return {}
        _check_size(path, _MAX_JSON_BYTES)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{path} is not a mapping")
        return content

    def group_choices(self) -> dict[str, str]:
        """The preset of each group; names that are not printable are left out."""
        found = self.read_json("run.json").get("choices")
        named = found.items() if isinstance(found, dict) else ()
        return {k: v for k, v in named if isinstance(v, str) and v.isprintable()}

    # Metrics

    def log_row(self, row: Mapping[str, Any]) -> None:
        """Appends to metrics.jsonl and metrics.csv."""
        line = json.dumps(_json_safe(row)) + "\n"
        atomic_io.append_to_file(self.path, "metrics.jsonl", line.encode(), self.identity)
        if set(row) <= set(self._columns):
            atomic_io.append_to_file(self.path, "metrics.csv", self._csv([row]), self.identity)
        else:  # a new column: the table is rewritten
            self._write_table()

    def rows(self) -> list[dict[str, Any]]:
        """The rows of metrics up to the first damaged line; null is read as NaN."""
        found = []
        with suppress(ConfigError):  # figures and resuming continue without them
            for row in self.iter_rows():
                named = {k: v for k, v in row.items() if k.isprintable()}
                found.append({k: v for k, v in named.items() if isinstance(v, int | float)})
        return found

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        """The rows of metrics. Raises ConfigError for a line that is no row, and UnsafeError if the
        file is too large."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return
        _check_size(path, _MAX_METRICS_BYTES)
        with path.open("rb") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:  # the last line of a killed process
                    return
                except RecursionError:
                    row = None
                if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                    raise ConfigError(f"{path} has a line that is no row of metrics: remove it")
                yield {k: math.nan if v is None else v for k, v in row.items()}

    def metrics_size(self) -> int:
        """Bytes of metrics.jsonl; a checkpoint stores it for `truncate_metrics`."""
        path = self.path / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0

    def truncate_metrics(self, size: int) -> None:
        """Removes the rows after the first `size` bytes, which the checkpoint does not count."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            self.write_bytes(path.name, path.read_bytes()[:size])
        self._write_table()

    def _write_table(self) -> None:
        rows = self.rows()
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        header = dict(zip(self._columns, self._columns, strict=True))
        self.write_bytes("metrics.csv", self._csv([header, *rows]))

    def _csv(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()

    # Checkpoints

    def save_checkpoint(
        self, state: Checkpoint, step: int, keep: int, *, due: bool, best: bool
    ) -> None:
        """Writes best.pt if `best`, and step_<step>.pt and last.pt if `due`.

        The rows of metrics before this step are made durable first, and the oldest checkpoints are
        removed last: at least two are whole at any time.
        """
        data = encode(state)
        atomic_io.sync_file(self.path, "metrics.jsonl", self.identity)
        if best:
            self.write_bytes("checkpoints/best.pt", data)
        if due:
            self.write_bytes(f"checkpoints/step_{step:08d}.pt", data)
            self.write_bytes("checkpoints/last.pt", data)
            self.prune_checkpoints(step, keep)

    def prune_checkpoints(self, step: int, keep: int) -> None:
        """Keeps the newest `keep` checkpoints up to `step`, at least 2. Later ones are damaged, as
        training resumed before them, and are not counted."""
        newest = f"step_{step:08d}.pt"
        whole = [p.name for p in self.checkpoints.glob("step_*.pt") if p.name <= newest]
        old = sorted(whole)[: -max(keep, 2)]
        atomic_io.remove_files(self.path, [f"checkpoints/{name}" for name in old], self.identity)

    def has_started(self) -> bool:
        """False before the first checkpoint, which precedes the first update: a new start loses
        nothing."""
        trained = any(row.get("step") for row in self.rows())
        return trained or any(self.checkpoints.glob("*.pt"))

    def checkpoint_named(self, name: str | Path | int | None) -> Path | None:
        """The file that `checkpoint=best.pt`, `=best`, `=500` or a path means; None: the newest."""
        if name is None:
            return None
        is_step = isinstance(name, int)
        wanted = [f"step_{name:08d}.pt"] if is_step else [str(name), f"{name}.pt"]
        folders = (self.checkpoints, self.path, Path())
        places = [folder / file for folder in folders for file in wanted]
        return next((place for place in places if place.is_file()), places[0])

    def load_checkpoint(self, path: Path | None = None) -> tuple[dict[str, Any], list[str]]:
        """The state in `path`, or in the newest whole checkpoint, and a note for each skipped one.
        Raises CheckpointError if none is whole."""
        if path is not None:
            return decode(_read(path), str(path)), []
        newest_first = [
            self.checkpoints / "last.pt",
            *sorted(self.checkpoints.glob("step_*.pt"), reverse=True),
            self.checkpoints / "best.pt",
        ]
        skipped: list[str] = []
        for candidate in newest_first:
            if not candidate.exists():
                continue
            try:
                state = decode(_read(candidate), str(candidate))
            except CheckpointError as error:
                skipped.append(str(error))
                continue
            if skipped:
                skipped[-1] += f"; {candidate.name} is used instead"
            return state, skipped
        n_others = len(skipped) - 1
        others = f", as {'is' if n_others == 1 else 'are'} {counted(n_others, 'other')}"
        others = others if n_others > 0 else ""
        found = f"{skipped[0]}{others}" if skipped else f"{self.checkpoints} holds none"
        raise CheckpointError(
            f"no usable checkpoint: {found}; restore one from a copy, or train again"
        )


def check_files(path: Path) -> None:
    """Checks the files of a run before one is read or written. `path` itself may be a link.

    Raises:
        UnsafeError: a link, which would redirect writes, a pipe, which would block reads, or a file
            name with control characters.
    """
    folders = [path, *(path / name for name in _FOLDERS)]
    for file in (f for folder in folders if folder.is_dir() for f in folder.iterdir()):
        with suppress(FileNotFoundError):  # a temporary file of the process that holds the run
            atomic_io.check_file_type(file, file.lstat())
        if not file.name.isprintable():
            raise UnsafeError(f"{path} holds a file of the name {file.name!r}: rename it")


def _check_size(path: Path, largest: int) -> None:
    """Raises UnsafeError for a file of more than `largest` bytes."""
    if path.stat().st_size > largest:
        raise UnsafeError(
            f"{path} is refused: it has {path.stat().st_size:,} bytes, and at most {largest:,} are "
            "read; remove it"
        )


def relative_to_cwd(path: Path) -> Path:
    """The path relative to the working directory, if it is inside."""
    try:
        return path.relative_to(Path.cwd())
    except (ValueError, FileNotFoundError):  # or the working directory was deleted
        return path


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # opening a pipe would block
            raise CheckpointError(f"{path} is no file")
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TRAILER_BYTES))
            if not has_digest(file.read(TRAILER_BYTES)):  # a sparse file may have terabytes
                return b""
            file.seek(0)
            return file.read()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def _json_safe(value: Any) -> Any:
    """The value with null in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
