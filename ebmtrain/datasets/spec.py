"""Where a trained model lives: its units, its box and the data it learnt from. Saved with it, so
that it keeps its meaning whatever becomes of the data."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebmtrain.datasets.support import REAL, support_of
from ebmtrain.errors import CheckpointError, DataError
from ebmtrain.masks import channel_range, lengths
from ebmtrain.types import Dataset, Region, Standardization, Support, labels_of, names_of


class DataSpec(NamedTuple):
    """Units, region and fingerprint; an analytic landscape has no data, and no fingerprint."""

    standardization: Standardization
    region: Region
    """Box in standardized units that holds the data, or the landscape's wells."""
    fingerprint: str | None = None
    names: tuple[str, ...] | None = None
    """Of the columns of a table."""
    lengths: Tensor | None = None
    """(length,), int64: how many training sequences have 1, 2, ... steps, where sequences are of
    different lengths; None: all points are whole."""
    support: Support = REAL
    """The space that events live in. It is not saved, since all of a continuous one that a trained
    model needs is in its units and its region."""

    @property
    def ragged(self) -> bool:
        """Whether points are sequences of different lengths: see `masks`."""
        return self.lengths is not None

    @classmethod
    def of(cls, dataset: Dataset) -> DataSpec:
        units = dataset.standardization
        u = units.to_standard(dataset.train)
        names, support = names_of(dataset), support_of(dataset)
        if not any(points.isnan().any() for points in (dataset.train, dataset.holdout)):
            u = u.reshape(len(u), -1)
            return cls(
                units, Region(u.amin(0), u.amax(0)), fingerprint(dataset), names, support=support
            )
        region = Region(*(end.flatten() for end in channel_range(u)))
        steps = torch.bincount(lengths(u), minlength=u.shape[1] + 1)[1:]
        return cls(units, region, fingerprint(dataset), names, steps, support)

    def state_dict(self) -> dict[str, Any]:
        # Of whole points the items that frames have always had.
        also = {} if self.lengths is None else {"lengths": self.lengths}
        return also | {
            "shift": self.standardization.shift,
            "scale": self.standardization.scale,
            "mixing": self.standardization.mixing,
            "low": self.region.low,
            "high": self.region.high,
            "fingerprint": self.fingerprint,
            "names": None if self.names is None else list(self.names),
        }

    @classmethod
    def from_state(cls, saved: Any) -> DataSpec:
        """
        Raises:
            CheckpointError: it is not what `state_dict` gave.
        """
        try:
            shift, scale, low, high = (saved[k] for k in ("shift", "scale", "low", "high"))
            d, mixing, names = shift.numel(), saved["mixing"], saved["names"]
            if not shift.shape == scale.shape or not low.shape == high.shape == (d,):
                raise ValueError("its shapes do not agree")
            if mixing is not None and (mixing.shape != (d, d) or mixing.dtype != shift.dtype):
                raise ValueError("its mixing is of another shape or type")
            tensors = [t for t in (shift, scale, low, high, mixing) if t is not None]
            if not all(torch.isfinite(t).all() for t in tensors):
                raise ValueError("it is not finite")
            # Of a singular one the units could not be undone.
            if mixing is not None and not torch.linalg.slogdet(mixing).logabsdet.isfinite():
                raise ValueError("its mixing is singular")
            if not isinstance(saved["fingerprint"], str):
                raise ValueError("its fingerprint is no text")
            if names is not None and not _valid_names(names, d):
                raise ValueError("its names are not a line of text for each column")
            steps = saved.get("lengths")
            if steps is not None and not _valid_lengths(steps, shift):
                raise ValueError("its lengths are not counts of sequences")
            return cls(
                Standardization(shift, scale, mixing),
                Region(low, high),
                saved["fingerprint"],
                None if names is None else tuple(names),
                steps,
            )
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the checkpoint has no frame of its data: {error}") from error

    def check(self, dataset: Dataset) -> None:
        """
        Raises:
            DataError: other data than the model learnt from.
        """
        found = fingerprint(dataset)
        if found != self.fingerprint:
            raise DataError(
                f"the data are not those the model was trained on (fingerprint {found[:12]}, not "
                f"{(self.fingerprint or 'none')[:12]}): bring the old ones back, or train anew"
            )


def _valid_names(names: Any, count: int) -> bool:
    """They will be shown in a terminal, which obeys control characters."""
    if not isinstance(names, list) or len(names) != count:
        return False
    return all(isinstance(name, str) and name.isprintable() for name in names)


def _valid_lengths(steps: Any, shift: Tensor) -> bool:
    """One count for each length that a sequence, (length, channels) like `shift`, may have."""
    if shift.ndim != 2 or not isinstance(steps, Tensor) or steps.dtype != torch.int64:
        return False
    return steps.shape == shift.shape[:1] and bool((steps >= 0).all() and steps.any())


def fingerprint(dataset: Dataset) -> str:
    """SHA-256 of all points and of their split, to about 1e-6 of their spread.

    Not of all bits: a toy's points are drawn, and the last bit of a logarithm differs from
    processor to processor. The spread is rounded to a power of two, so dividing by it is exact.
    """
    _, exponent = torch.frexp(dataset.standardization.scale)
    quantum = torch.ldexp(torch.ones_like(dataset.standardization.scale), exponent - 20)
    digest = hashlib.sha256()
    labels = labels_of(dataset)
    for classes in () if labels is None else (labels.train, labels.holdout):
        digest.update(classes.numpy().tobytes())
    for points in (dataset.train, dataset.holdout):
        digest.update(repr(tuple(points.shape)).encode())
        for part in points.split(65_536):
            digest.update(_quantize(part, quantum).numpy().tobytes())
    return digest.hexdigest()


def _quantize(points: Tensor, quantum: Tensor) -> Tensor:
    """Whole numbers of quanta, as floats: the largest would not fit into an integer. Infinite at
    steps that are not there: a NaN may be any of many bit patterns."""
    whole = (points.to("cpu", torch.float64) / quantum).round()
    return torch.where(whole.isnan(), torch.inf, whole) + 0.0  # -0 is 0
