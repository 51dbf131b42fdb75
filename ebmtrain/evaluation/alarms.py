"""Energies that run away, noticed before training has diverged."""

from __future__ import annotations

from collections.abc import Mapping

_MAX_ENERGY_NATS = 500.0  # nats; the energies of the presets stay within some tens
_MAX_ENERGY_PER_DIMENSION_NATS = 50.0  # added for each coordinate: energies are sums over these
_ENERGY_NAMES = {"energy_data": "E(data)", "energy_model": "E(chains)"}


def energy_runaway(row: Mapping[str, float], dimensions: int) -> str | None:
    """What is to be said of a row of training metrics; None: its energies are those of a density.

    Contrast alone leaves the level and the depth of the wells free: without a base measure nothing
    holds chains that found a way to infinity, and the gap that they open grows with every update.
    """
    bound = _MAX_ENERGY_NATS + _MAX_ENERGY_PER_DIMENSION_NATS * dimensions
    for key, name in _ENERGY_NAMES.items():
        value = row.get(key)
        if value is not None and abs(value) > bound:
            return (
                f"energies run away: {name} is {value:.2g}; lower optimizer.lr, set model.base_std "
                "or raise method.energy_regularization"
            )
    return None


_MAX_BALANCE_NATS = 5.0  # nats; 0.03 to 0.05 in the default run


def regularization_gap(row: Mapping[str, float], regularization: float) -> str | None:
    """What is to be said of a row of training metrics; None: the bias is small.

    With alpha = `energy_regularization` of `contrast`, a factor on all energies is at its optimum
    where E(model) - E(data) = 2 alpha (E(data)^2 + E(model)^2), means over points. Energies of
    points of many dimensions are sums over these and large, so that an alpha that is nothing in the
    plane keeps noise and data apart for ever.

    Args:
        regularization: alpha.
    """
    if not {"energy_data", "energy_model"} <= row.keys():
        return None
    data, model = row["energy_data"], row["energy_model"]
    balance = 2 * regularization * (data**2 + model**2)
    if not (balance > _MAX_BALANCE_NATS and model - data > balance / 2):
        return None
    return (
        f"method.energy_regularization={regularization:g} keeps the energies of chains and data "
        f"{model - data:.2g} nats apart, and the samples from the data: lower it, or with "
        "model.base_std give method.energy_regularization=0"
    )
