"""Metrics of updates and their means over a window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


class Metrics(Mapping[str, Tensor]):
    """The metrics of one update by name, shape () each, kept on the device as one vector.

    Args:
        vector: (n,), detached, in the order of the names.
    """

    def __init__(self, names: tuple[str, ...], vector: Tensor):
        self.names = names
        self.vector = vector

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(name)
        return self.vector[self.names.index(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def window_means(window: dict[tuple[str, ...], list[Tensor]]) -> dict[str, float]:
    """The mean of each metric over the updates that report it. Waits for the device once.

    Args:
        window: vectors of metrics by the names of their entries.
    """
    columns: dict[str, list[Tensor]] = {}
    for names, rows in window.items():
        for name, column in zip(names, torch.stack(rows).T, strict=True):
            columns.setdefault(name, []).append(column)
    values = torch.stack([torch.cat(parts).mean() for parts in columns.values()])
    return dict(zip(columns, values.tolist(), strict=True))
