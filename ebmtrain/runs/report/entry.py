"""One run of a report as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ebmtrain.config.presets import dataset_name

EVALUATIONS, SECONDS = "energy_evaluations", "seconds"
_LANDSCAPES = "landscapes"  # the data set of runs without data
# Settings of a data set that change its size, units or augmentation, not its distribution.
_SIZES = ("n_train", "n_holdout", "holdout", "fresh", "standardize", "shift", "flip")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Configuration and result of a run.

    Args:
        path: its folder.
        name: its path relative to the reported folder, in printable characters.
        status: finished, diverged, failed, interrupted, running, killed (no result was written) or
            unreadable.
        reason: why it did not finish.
        choices: the preset of each group.
        settings: the resolved configuration as dotted keys and text, without seeds.
        metrics: finite numbers at the end.
        curve: finite numbers of the evaluations during training, with `step`, `seconds` and
            `energy_evaluations` if they were logged.
        updates: finite numbers of the updates between them, some of many, in any status.
        warnings: of the last evaluation and of the end, each with its remedy.
        command: the arguments that started it, or with which it is started alone if it is a job.
    """

    path: Path
    name: str
    status: str
    reason: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    seed: str = ""
    step: int = 0
    seconds: float = 0.0
    energy_evaluations: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[Mapping[str, float]] = ()
    updates: Sequence[Mapping[str, float]] = ()
    warnings: Sequence[str] = ()
    command: Sequence[str] = ()

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers by which a leaderboard can be sorted."""
        costs = {"step": self.step, SECONDS: self.seconds, EVALUATIONS: self.energy_evaluations}
        return {**self.metrics, **costs}

    @property
    def dataset(self) -> str:
        """The name of the data set; all landscapes have the same."""
        if self.finished and not self.curve and "nll" not in self.metrics:
            return _LANDSCAPES
        target = self.settings.get("dataset._target_", "unknown").rpartition(".")[2]
        name = self.choices.get("dataset", target)
        return dataset_name(name, self.settings.get("dataset.path"))

    @property
    def data_settings(self) -> tuple[tuple[str, str], ...]:
        """Settings that determine the data distribution: runs with equal ones are comparable."""
        if self.dataset == _LANDSCAPES:
            return ()
        keys = {key: value for key, value in self.settings.items() if key.startswith("dataset.")}
        return tuple(sorted((k, v) for k, v in keys.items() if k.split(".")[1] not in _SIZES))
