"""In-memory data sets, whose batches are a pure function of step, size and seed."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from ebmtrain.datasets.leave_class_out import leave_class_out
from ebmtrain.datasets.standardization import Standardize
from ebmtrain.datasets.support import REAL
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Batch, Density, Labels, Standardization, Support


def random_split(
    points: Tensor,
    *,
    holdout: float,
    standardize: Standardize,
    seed: int,
    names: tuple[str, ...] | None = None,
    labels: Tensor | None = None,
    classes: tuple[str, ...] = (),
    without: int | None = None,
) -> Points:
    """A random split into training and held-out points.

    Args:
        points: (n, *event), n >= 2.
        holdout: fraction of held-out points, in (0, 1). At least one point is held out and at
            least one is for training.
        standardize: see `fit_standardization`.
        seed: of the split.
        names: names of the columns.
        labels: (n,), class of each point, from 0; None: no classes.
        classes: names of the classes.
        without: a class that is excluded from both parts, see `leave_class_out`; None: none.

    Raises:
        DataError: the class does not exist, or too few points remain without it.
    """
    order = torch.randperm(len(points), generator=stream(seed, "split"))
    n_holdout = min(max(1, round(holdout * len(points))), len(points) - 1)
    kept, held = order[n_holdout:], order[:n_holdout]
    both = None if labels is None else Labels(labels[kept], labels[held], classes)
    split = leave_class_out(without, points[kept], points[held], both)
    return Points(
        split.train,
        split.holdout,
        anomalies=split.anomalies,
        standardization=REAL.standardization(split.train, standardize),
        names=names,
        labels=split.labels,
    )


class Points:
    """A `Dataset` in memory.

    Epoch e is a permutation drawn from (seed, e), and batch `step` is what stands at positions
    step * size ... (step + 1) * size of the endless sequence of epochs. So a batch depends on
    (step, size, seed) alone: a resumed run sees what the unbroken one would have seen, and each
    point comes exactly once per epoch, whether or not `size` divides the number of points.

    Args:
        train: (n, *event), in the data's units; kept in float64 on the CPU.
        holdout: (m, *event), likewise.
        standardization: what turns data's units into the model's.
        truth: the density the points were drawn from, where it is known.
        names: of the columns of a table.
        support: the space that the points live in.
        labels: classes of the points, where they have any.
        pixels: least and largest value that a pixel of an image has; None: points are no images.
        anomalies: (k, *event), of the class that was left out; None: none was.
        dtype, device: of the batches.
    """

    def __init__(
        self,
        train: Tensor,
        holdout: Tensor,
        *,
        standardization: Standardization,
        truth: Density | None = None,
        support: Support = REAL,
        names: tuple[str, ...] | None = None,
        labels: Labels | None = None,
        pixels: tuple[float, float] | None = None,
        anomalies: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.train = train.to("cpu", torch.float64)
        self.holdout = holdout.to("cpu", torch.float64)
        self.standardization = standardization
        self.truth = truth
        self.support = support
        self.names = names
        self.labels = labels
        self.pixels = pixels
        self.anomalies = None if anomalies is None else anomalies.to("cpu", torch.float64)
        self._kind = dtype, device
        self._shuffled: tuple[int, int, Tensor] | None = None  # (seed, epoch, its permutation)

    def to(self, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> Points:
        """The same points with batches of this dtype on this device."""
        return Points(
            self.train,
            self.holdout,
            standardization=self.standardization,
            truth=self.truth,
            support=self.support,
            names=self.names,
            labels=self.labels,
            pixels=self.pixels,
            anomalies=self.anomalies,
            dtype=dtype,
            device=device,
        )

    @cached_property
    def _standardized(self) -> Tensor:
        # Cast last: standardized points are of order one in any units of the data.
        dtype, device = self._kind
        return self.standardization.to_standard(self.train).to(device, dtype)

    @cached_property
    def _classes(self) -> Tensor | None:
        return None if self.labels is None else self.labels.train.to(self._kind[1])

    def batch(self, step: int, size: int, seed: int) -> Batch:
        """The standardized points of one update and their classes, as new tensors.

        Args:
            step: update, from 0.
            size: 1 <= size <= n.
            seed: of the shuffling, >= 0.

        Raises:
            ValueError: `size` is out of its range.
        """
        rows = self.rows(step, size, seed)
        y = None if self._classes is None else self._classes.index_select(0, rows)
        return Batch(self._standardized.index_select(0, rows), y)

    def rows(self, step: int, size: int, seed: int) -> Tensor:
        """Indices of the training points in the batch of one update, (size,). Arguments as for
        `batch`.
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
        known = self._shuffled
        if known is not None and known[:2] == (seed, epoch):
            return known[2]
        # On the CPU, so that every device gets the same batches.
        order = torch.randperm(self.train.shape[0], generator=stream(seed, "epoch", epoch))
        order = to_device(order, self._kind[1])
        self._shuffled = (seed, epoch, order)
        return order


def to_device(x: Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """x on a device, cast to `dtype` (None: its own), without synchronisation.

    A copy from pageable memory may wait for all work that is queued on a GPU. A copy from pinned
    memory is queued itself; torch keeps the memory until the copy is complete.
    """
    x = x.to(dtype or x.dtype)
    if torch.device(device).type != "cuda":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)
