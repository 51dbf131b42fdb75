"""One run in a report, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EVALUATIONS, SECONDS = "energy_evaluations", "seconds"
_LANDSCAPES = "landscapes"  # in the place of a data set, where there is none
# How many of its points there are, in what units and in how many places the network sees them: not
# what they are of.
_SIZES = ("n_train", "n_holdout", "holdout", "fresh", "standardize", "shift", "flip")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a run is and what became of it.

    Args:
        path: its folder.
        name: the same beneath the one that is reported on, in printable characters.
        status: finished, diverged, failed, interrupted, running; killed (it left no result) or
            unreadable.
        reason: why it did not finish.
        choices: the preset of each group.
        settings: the resolved configuration as dotted keys and text, without seeds.
        metrics: finite numbers at the end.
        curve: the evaluations during training, each with `step`, `seconds`,
            `energy_evaluations` as far as they were logged, and the metrics that were finite.
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

    @property
    def finished(self) -> bool:
        return self.status == "finished"

    @property
    def numbers(self) -> dict[str, float]:
        """All that a leaderboard can be sorted by."""
        costs = {"step": self.step, SECONDS: self.seconds, EVALUATIONS: self.energy_evaluations}
        return {**self.metrics, **costs}

    @property
    def dataset(self) -> str:
        """The name of what it learnt. A landscape learnt nothing: it has no row of metrics."""
        if self.finished and not self.curve and "nll" not in self.metrics:
            return _LANDSCAPES
        target = self.settings.get("dataset._target_", "unknown").rpartition(".")[2]
        return self.choices.get("dataset", target)

    @property
    def data_settings(self) -> tuple[tuple[str, str], ...]:
        """What its data are drawn from: runs with the same one may be compared."""
        if self.dataset == _LANDSCAPES:
            return ()
        keys = {key: value for key, value in self.settings.items() if key.startswith("dataset.")}
        return tuple(sorted((k, v) for k, v in keys.items() if k.split(".")[1] not in _SIZES))
