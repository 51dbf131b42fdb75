"""Warnings about energies during training, and what shows that a run has diverged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from ebmtrain.errors import counted
from ebmtrain.types import Standardization

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


_MAX_GAP_PER_DIMENSION_NATS = 3.0  # of samples and held-out points
_MAX_LEVEL_NATS, _MAX_LEVEL_PER_DIMENSION_NATS = 100.0, 10.0
_MIN_ACCEPTANCE = 0.1
_MAX_NLL_PER_DIMENSION_NATS = 10.0  # above that of independent Gaussians


def divergence(
    metrics: Mapping[str, object], row: Mapping[str, float], data: GaussianReference, chains: int
) -> Divergence | None:
    """What shows that the trained model is not one of the data; None if nothing does.

    The NLL does, if it or its lower bound exceeds that of independent Gaussians by more than 10
    nats per coordinate; where the NLL is known and smaller, nothing else counts. Energies alone do
    not: those of a sharp density are large, any constant may be added to them, and a few steps
    leave chains and data apart. Without an NLL the model has diverged if the energies of chains and
    data are more than 3 nats per coordinate apart, or the mean energy of either beyond 100 nats
    plus 10 per coordinate, while less than a tenth of the steps are accepted or the chains hold
    less than one independent draw each.

    Args:
        metrics: of the evaluation: `energy_gap`, `chain_acceptance`, `ess_bulk`, `nll` or
            `nll_lower`, those that there are.
        row: metrics of the last updates: `energy_data`, `energy_model`, if there are any.
        data: NLL of independent Gaussians with the moments of the training points.
        chains: of which `ess_bulk` is the effective sample size.
    """

    def number(name: str) -> float | None:
        value = metrics.get(name)
        return float(value) if isinstance(value, int | float) else None

    d = data.dimensions
    acceptance, ess = number("chain_acceptance"), number("ess_bulk")
    slow = acceptance is not None and acceptance < _MIN_ACCEPTANCE
    stuck = ess is not None and ess < chains
    nll = number("nll")
    least = number("nll_lower") if nll is None else nll
    if least is not None and least - data.nll > _MAX_NLL_PER_DIMENSION_NATS * d:
        cause = f"the NLL of {least:.4g} nats is {least - data.nll:.2g} above that of independent "
        return Divergence(f"{cause}Gaussians: the model has its mass far from the data", slow)
    if nll is not None:
        return None
    gap, level = number("energy_gap"), max(abs(row.get(key, 0.0)) for key in _ENERGY_NAMES)
    apart = gap is not None and abs(gap) > _MAX_GAP_PER_DIMENSION_NATS * d
    high = level > _MAX_LEVEL_NATS + _MAX_LEVEL_PER_DIMENSION_NATS * d
    if not ((apart or high) and (slow or stuck)):
        return None
    energies = f"mean energies reach {level:.3g} nats"
    if gap is not None and apart:
        energies = f"the energies of samples and held-out points are {abs(gap):.3g} nats apart"
    chains_are = f"{chains} chains hold {ess:.0f} independent draws"
    if acceptance is not None and slow:
        chains_are = f"{acceptance:.1%} of the steps are accepted"
    return Divergence(f"{energies} in {counted(d, 'dimension')}, and {chains_are}", slow)


class Divergence(NamedTuple):
    """What shows that a model has diverged."""

    cause: str
    slow: bool
    """Less than a tenth of the steps of its chains are accepted."""


class GaussianReference(NamedTuple):
    """A model to compare with: independent Gaussians."""

    nll: float
    """In nats, in the data's units, of points with the same moments."""
    dimensions: int

    @classmethod
    def of(cls, points: Tensor, units: Standardization) -> GaussianReference:
        """Of the moments of points, (n, *event), in the data's units, or mapped to R^d if they have
        bounds. A standard deviation counts as at least 1e-3 of the units."""
        u = units.to_standard(points).flatten(1)
        std = u.std(0, correction=0).clamp(min=1e-3)
        d = u.shape[1]
        nll = float(std.log().sum()) + d / 2 * math.log(2 * math.pi * math.e) + units.log_volume
        return cls(nll - float(units.log_slope(points).mean()), d)
