"""Metrics and figures as TensorBoard event files, in RUN/tensorboard."""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.runtime.optional import import_optional

_MODULES = (
    "summary.writer.record_writer", "compat.proto.event_pb2", "compat.proto.summary_pb2"
)  # fmt: skip
_STEP = re.compile(r"(.+)_(\d{8})")  # of the figures made during training


class TensorBoardLogger:
    """Scalars by the names of the metrics, images by the names of the figures.

    The events are a projection of metrics.jsonl and of the figures. In each session of a run, and
    when a run returns to its last checkpoint, they are written again from these files into a new
    event file, which tells TensorBoard to discard the earlier events: what came after the
    checkpoint is gone.

    Args:
        run: the directory. `FileLogger` has written each row there before it is logged here.

    Raises:
        ConfigError: the package tensorboard is not installed.
    """

    def __init__(self, run: RunDir):
        self.run = run
        self.records, self.events, self.summaries = (
            import_optional(f"tensorboard.{module}", "tracker=tensorboard", "tensorboard")
            for module in _MODULES
        )
        self.name = ""
        """Of the event file; empty before the first row."""
        self.step = -1
        self.began = 0.0
        """Start of the run in s since the epoch, from which `seconds` of a row counts."""

    def log(self, step: int, row: Mapping[str, Any]) -> None:
        if self.name and step > self.step:
            self._append([self._scalars({"step": step, **row})])
            self.step = step
        else:
            self.replay()

    def figure(self, name: str, path: Path) -> None:
        if self.name and path.suffix == ".png":
            self._append([self._image(path)])

    def close(self) -> None:
        """Nothing to do: every event is written when it is logged."""

    def replay(self) -> None:
        """Writes the rows and the figures up to the last row into a new event file and empties
        earlier ones. The figures of the end are written if the run is finished."""
        rows = list(self.run.iter_rows())
        if rows:
            written = (self.run.path / "metrics.jsonl").stat().st_mtime
            self.began, self.step = written - rows[-1].get("seconds", 0.0), rows[-1]["step"]
        folder, now = "tensorboard", time.time()
        former = [f"{folder}/{p.name}" for p in (self.run.path / folder).glob("events.out.*")]
        self.name = f"{folder}/events.out.tfevents.{time.time_ns()}.{os.getpid()}"
        start = self.events.SessionLog(status=self.events.SessionLog.START)
        first = [
            self.events.Event(wall_time=now, file_version="brain.Event:2"),
            self.events.Event(wall_time=now, step=0, session_log=start),
        ]
        self._append([*first, *map(self._scalars, rows)])
        finished = self.run.read_json("result.json").get("status") == "finished"
        for path in sorted(self.run.plots.glob("*.png")):
            named = _STEP.fullmatch(path.stem)
            if int(named[2]) <= self.step if named else finished:
                self._append([self._image(path)])
        for name in former:  # removed ones would stop a TensorBoard that reads them
            self.run.write_bytes(name, b"")

    def _scalars(self, row: Mapping[str, Any]) -> Any:
        """The event of the numbers of a row."""
        numbers = {k: v for k, v in row.items() if k != "step" and isinstance(v, int | float)}
        values = [self.summaries.Summary.Value(tag=k, simple_value=v) for k, v in numbers.items()]
        seconds = row.get("seconds", 0.0)
        return self.events.Event(
            wall_time=self.began + seconds,
            step=row["step"],
            summary=self.summaries.Summary(value=values),
        )

    def _image(self, path: Path) -> Any:
        """The event of a PNG file: at the step in its name, else at the last one."""
        named, data = _STEP.fullmatch(path.stem), path.read_bytes()
        width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
        image = self.summaries.Summary.Image(
            width=width, height=height, colorspace=4, encoded_image_string=data
        )
        value = self.summaries.Summary.Value(tag=named[1] if named else path.stem, image=image)
        return self.events.Event(
            wall_time=path.stat().st_mtime,
            step=int(named[2]) if named else self.step,
            summary=self.summaries.Summary(value=[value]),
        )

    def _append(self, events: Sequence[Any]) -> None:
        records = io.BytesIO()
        writer = self.records.RecordWriter(records)
        for event in events:
            writer.write(event.SerializeToString())
        self.run.append_bytes(self.name, records.getvalue())
