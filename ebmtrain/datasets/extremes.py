"""Values of the data that are so far from the others that they set the scale of all of them."""

from __future__ import annotations

import torch

from ebmtrain.types import Dataset, HasPixels, HasRowNumbers, names_of

_MAX_SPREADS = 20.0  # of a million points, a Gaussian's reach 4, a Laplace distribution's 11
_MAX_SHARE = 0.2  # of a column
_MAX_NAMED = 3
_ROWS = 4_096
_MAX_QUANTILE_NUMBERS = 2**22  # from which quantiles are computed


def extreme_values(dataset: Dataset) -> list[str]:
    """A warning that names the values farther from the median of their column than 20 times the
    width of the middle half of the column. None if there are none, if half of the column is one
    value, or if a fifth of the column is as far: then it is its distribution. Columns with
    bounds are compared after their map to the real line. Pixels are not tested.
    """
    if isinstance(dataset, HasPixels) and dataset.pixels is not None:
        return []
    units, parts = dataset.standardization, (dataset.train, dataset.holdout)
    numbers = sum(x.numel() for x in parts)
    few = torch.cat([x[:: -(-numbers // _MAX_QUANTILE_NUMBERS)] for x in parts])
    few = units.to_linear(few).flatten(1)
    low, median, high = few.nanquantile(torch.tensor([0.25, 0.5, 0.75]).to(few), 0)
    width = high - low
    places, values, sizes, begin = [], [], [], 0
    for x in (rows for part in parts for rows in part.split(_ROWS)):  # bounds the memory
        part = units.to_linear(x).flatten(1)
        size = (part - median).abs() / width.where(width > 0, torch.inf)
        far = size > _MAX_SPREADS
        places.append(far.nonzero() + torch.tensor([begin, 0]))
        values.append(x.flatten(1)[far])
        sizes.append(size[far])
        begin += len(part)
    found, value, size = torch.cat(places), torch.cat(values), torch.cat(sizes)
    rare = (torch.bincount(found[:, 1], minlength=len(width)) < _MAX_SHARE * begin)[found[:, 1]]
    found, value, size = found[rare], value[rare], size[rare]
    if not len(found):
        return []
    names = names_of(dataset)
    ends = torch.stack([low, high]).view(2, *dataset.train.shape[1:])
    low, high = units.from_linear(ends).flatten(1)
    rows = dataset.row_numbers if isinstance(dataset, HasRowNumbers) else None
    shown = []
    for k in size.argsort(descending=True)[:_MAX_NAMED].tolist():
        i, column = found[k].tolist()
        row = f"row {int(rows[i]) + 1}, " if rows is not None else ""
        name = f"column {column + 1}" if names is None else names[column]
        shown.append(
            f"{value[k]:.4g} ({row}{name}; half of the column is within "
            f"{low[column]:.4g} to {high[column]:.4g})"
        )
    more = f" and {len(found) - _MAX_NAMED} more" if len(found) > _MAX_NAMED else ""
    return [
        f"the data have extreme values, which set the scale of all others: {', '.join(shown)}"
        f"{more}, counted from 1; remove or clip them; dataset.standardize=robust lets median "
        "and quartiles set the scale, and leaves them far outside"
    ]
