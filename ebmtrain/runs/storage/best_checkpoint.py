"""The best state of a run so far and the metric that selects it: checkpoints/best.pt."""

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
        wanted: the metric. If it was never measured, nll is used, which needs no true density.
        found: metric, value and step of the best state; {} before the first measurement.
    """

    wanted: str
    found: dict[str, Any] = field(default_factory=dict)

    def followed(self, metrics: Mapping[str, Any]) -> str | None:
        """The metric among these that is compared; None if there is none."""
        if self.wanted not in metrics and self.found.get("metric") == self.wanted:
            return None  # missing this once: the best value by it is kept
        names = (self.wanted, "nll")
        return next((n for n in names if isinstance(metrics.get(n), int | float)), None)

    def update(self, metrics: Mapping[str, Any], step: int) -> bool:
        """True if the metrics of this step are the best so far, which are then remembered."""
        metric = self.followed(metrics)
        before = self.found.get("value") if self.found.get("metric") == metric else None
        bound = float("inf") if before is None else before
        if metric is None or not metrics[metric] < bound:  # NaN compares false
            return False
        self.found = {"metric": metric, "value": metrics[metric], "step": step}
        return True

    def fallback_warnings(self, metrics: Mapping[str, Any]) -> list[str]:
        """A warning if the requested metric is not among the measured ones."""
        wanted, followed = self.wanted, self.followed(metrics)
        if followed == wanted or self.found.get("metric") == wanted:
            return []
        instead = f"best.pt follows {followed}" if followed else "there will be no best.pt"
        numbers = [name for name, value in metrics.items() if isinstance(value, int | float)]
        what = "no single number" if wanted in metrics else "not measured here"
        return [f"checkpoint.best={wanted} is {what}: {instead}{nearest(wanted, numbers)}"]

    def overfit_warnings(self, metrics: Mapping[str, Any]) -> list[str]:
        """A warning at the end if the best state was clearly better than the last one."""
        best, now = self.found.get("value"), metrics.get(self.found.get("metric", ""))
        if best is None or now is None or now - best <= _OVERFIT:
            return []
        return [
            f"{self.found['metric']} was {best:.4f} at step {self.found['step']} and is {now:.4f} "
            "now: the model overfits or drifts; see checkpoints/best.pt, or lower train.steps or "
            "model.fourier_features"
        ]
