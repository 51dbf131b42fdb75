"""TODO ebmtrain/training/metrics.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor


class Metrics(Mapping[str, Tensor]):
    """Of an update: numbers by name, of shape () each, detached and left on the device as one
    vector, for that is how rows of them are averaged."""

    def __init__(self, names: tuple[str, ...], vector: Tensor):
        self.names = names
        self.vector = vector

    @classmethod
    def of(cls, numbers: Mapping[str, Tensor]) -> Metrics:
        """Copies: the method may own these tensors."""
        return cls(tuple(numbers), torch.stack(list(numbers.values())))

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(name)
        return self.vector[self.names.index(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def window_means(window: dict[tuple[str, ...], list[Tensor]]) -> dict[str, float]:
    """Of each metric over the updates that had it. Waits for the device once."""
    columns: dict[str, list[Tensor]] = {}
    for names, rows in window.items():
        for name, column in zip(names, torch.stack(rows).T, strict=True):
            columns.setdefault(name, []).append(column)
    values = torch.stack([torch.cat(parts).mean() for parts in columns.values()])
    return dict(zip(columns, values.tolist(), strict=True))
