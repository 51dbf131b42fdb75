"""Which state of a run was the best so far, and by which number: what checkpoints/best.pt holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ebmtrain.errors import nearest

_OVERFIT = 0.05  # nats by which the best state may be better than the last without a word


@dataclass
class BestCheckpoint:
    """The least value of a metric.

    Args:
        wanted: the metric; nll, which needs no true density, stands in for one that was never
            measured.
        found: {} until something was measured, then metric, value and step.
    """

    wanted: str
    found: dict[str, Any] = field(default_factory=dict)

    def followed(self, metrics: Mapping[str, Any]) -> str | None:
        """The metric among these that is compared; None: none of them."""
        if self.wanted not in metrics and self.found.get("metric") == self.wanted:
            return None  # left out this once: what is best by it is not given up for another number
        names = (self.wanted, "nll")
        return next((n for n in names if isinstance(metrics.get(n), int | float)), None)

    def update(self, metrics: Mapping[str, Any], step: int) -> bool:
        """Whether the state of this step, whose numbers these are, is the best; then it is kept."""
        metric = self.followed(metrics)
        before = self.found.get("value") if self.found.get("metric") == metric else None
        bound = float("inf") if before is None else before
        if metric is None or not metrics[metric] < bound:  # NaN compares false
            return False
        self.found = {"metric": metric, "value": metrics[metric], "step": step}
        return True

    def fallback_warnings(self, metrics: Mapping[str, Any]) -> list[str]:
        """What to say where the metric that is wanted is not among all that are measured."""
        wanted, followed = self.wanted, self.followed(metrics)
        if followed == wanted or self.found.get("metric") == wanted:
            return []
        instead = f"best.pt follows {followed}" if followed else "there will be no best.pt"
        numbers = [name for name, value in metrics.items() if isinstance(value, int | float)]
        what = "no single number" if wanted in metrics else "not measured here"
        return [f"checkpoint.best={wanted} is {what}: {instead}{nearest(wanted, numbers)}"]

    def overfit_warnings(self, metrics: Mapping[str, Any]) -> list[str]:
        """What to say in the end where it was clearly better than the last state is."""
        best, now = self.found.get("value"), metrics.get(self.found.get("metric", ""))
        if best is None or now is None or now - best <= _OVERFIT:
            return []
        return [
            f"{self.found['metric']} was {best:.4f} at step {self.found['step']} and is {now:.4f} "
            "now: the model overfits or drifts; see checkpoints/best.pt, or lower train.steps or "
            "model.fourier_features"
        ]
