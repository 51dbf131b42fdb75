"""R-hat, effective sample sizes and autocorrelations of quantities recorded along chains.

Vehtari, Gelman, Simpson, Carpenter & Buerkner, Bayesian Analysis 16(2), 2021, by `arviz-stats`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_TAIL_QUANTILES = (0.05, 0.95)


class Mixing(NamedTuple):
    """Mixing diagnostics of each quantity, (quantities,) each; NaN where no chain ever moved."""

    rhat: np.ndarray
    """Rank-normalised split R-hat, the larger of that of the values and of their distances from the
    median: about sqrt(1 + tau / n) in equilibrium, with n draws in half of a chain and integrated
    autocorrelation time tau.
    """
    bulk: np.ndarray
    """Effective sample size of all chains for means; may exceed the number of draws."""
    tail: np.ndarray
    """Effective sample size for the quantiles at 5 and 95 %, the smaller of the two."""


def mixing(series: np.ndarray) -> Mixing:
    """Mixing diagnostics of finite series, (quantities, chains, draws), of at least 2 chains and 4
    draws.
    """
    from arviz_stats.base.array import array_stats  # scipy.stats takes a second to import

    x = np.asarray(series, dtype=float)
    constant = np.ptp(x, axis=2).max(1) == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        diagnostics = (
            array_stats.rhat(x, chain_axis=1, draw_axis=2, method="rank"),
            array_stats.ess(x, chain_axis=1, draw_axis=2, method="bulk"),
            array_stats.ess(x, chain_axis=1, draw_axis=2, method="tail", prob=_TAIL_QUANTILES),
        )
    return Mixing(*(np.where(constant, np.nan, numbers) for numbers in diagnostics))


def ess_growth(trace: np.ndarray, lengths: list[int]) -> tuple[list[float], list[float]]:
    """Bulk and tail effective sample sizes of the first draws of one quantity, (chains, draws), for
    each number of draws in `lengths`, at least 4.
    """
    parts = [mixing(trace[None, :, :n]) for n in lengths]
    return [float(part.bulk[0]) for part in parts], [float(part.tail[0]) for part in parts]


def autocorrelation(trace: np.ndarray, max_lag: int) -> np.ndarray:
    """Autocorrelation rho_t = mean_{c, i} (x_{c, i} - m) (x_{c, i + t} - m) / variance for t = 0 to
    `max_lag`, (max_lag + 1,). Mean m and variance are those of all chains, so that chains that each
    stay in a different mode remain correlated at all lags, even if each alone looks well mixed.

    Args:
        trace: (chains, draws), not constant.
        max_lag: less than the number of draws.
    """
    centred = trace - trace.mean()
    n = trace.shape[1]
    products = [(centred[:, : n - t] * centred[:, t:]).mean() for t in range(max_lag + 1)]
    return np.array(products) / centred.var()
