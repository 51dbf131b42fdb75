"""Former paths of parts, which saved runs and users' presets of earlier versions name."""

from __future__ import annotations

import logging
from typing import Any

_LOG = logging.getLogger("ebmtrain")

ALIASES = {
    "ebmtrain.composition.Composition": "ebmtrain.runs.composition.Composition",
    "ebmtrain.evaluation.anomalies.BesideDetectors": (
        "ebmtrain.evaluation.ood_detection.OutlierBaselines"
    ),
    "ebmtrain.evaluation.peers.BesidePeers": "ebmtrain.evaluation.baselines.Baselines",
    "ebmtrain.optimizers.Adam": "ebmtrain.training.optimizers.Adam",
    "ebmtrain.optimizers.AdamW": "ebmtrain.training.optimizers.AdamW",
    "ebmtrain.optimizers.Schedule": "ebmtrain.training.optimizers.Schedule",
    "ebmtrain.optimizers.Sgd": "ebmtrain.training.optimizers.Sgd",
}
"""Former dotted name -> present one."""

FORMER_CALLBACKS = ("ebmtrain.commands.train.BeforeRun", "ebmtrain.cli.train.BeforeRun")
"""Entries of `hydra.callbacks` in configurations of earlier versions, now without effect."""


def resolve_aliases(config: Any) -> Any:
    """The configuration with each former `_target_` replaced by the present one, and one notice.

    A part of the configuration that holds none is returned as the same object.
    """
    found: dict[str, str] = {}
    new = _resolved(config, found)
    if found:
        names = ", ".join(f"{old} is now {name}" for old, name in found.items())
        _LOG.warning("warning: the configuration names parts by former paths: %s", names)
    return new


def _resolved(config: Any, found: dict[str, str]) -> Any:
    """Adds the former names in this part to `found`; see `resolve_aliases`."""
    if isinstance(config, dict):
        new = {key: _resolved(value, found) for key, value in config.items()}
        target = new.get("_target_")
        if isinstance(target, str) and target in ALIASES:
            new["_target_"] = found[target] = ALIASES[target]
        return new if any(new[key] is not config[key] for key in config) else config
    if isinstance(config, list):
        items = [_resolved(item, found) for item in config]
        return items if any(a is not b for a, b in zip(items, config, strict=True)) else config
    return config
