"""Warnings about energies during training, before a run has diverged."""

from __future__ import annotations

from collections.abc import Mapping

_MAX_ENERGY_NATS = 500.0  # the energies of the presets stay within some tens
_MAX_ENERGY_PER_DIMENSION_NATS = 50.0  # added per coordinate, since energies are sums over them
_ENERGY_NAMES = {"energy_data": "E(data)", "energy_model": "E(chains)"}


def energy_runaway(row: Mapping[str, float], dimensions: int) -> str | None:
    """A warning if the energies of a row of training metrics grow without bound; None otherwise.

    The contrastive loss determines neither the level of the energies nor the depth of the wells.
    Without a base measure nothing stops chains that move towards infinity, and the energy gap that
    they cause grows with every update. The bound is 500 nats plus 50 nats for each coordinate.

    Args:
        row: with `energy_data` and `energy_model`, mean energies in nats; either may be missing.
        dimensions: coordinates of a point.
    """
    bound = _MAX_ENERGY_NATS + _MAX_ENERGY_PER_DIMENSION_NATS * dimensions
    for key, name in _ENERGY_NAMES.items():
        if abs(value := row.get(key, 0.0)) > bound:
            return (
                f"energies run away: {name} is {value:.2g}; lower optimizer.lr, set model.base_std "
                "or raise method.energy_regularization"
            )
    return None


_MAX_GAP_NATS = 5.0  # the gap is 0.03 to 0.05 in the default run


def regularization_gap(row: Mapping[str, float], regularization: float) -> str | None:
    """A warning if the energy regularization keeps chains and data apart; None otherwise.

    With alpha = `energy_regularization` of `contrast`, the optimum over a common factor of all
    energies satisfies E(model) - E(data) = 2 alpha (E(data)^2 + E(model)^2), with means over
    points. Energies of points with many dimensions are sums over the dimensions and therefore
    large: an alpha that is negligible in two dimensions then keeps noise and data apart
    indefinitely.

    Args:
        row: with `energy_data` and `energy_model`, mean energies in nats.
        regularization: alpha.
    """
    if not {"energy_data", "energy_model"} <= row.keys():
        return None
    data, model = row["energy_data"], row["energy_model"]
    optimum = 2 * regularization * (data**2 + model**2)
    if not (optimum > _MAX_GAP_NATS and model - data > optimum / 2):
        return None
    return (
        f"method.energy_regularization={regularization:g} keeps the energies of chains and data "
        f"{model - data:.2g} nats apart, and the samples from the data: lower it, or with "
        "model.base_std give method.energy_regularization=0"
    )
