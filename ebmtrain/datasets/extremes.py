"""Values of the data that are so far from the others that they set the scale of all of them."""

from __future__ import annotations

import torch

from ebmtrain.types import Dataset, HasRowNumbers, names_of

_MAX_SPREADS = 20.0  # of a million points, a Gaussian's reach 4, a Laplace distribution's 11
_MAX_NAMED = 3
_MAX_QUANTILE_NUMBERS = 2**22  # from which quantiles are computed


def extreme_values(dataset: Dataset) -> list[str]:
    """A warning that names the values farther from the median of their column than 20 times the
    width of the middle half of the column; none if there are none, or if half of the column is one
    value.
    """
    points = torch.cat([dataset.train, dataset.holdout]).flatten(1)
    few = points[:: -(-points.numel() // _MAX_QUANTILE_NUMBERS)]  # shuffled by the split
    low, median, high = few.nanquantile(torch.tensor([0.25, 0.5, 0.75]).to(few), 0)
    width = high - low
    far = ((points - median).abs() > _MAX_SPREADS * width) & (width > 0)
    if not far.any():
        return []
    names, found = names_of(dataset), far.nonzero()
    sizes = ((points - median).abs() / width)[far]
    rows = dataset.row_numbers if isinstance(dataset, HasRowNumbers) else None
    shown = []
    for i, column in found[sizes.argsort(descending=True)[:_MAX_NAMED]].tolist():
        row = f"row {int(rows[i]) + 1}, " if rows is not None else ""
        name = f"column {column + 1}" if names is None else names[column]
        shown.append(
            f"{points[i, column]:.4g} ({row}{name}; half of the column is within "
            f"{low[column]:.4g} to {high[column]:.4g})"
        )
    more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
    return [
        f"the data have extreme values, which set the scale of all others: {', '.join(shown)}"
        f"{more}, counted from 1; remove or clip them, or give dataset.standardize=robust, the "
        "scale by median and quartiles"
    ]
