"""The option `dataset.support`: bounds of columns, of which the model's density stays inside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch

from ebmtrain.errors import ConfigError, DataError, counted, suggestion
from ebmtrain.types import Bounds

Range = Literal["positive", "periodic"] | list[float | None]
SupportOption = Range | dict[str | int, Range]
_MIN_OUTSIDE = 10.0  # rows of a Gaussian that would be outside of a range that holds all rows
_ANGLES = {"[0,360]": (0, 360), "[-180,180]": (-180, 180), "[0,2 pi]": (0, 2 * math.pi),
           "[-pi,pi]": (-math.pi, math.pi)}  # fmt: skip
_MIN_COVERED = 0.97  # of a full turn, by a column of angles


def parse_support(
    option: SupportOption | None, shape: tuple[int, ...], names: tuple[str, ...] | None
) -> Bounds | None:
    """Bounds of the elements of a point; None if there are none.

    Args:
        option: `positive`, or [low, high] with null for no bound, of all elements; or these by the
            name of a column, or by its number, from 1, if columns have no names. A column of a
            sequence (length, channels) is a channel.
        shape: of a point.
        names: of the columns.

    Raises:
        ConfigError: an unknown column, low >= high, or `periodic`, for which there is no density.
    """
    if option is None:
        return None
    low = torch.full(shape, -torch.inf, dtype=torch.float64)
    high = -low
    if not isinstance(option, Mapping):
        ends = _ends(option, "dataset.support")
        return Bounds(low.fill_(ends[0]), high.fill_(ends[1]))
    if len(shape) > 2:
        raise ConfigError(
            f"dataset.support of points of shape {shape} is one for all elements: positive, or "
            "[low,high]"
        )
    width = low.shape[-1]
    known = names or tuple(str(j + 1) for j in range(width))
    for key, given in option.items():
        name = str(key)
        if name not in known:
            counted = "" if names else f", which are numbered 1 to {width}"
            raise ConfigError(
                f"dataset.support.{name}: the data have no column {name}{counted}"
                + suggestion(name, known)
            )
        j = known.index(name)
        low[..., j], high[..., j] = _ends(given, f"dataset.support.{name}")
    return Bounds(low, high)


def _ends(given: Range, key: str) -> tuple[float, float]:
    if given == "positive":
        return 0.0, math.inf
    if given == "periodic":
        raise ConfigError(
            f"{key}=periodic: models have no periodic coordinates; cut the circle where points are "
            "few, and give the two ends of one turn from there, as [-180,180]"
        )
    if isinstance(given, str) or len(given) != 2:
        raise ConfigError(f"{key} must be positive or [low,high], with null for no bound")
    low = -math.inf if given[0] is None else float(given[0])
    high = math.inf if given[1] is None else float(given[1])
    if not low < high:
        raise ConfigError(f"{key}=[{low:g},{high:g}]: the first must be less than the second")
    return low, high


def check_inside(
    what: str,
    values: np.ndarray,
    names: tuple[str, ...] | None,
    bounds: Bounds,
    steps: np.ndarray | None = None,
) -> None:
    """
    Args:
        what: name of the data.
        values: (n, *event).
        steps: widths of the noise that will be added, which broadcast to an event: x + h u, with u
            in [0, 1), has to be inside, and x may be the lower bound. None: no noise.

    Raises:
        DataError: a value is not inside its bounds; one line with its row and the remedy.
    """
    low, high, h = bounds.low.numpy(), bounds.high.numpy(), 0.0 if steps is None else steps
    outside = (values < low) | ((values == low) & (h == 0)) | (values + h > high)
    outside |= (values >= high) & (h == 0)
    if not outside.any():
        return
    row, *at = np.argwhere(outside)[0].tolist()
    column = names[at[-1]] if names else str(at[-1] + 1)
    ends = f"{low[tuple(at)]:g} < x < {high[tuple(at)]:g}"
    value = values[(row, *at)]
    remedy = "correct or leave out such rows, or widen dataset.support"
    if value in (low[tuple(at)], high[tuple(at)]):
        remedy += "; for counts give dataset.dequantize=true"
    others = counted(int(outside[(..., *at)].sum()) - 1, "other")
    raise DataError(
        f"{what} column {column} is {value:.9g} in row {row + 1} (counted from 1) and in "
        f"{others}, not inside of dataset.support, {ends}: "
        f"{remedy}"
    )


def support_notes(
    path: str,
    values: np.ndarray,
    names: tuple[str, ...] | None,
    bounds: Bounds | None,
    steps: np.ndarray,
) -> list[str]:
    """Notes on columns (n, d) that end where a density of R^d does not: at 0, or at both ends of
    an interval, and on angles. Of columns with a step there are none."""
    found = {}
    for j, x in enumerate(values.T):
        if steps[j] or (bounds is not None and bool(bounds.bounded[j])):
            continue
        angle = next((k for k, ends in _ANGLES.items() if _covers(x, *ends)), None)
        if angle is not None:
            found[j] = angle.replace("2 pi", "6.2832").replace("pi", "3.1416"), "an angle"
        elif x.min() > 0 and 0.5 < x.max() < 1 and _leaves(x, 0, 1):
            found[j] = "[0,1]", "between 0 and 1"
        elif x.min() > 0 and _leaves(x, 0, math.inf):
            found[j] = "positive", "positive"
    if not found:
        return []
    label = {j: names[j] if names else str(j + 1) for j in found}
    which = ", ".join(f"{label[j]} ({what})" for j, (_, what) in found.items())
    option = ",".join(f"{label[j]}:{end}" for j, (end, _) in found.items())
    return [
        f"{path} has columns that end where a density on the real line does not: {which}; "
        f"'dataset.support={{{option}}}' keeps the model and its samples inside"
    ]


def _leaves(x: np.ndarray, low: float, high: float) -> bool:
    """Whether of as many numbers as x, of a Gaussian with its moments, some are expected outside of
    an interval."""
    distances = np.array([x.mean() - low, high - x.mean()]) / (math.sqrt(2) * x.std())
    return len(x) / 2 * max(map(math.erfc, distances)) > _MIN_OUTSIDE


def _covers(x: np.ndarray, low: float, high: float) -> bool:
    return bool(low < x.min() and x.max() < high and np.ptp(x) > _MIN_COVERED * (high - low))
