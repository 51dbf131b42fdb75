"""How well chains have mixed: R-hat and effective sample sizes of what was recorded along them.

Vehtari, Gelman, Simpson, Carpenter & Buerkner, Bayesian Analysis 16(2), 2021, by `arviz-stats`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_TAIL_QUANTILES = (
    0.05,
    0.95,
)  # the quantiles whose worse effective sample size is that of the tails


class Mixing(NamedTuple):
    """One number per quantity, (quantities,); NaN where no chain ever moved."""

    rhat: np.ndarray
    """Rank-normalised split R-hat, the larger of that of the values and of their distances from
    the median: about sqrt(1 + tau / n) in equilibrium, where the n draws in half of a chain are
    worth n / tau independent ones."""
    bulk: np.ndarray
    """Independent draws that all chains together are worth, for means; may exceed their number."""
    tail: np.ndarray
    """The same for the quantiles at 5 and 95 %."""


def mixing(series: np.ndarray) -> Mixing:
    """Of (quantities, chains, draws), finite; at least 2 chains and 4 draws."""
    from arviz_stats.base.array import array_stats  # scipy.stats takes a second to import

    x = np.asarray(series, dtype=float)
    still = np.ptp(x, axis=2).max(1) == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (
            array_stats.rhat(x, chain_axis=1, draw_axis=2, method="rank"),
            array_stats.ess(x, chain_axis=1, draw_axis=2, method="bulk"),
            array_stats.ess(x, chain_axis=1, draw_axis=2, method="tail", prob=_TAIL_QUANTILES),
        )
    return Mixing(*(np.where(still, np.nan, numbers) for numbers in found))


def ess_growth(trace: np.ndarray, lengths: list[int]) -> tuple[list[float], list[float]]:
    """Bulk and tail effective sample sizes of the first draws of one quantity.

    Args:
        trace: (chains, draws).
        lengths: numbers of draws, at least 4 each.
    """
    parts = [mixing(trace[None, :, :n]) for n in lengths]
    return [float(part.bulk[0]) for part in parts], [float(part.tail[0]) for part in parts]


def autocorrelation(trace: np.ndarray, most: int) -> np.ndarray:
    """rho_t = mean_{c, i} (x_{c, i} - m) (x_{c, i + t} - m) / variance for t = 0 to `most`, with m
    and variance of all chains together: chains that each stay in a mode of their own are
    correlated for ever, though each alone would look well mixed.

    Args:
        trace: (chains, draws), not constant.
        most: less than the number of draws.
    """
    centred = trace - trace.mean()
    n = trace.shape[1]
    products = [(centred[:, : n - t] * centred[:, t:]).mean() for t in range(most + 1)]
    return np.array(products) / centred.var()
