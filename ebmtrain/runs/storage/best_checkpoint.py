"""The best state of a run and the metric that selects it: checkpoints/best.pt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ebmtrain.errors import nearest

_OVERFIT = 0.05  # nats by which the best state may be better than the last without a warning


@dataclass
class BestCheckpoint:
    """The smallest value of a metric so far.

    Args:
        metric: name of the requested metric. Where it was never measured, nll is used, which needs
            no true density.
        record: metric, value and step of the best state; {} before the first measurement.
    """

    metric: str
    record: dict[str, Any] = field(default_factory=dict)

    def _select_metric(self, metrics: Mapping[str, Any]) -> str | None:
        """The metric among these that is compared; None if there is none."""
        if self.metric not in metrics and self.record.get("metric") == self.metric:
            return None  # missing this once: the best value by it is kept
        names = (self.metric, "nll")
        return next((n for n in names if isinstance(metrics.get(n), int | float)), None)

    def update(self, metrics: Mapping[str, Any], step: int) -> bool:
        """True if the metrics of this step are the best so far, which are then remembered."""
        metric = self._select_metric(metrics)
        before = self.record.get("value") if self.record.get("metric") == metric else None
        bound = float("inf") if before is None else before
        if metric is None or not metrics[metric] < bound:  # NaN compares false
            return False
        self.record = {"metric": metric, "value": metrics[metric], "step": step}
        return True

    def fallback_warnings(self, metrics: Mapping[str, Any]) -> list[str]:
        """A warning if the requested metric is not among the measured ones."""
        selected = self._select_metric(metrics)
        if self.metric in (selected, self.record.get("metric")):
            return []
        effect = f"best.pt follows {selected}" if selected else "there will be no best.pt"
        numbers = [name for name, value in metrics.items() if isinstance(value, int | float)]
        cause = "no single number" if self.metric in metrics else "not measured here"
        near = nearest(self.metric, numbers)
        return [f"checkpoint.best={self.metric} is {cause}: {effect}{near}"]

    def final_warnings(self, metrics: Mapping[str, Any]) -> list[str]:
        """A warning if the best state was clearly better than the last one, or if the last one
        cannot be compared with it.

        Args:
            metrics: of the last evaluation.
        """
        if not self.record:
            return []
        best, now = self.record["value"], metrics.get(self.record["metric"])
        if now is None:
            return [
                f"{self.record['metric']} is missing in the last evaluation: best.pt is of step "
                f"{self.record['step']}, the best of those that have it"
            ]
        if now - best <= _OVERFIT:
            return []
        return [
            f"{self.record['metric']} was {best:.4f} at step {self.record['step']} and is "
            f"{now:.4f} now: the model overfits or drifts; see checkpoints/best.pt, or lower "
            "train.steps or model.fourier_features"
        ]
