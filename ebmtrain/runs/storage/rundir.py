"""The layout of a run directory; what is read from it and written into it.

config.yaml      resolved and validated        run.json     command, versions, device, seed
result.json      status, step, metrics, best   run.log
metrics.jsonl    one row per log or evaluation; metrics.csv, the same as a table
checkpoints/     last.pt best.pt step_00005000.pt
plots/           landscape_00005000.png ... samples_final.png curves.png chains.png ...
samples/         final.npz
.lock            held by the process that works here
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from torch import Tensor

from ebmtrain.errors import CheckpointError, ConfigError, OutputError, UnsafeError
from ebmtrain.runs.storage import atomic_io as durable
from ebmtrain.runs.storage import safe_yaml as plain_yaml
from ebmtrain.runs.storage.checkpoint_format import TRAILER_BYTES, decode, encode, has_digest
from ebmtrain.runs.storage.checkpoint_schema import Checkpoint

_Row = Mapping[str, Any]
_FOLDERS = ("checkpoints", "plots", "samples")
_MAX_JSON_BYTES = 1_000_000  # bytes; result.json has some 2,000
_MAX_METRICS_BYTES = 200_000_000  # bytes; a million rows


class RunDir:
    """One run's folder. Reading and writing, and nothing else."""

    def __init__(self, path: Path):
        self.path = path
        self.plots = path / "plots"
        self.checkpoints = path / "checkpoints"
        self._columns: list[str] = []

    # Opening

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any], about: Mapping[str, Any]) -> RunDir:
        """A new run, in a folder that is locked.

        Raises:
            ConfigError: the folder holds a run already.
        """
        if (path / "config.yaml").exists():
            raise ConfigError(
                f"{relative_to_cwd(path)} holds a run already: go on with 'ebmtrain resume "
                f"{relative_to_cwd(path)}', "
                "or choose another hydra.run.dir"
            )
        run = cls(path)
        run.write_json("run.json", about)
        run.write_config(config)  # the last one: with it, this is a run that can be resumed
        for folder in path.absolute().parents:  # Hydra may have made them
            with suppress(OSError):  # not ours to read
                durable.sync_folder(folder)
        return run

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """An existing run.

        Raises:
            ConfigError: there is none.
            UnsafeError: it holds a link, through which what is written would go elsewhere; a pipe,
                that one would wait for; a name that a terminal would obey.
        """
        for file in (f for folder in _folders(path) if folder.is_dir() for f in folder.iterdir()):
            if file.is_symlink():
                raise UnsafeError(f"{file} is a link: put what it points to in its place")
            if not (file.is_file() or file.is_dir()):
                raise UnsafeError(f"{file} is a pipe, socket or device: remove it")
            if not file.name.isprintable():
                raise UnsafeError(f"{path} holds a file of the name {file.name!r}: rename it")
        if not (path / "config.yaml").is_file():
            raise ConfigError(f"{path} is not a run directory: it has no config.yaml")
        return cls(path)

    def clear(self) -> None:
        """Removes what a killed process was writing."""
        durable.remove_temporary_files(_folders(self.path))

    def check_exists(self) -> None:
        """
        Raises:
            OutputError: somebody has removed it. To write on would make a folder of that name anew,
                which holds the end of a run and not the run.
        """
        if not (self.path / "config.yaml").exists():
            raise OutputError(
                f"cannot write {self.path}: No such file or directory; it was removed while the "
                "run worked in it"
            )

    # Small files

    def write_text(self, name: str, text: str) -> Path:
        durable.write_file(self.path / name, text.encode())
        return self.path / name

    def write_config(self, config: Mapping[str, Any]) -> Path:
        return self.write_text("config.yaml", yaml.safe_dump(dict(config), sort_keys=False))

    def write_json(self, name: str, content: Mapping[str, Any]) -> Path:
        # JSON has no NaN: what is not a number is written as null.
        return self.write_text(name, json.dumps(_json_safe(content), indent=2) + "\n")

    def write_bytes(self, name: str, data: bytes) -> Path:
        durable.write_file(self.path / name, data)
        return self.path / name

    def write_arrays(self, name: str, **arrays: Tensor) -> Path:
        """An npz file."""
        buffer = io.BytesIO()
        contents: dict[str, Any] = {key: value.cpu().numpy() for key, value in arrays.items()}
        np.savez(buffer, **contents)
        return self.write_bytes(name, buffer.getvalue())

    def config(self) -> dict[str, Any]:
        """The configuration as it was validated: plain YAML, no interpolation, no tags.

        Raises:
            ConfigError: not readable as that.
            UnsafeError: it asks for more than values, or is made to exhaust its reader.
        """
        path = self.path / "config.yaml"
        _check_size(path, plain_yaml.MAX_BYTES)
        try:
            content = plain_yaml.read(path.read_bytes())
        except UnsafeError as error:
            raise UnsafeError(f"{path} is refused: {error}") from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(f"{path} cannot be read: {reason}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{path} is not a mapping")
        return content

    def read_json(self, name: str) -> dict[str, Any]:
        """A mapping; empty where there is no such file.

        Raises:
            ConfigError: it is not readable as that.
        """
        path = self.path / name
        if not path.is_file():  # a pipe, say, that one would wait for
            return {}
        _check_size(path, _MAX_JSON_BYTES)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{path} is not a mapping")
        return content

    def choices(self) -> dict[str, str]:
        """The preset of each group, by its name; for people to read, so nothing but text."""
        found = self.read_json("run.json").get("choices")
        named = found.items() if isinstance(found, dict) else ()
        return {k: v for k, v in named if isinstance(v, str) and v.isprintable()}

    # Metrics

    def log_row(self, row: _Row) -> None:
        """Appends to metrics.jsonl and metrics.csv."""
        line = json.dumps(_json_safe(row)) + "\n"
        durable.append_to_file(self.path / "metrics.jsonl", line.encode())
        if set(row) <= set(self._columns):
            text = io.StringIO()
            csv.DictWriter(text, self._columns, lineterminator="\n").writerow(dict(row))
            durable.append_to_file(self.path / "metrics.csv", text.getvalue().encode())
        else:  # a column not seen before: the table is written anew
            self._write_table(self.rows())

    def rows(self) -> list[dict[str, Any]]:
        """The numbers of all rows of metrics so far, up to a line that is none; what was not finite
        is NaN."""
        found = []
        with suppress(ConfigError):  # a picture or a resume is not to fail for it
            for row in self.iter_rows():
                named = {k: v for k, v in row.items() if k.isprintable()}
                found.append({k: v for k, v in named.items() if isinstance(v, int | float)})
        return found

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        """Every row as it stands, one by one.

        Raises:
            ConfigError: a line is something else.
            UnsafeError: more than ever was written.
        """
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return
        _check_size(path, _MAX_METRICS_BYTES)
        with path.open("rb") as file:
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:  # the line that a killed process was writing
                    return
                except RecursionError:
                    row = None
                if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                    raise ConfigError(f"{path} has a line that is no row of metrics: remove it")
                yield {k: math.nan if v is None else v for k, v in row.items()}

    def metrics_size(self) -> int:
        """Bytes of metrics.jsonl; a checkpoint remembers it, for `truncate_metrics`."""
        path = self.path / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0

    def truncate_metrics(self, size: int) -> None:
        """Forgets the rows that were written after the checkpoint that a run goes on from."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            durable.write_file(path, path.read_bytes()[:size])
        self._write_table(self.rows())

    def _write_table(self, rows: Sequence[_Row]) -> None:
        self._columns = list(dict.fromkeys(name for row in rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows([dict(row) for row in rows])
        self.write_text("metrics.csv", text.getvalue())

    # Checkpoints

    def save_checkpoint(
        self, state: Checkpoint, step: int, keep: int, *, due: bool, best: bool
    ) -> None:
        """best.pt if it is the best; if one is due, step_<step>.pt and the same as last.pt.

        By the steps of `durable`. The rows of metrics that the state counts on are made durable
        before it, and the oldest are removed after it: at every moment two whole ones are there.
        """
        data = encode(state)
        durable.sync_file(self.path / "metrics.jsonl")
        if best:
            self.write_bytes("checkpoints/best.pt", data)
        if due:
            self.write_bytes(f"checkpoints/step_{step:08d}.pt", data)
            self.write_bytes("checkpoints/last.pt", data)
            self.prune_checkpoints(step, keep)

    def prune_checkpoints(self, step: int, keep: int) -> None:
        """Removes the oldest of those up to `step` but for `keep`, at least 2. Later ones were
        damaged, or training would not be here: they count for nothing."""
        newest = f"step_{step:08d}.pt"
        whole = (p for p in self.checkpoints.glob("step_*.pt") if p.name <= newest)
        durable.remove_files(sorted(whole)[: -max(keep, 2)])

    def begun(self) -> bool:
        """False for a run that was killed before its first checkpoint. That one comes before the
        first update, so nothing is lost by starting anew."""
        trained = any(row.get("step") for row in self.rows())
        return trained or any(self.checkpoints.glob("*.pt"))

    def checkpoint_named(self, name: str | Path | int | None) -> Path | None:
        """The file that `checkpoint=best.pt`, `=best`, `=500` or a path means; None: the newest."""
        if name is None:
            return None
        wanted = [str(name), f"{name}.pt"]
        if isinstance(name, int):
            wanted = [f"step_{name:08d}.pt"]
        folders = (self.checkpoints, self.path, Path())
        places = [folder / file for folder in folders for file in wanted]
        return next((place for place in places if place.is_file()), places[0])

    def load_checkpoint(self, path: Path | None = None) -> tuple[dict[str, Any], list[str]]:
        """The state in `path`, or in the newest checkpoint that is whole, and what was passed over.

        Raises:
            CheckpointError: none is whole.
        """
        if path is not None:
            return decode(_read(path), str(path)), []
        newest_first = [
            self.checkpoints / "last.pt",
            *sorted(self.checkpoints.glob("step_*.pt"), reverse=True),
            self.checkpoints / "best.pt",
        ]
        passed: list[str] = []
        for candidate in newest_first:
            if not candidate.exists():
                continue
            try:
                state = decode(_read(candidate), str(candidate))
            except CheckpointError as error:
                passed.append(str(error))
                continue
            if passed:
                passed[-1] += f"; {candidate.name} is used instead"
            return state, passed
        found = f"{self.checkpoints} holds none"
        if passed:
            others = f", nor are the {len(passed) - 1} others whole" if len(passed) > 1 else ""
            found = f"{passed[0]}{others}"
        raise CheckpointError(
            f"no checkpoint to go on from: {found}; restore one from a copy, or train anew"
        )


def _folders(path: Path) -> list[Path]:
    """Of a run: itself and those inside."""
    return [path, *(path / name for name in _FOLDERS)]


def _check_size(path: Path, largest: int) -> None:
    """
    Raises:
        UnsafeError: a file that it takes more memory to read than it is worth.
    """
    if path.stat().st_size > largest:
        raise UnsafeError(
            f"{path} is refused: it has {path.stat().st_size:,} bytes, and at most {largest:,} are "
            "read; remove it"
        )


def relative_to_cwd(path: Path) -> Path:
    """As one would type it here."""
    try:
        return path.relative_to(Path.cwd())
    except ValueError:
        return path


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for ever
            raise CheckpointError(f"{path} is no file")
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TRAILER_BYTES))
            if not has_digest(file.read(TRAILER_BYTES)):  # before terabytes of nothing are read
                return b""
            file.seek(0)
            return file.read()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error


def _json_safe(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
