"""In-memory data sets, whose batches are a pure function of step, size and seed."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ebmtrain.datasets.support import REAL
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Batch, Density, Labels, Standardization, Support


class BatchSource(Protocol):
    """Batches of points other than the training points."""

    def __call__(self, points: Points, step: int, size: int, seed: int) -> Batch:
        """The batch of one update, in the data's units, on the CPU: a function of (step, size,
        seed), with arguments as of `Points.batch`.
        """
        ...


@dataclass(eq=False, repr=False)
class Points:
    """A `Dataset` in memory.

    Epoch e is a permutation drawn from (seed, e), and batch `step` consists of positions
    step * size ... (step + 1) * size of the infinite sequence of epochs. A batch is therefore a
    function of (step, size, seed): a resumed run sees the batches of an uninterrupted one, and each
    point occurs once per epoch, whether or not `size` divides the number of points.

    Args:
        train: (n, *event), in the data's units; kept in float64 on the CPU.
        holdout: (m, *event), likewise.
        standardization: from the data's units to the model's.
        truth: density of the points, where known.
        support: space of the points.
        names: of the columns of a table.
        row_numbers: see `HasRowNumbers`; None: they are not known.
        labels: classes of the points; None: they have none.
        pixels: smallest and largest value of a pixel; None: points are not images.
        anomalies: (k, *event), of the class that was left out; None: none was.
        source: of the batches, with `train` as an example of them; None: the training points.
        notes: on the data, shown as warnings before training.
        steps, origins: see `HasSteps`; None: the points are as they are observed.
        dtype, device: of the batches.
    """

    train: Tensor
    holdout: Tensor
    _: KW_ONLY
    standardization: Standardization
    truth: Density | None = None
    support: Support = REAL
    names: tuple[str, ...] | None = None
    row_numbers: Tensor | None = None
    labels: Labels | None = None
    pixels: tuple[float, float] | None = None
    anomalies: Tensor | None = None
    source: BatchSource | None = None
    notes: tuple[str, ...] = ()
    steps: Tensor | None = None
    origins: Tensor | None = None
    dtype: torch.dtype = torch.float32
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        self.train = self.train.to("cpu", torch.float64)
        self.holdout = self.holdout.to("cpu", torch.float64)
        if self.anomalies is not None:
            self.anomalies = self.anomalies.to("cpu", torch.float64)
        self._shuffled: tuple[int, int, Tensor] | None = None  # (seed, epoch, its permutation)

    def to(self, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Points:
        """The same points with batches of this dtype on this device."""
        return replace(self, dtype=dtype, device=device)

    @cached_property
    def _standardized(self) -> Tensor:
        # Cast last: standardized points are of order one in any units of the data.
        return self.standardization.to_standard(self.train).to(self.device, self.dtype)

    @cached_property
    def _classes(self) -> Tensor | None:
        return None if self.labels is None else self.labels.train.to(self.device)

    def batch(self, step: int, size: int, seed: int) -> Batch:
        """The standardized points of one update and their classes, as new tensors.

        Args:
            step: update, from 0.
            size: 1 <= size <= n.
            seed: of the shuffling, >= 0.

        Raises:
            ValueError: `size` is out of its range.
        """
        if self.source is None:
            rows = self.rows(step, size, seed)
            y = None if self._classes is None else self._classes.index_select(0, rows)
            return Batch(self._standardized.index_select(0, rows), y)
        x, y = self.source(self, step, size, seed)
        x = _to_device(self.standardization.to_standard(x), self.device, self.dtype)
        return Batch(x, None if y is None else _to_device(y, self.device))

    def rows(self, step: int, size: int, seed: int) -> Tensor:
        """Indices of the training points in the batch of one update, (size,); arguments as of
        `batch`. On the CPU if there is a `source`, else on the device of the batches.
        """
        count = self.train.shape[0]
        if not 1 <= size <= count:
            raise ValueError(
                f"batch size {size} does not fit the {count} training points: "
                f"choose 1 to {count}, or give more points"
            )
        epoch, start = divmod(step * size, count)
        index = self._permutation(seed, epoch)[start : start + size]
        missing = size - index.shape[0]
        if missing:
            index = torch.cat([index, self._permutation(seed, epoch + 1)[:missing]])
        return index

    def _permutation(self, seed: int, epoch: int) -> Tensor:
        if self._shuffled is None or self._shuffled[:2] != (seed, epoch):
            # Drawn on the CPU, so that every device gets the same batches.
            order = torch.randperm(self.train.shape[0], generator=stream(seed, "epoch", epoch))
            self._shuffled = seed, epoch, order if self.source else _to_device(order, self.device)
        return self._shuffled[2]


def _to_device(x: Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """x on a device, cast to `dtype` (None: its own), without synchronisation.

    A copy from pageable memory may wait for all work that is queued on a GPU. A copy from pinned
    memory is queued itself; torch keeps the memory until the copy is complete.
    """
    x = x.to(dtype or x.dtype)
    if torch.device(device).type != "cuda":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)
