"""Energies that run away, noticed before training has diverged."""

from __future__ import annotations

from collections.abc import Mapping

BOUND = 500.0  # nats; the energies of the presets stay within some tens
PER_DIMENSION = 50.0  # added for each coordinate: energies are sums over these
LEVELS = {"energy_data": "E(data)", "energy_model": "E(chains)"}


def runaway(row: Mapping[str, float], dimensions: int) -> str | None:
    """What is to be said of a row of training metrics; None: its energies are those of a density.

    Contrast alone leaves the level and the depth of the wells free: without a base measure nothing
    holds chains that found a way to infinity, and the gap that they open grows with every update.
    """
    bound = BOUND + PER_DIMENSION * dimensions
    for key, name in LEVELS.items():
        value = row.get(key)
        if value is not None and abs(value) > bound:
            return (
                f"energies run away: {name} is {value:.2g}; lower optimizer.lr, set model.base_std "
                "or raise method.energy_regularization"
            )
    return None
