"""Units, region and fingerprint of the training data. They are saved with the model, so that it can
be used without the data."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ebmtrain.datasets.support import BINARY, REAL, Categorical, support_of
from ebmtrain.errors import CheckpointError, DataError
from ebmtrain.masks import channel_range, lengths
from ebmtrain.types import (
    Bounds,
    Dataset,
    Region,
    Standardization,
    Support,
    labels_of,
    names_of,
    origins_of,
    steps_of,
)


class DataSpec(NamedTuple):
    """What a model needs to know of its training data. An analytic landscape has no data and no
    fingerprint."""

    standardization: Standardization
    region: Region
    """Bounding box of the data, or of the landscape's wells, in standardized units."""
    fingerprint: str | None = None
    """SHA-256 of the data, see `fingerprint`."""
    names: tuple[str, ...] | None = None
    """Names of the columns of a table."""
    lengths: Tensor | None = None
    """(length,), int64: the numbers of training sequences with 1, 2, ... steps, if their lengths
    differ; None: all points have the same shape."""
    steps: Tensor | None = None
    """(*event), float64: the widths of the uniform noise that was added to discrete elements; None:
    none was."""
    support: Support = REAL
    """The space of the points. Of a continuous space only that is saved, as units and region hold
    all else that a trained model needs."""
    origins: Tensor | None = None
    """(*event), float64: see `HasSteps`; None also in checkpoints of earlier versions."""

    @property
    def ragged(self) -> bool:
        """True if the points are sequences of different lengths: see `masks`."""
        return self.lengths is not None

    @classmethod
    def of(cls, dataset: Dataset) -> DataSpec:
        for name, points in (("training", dataset.train), ("held-out", dataset.holdout)):
            support_of(dataset).check(points, f"{name} points")
        units = dataset.standardization
        u = units.to_standard(dataset.train)
        names, support, noise = names_of(dataset), support_of(dataset), steps_of(dataset)
        origins = origins_of(dataset)
        if not any(points.isnan().any() for points in (dataset.train, dataset.holdout)):
            u = u.reshape(len(u), -1)
            region = Region(u.amin(0), u.amax(0))
            return cls(units, region, fingerprint(dataset), names, None, noise, support, origins)
        region = Region(*(end.flatten() for end in channel_range(u)))
        steps = torch.bincount(lengths(u), minlength=u.shape[1] + 1)[1:]
        return cls(units, region, fingerprint(dataset), names, steps, noise, support, origins)

    def state_dict(self) -> dict[str, Any]:
        # What only some data have is left out for others, as in checkpoints of earlier versions.
        bounds = self.standardization.bounds
        optional = {
            "lengths": self.lengths,
            "steps": self.steps,
            "origins": self.origins,
            "space": None if self.support.space == "real" else self.support.space,
            "alphabet": getattr(self.support, "alphabet", None),
            "bounds_low": None if bounds is None else bounds.low,
            "bounds_high": None if bounds is None else bounds.high,
        }
        return {k: v for k, v in optional.items() if v is not None} | {
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
        """The data spec from its `state_dict`.

        Raises:
            CheckpointError: `saved` is not a valid `state_dict`.
        """
        try:
            shift, scale, low, high = (saved[k] for k in ("shift", "scale", "low", "high"))
            d, mixing, names = shift.numel(), saved["mixing"], saved["names"]
            if not shift.shape == scale.shape or not low.shape == high.shape == (d,):
                raise ValueError("its shapes do not agree")
            if mixing is not None and (mixing.shape != (d, d) or mixing.dtype != shift.dtype):
                raise ValueError("its mixing has another shape or type")
            tensors = [t for t in (shift, scale, low, high, mixing) if t is not None]
            if not all(torch.isfinite(t).all() for t in tensors):
                raise ValueError("it is not finite")
            # A singular matrix cannot be inverted to standardized units.
            if mixing is not None and not torch.linalg.slogdet(mixing).logabsdet.isfinite():
                raise ValueError("its mixing is singular")
            if not isinstance(saved["fingerprint"], str):
                raise ValueError("its fingerprint is not a string")
            if names is not None and not _valid_names(names, d):
                raise ValueError("its names are not one printable string per column")
            steps = saved.get("lengths")
            if steps is not None and not _valid_lengths(steps, shift):
                raise ValueError("its lengths are not counts of sequences")
            noise = saved.get("steps")
            if noise is not None and not _valid_noise(noise, shift):
                raise ValueError("its steps are not one width of noise per element")
            origins = saved.get("origins")
            if origins is not None and not _valid_origins(origins, shift):
                raise ValueError("its origins are not one number per element")
            support = _saved_support(saved)
            bounds = None
            if "bounds_low" in saved or "bounds_high" in saved:
                bounds = Bounds(saved["bounds_low"], saved["bounds_high"])
                if not _valid_bounds(bounds, shift):
                    raise ValueError("its bounds are not a lower and an upper one per element")
            return cls(
                Standardization(shift, scale, mixing, bounds),
                Region(low, high),
                saved["fingerprint"],
                None if names is None else tuple(names),
                steps,
                noise,
                support,
                origins,
            )
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"the checkpoint has no valid description of its data: {error}"
            ) from error

    def check(self, dataset: Dataset) -> None:
        """Compares fingerprints.

        Raises:
            DataError: the data are not those that the model was trained on.
        """
        found = fingerprint(dataset)
        # Earlier versions read the same points without their classes.
        if self.fingerprint not in (found, fingerprint(dataset, labelled=False)):
            raise DataError(
                f"the data are not those the model was trained on (fingerprint {found[:12]}, not "
                f"{(self.fingerprint or 'none')[:12]}): restore the original data, or begin a "
                "new run with these weights, on these data: model.init=RUN"
            )


def _saved_support(saved: Any) -> Support:
    """Raises ValueError for a space that there is not."""
    space, alphabet = saved.get("space", "real"), saved.get("alphabet")
    if space == "categorical" and isinstance(alphabet, str) and alphabet.isprintable():
        return Categorical(alphabet)
    if space not in ("real", "binary"):
        raise ValueError(f"its space is {space!r}")
    return BINARY if space == "binary" else REAL


def _valid_names(names: Any, count: int) -> bool:
    """True for `count` strings without control characters, which a terminal would execute."""
    if not isinstance(names, list) or len(names) != count:
        return False
    return all(isinstance(name, str) and name.isprintable() for name in names)


def _valid_lengths(steps: Any, shift: Tensor) -> bool:
    """True for one count per possible length of a sequence, which has the shape of `shift`,
    (length, channels)."""
    if shift.ndim != 2 or not isinstance(steps, Tensor) or steps.dtype != torch.int64:
        return False
    return steps.shape == shift.shape[:1] and bool((steps >= 0).all() and steps.any())


def _valid_noise(noise: Any, shift: Tensor) -> bool:
    """True for one finite width >= 0 for each element."""
    if not isinstance(noise, Tensor) or (noise.shape, noise.dtype) != (shift.shape, shift.dtype):
        return False
    return bool((noise.isfinite() & (noise >= 0)).all())


def _valid_origins(origins: Any, shift: Tensor) -> bool:
    """True for one finite number for each element."""
    if not isinstance(origins, Tensor) or origins.shape != shift.shape:
        return False
    return origins.dtype == shift.dtype and bool(origins.isfinite().all())


def in_units(dataset: Dataset, units: Standardization) -> Dataset:
    """The data set with another standardization of its points.

    Raises:
        DataError: the data have other bounds than the units.
    """
    own = dataset.standardization.bounds
    if not _same_bounds(own, units.bounds):
        raise DataError(
            f"the bounds of the data are {_bounds_text(own)}, those of the run that the model "
            f"begins with {_bounds_text(units.bounds)}: give the same dataset.support"
        )
    if dataclasses.is_dataclass(dataset) and not isinstance(dataset, type):
        return dataclasses.replace(dataset, standardization=units)  # type: ignore[type-var]
    copied = copy.copy(dataset)
    copied.standardization = units
    return copied


def _same_bounds(a: Bounds | None, b: Bounds | None) -> bool:
    if a is None or b is None:
        return a is b
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def _bounds_text(bounds: Bounds | None) -> str:
    return "none" if bounds is None else " to ".join(str(end.tolist()) for end in bounds)


def _valid_bounds(bounds: Bounds, shift: Tensor) -> bool:
    """True for a lower and a greater upper bound for each element."""
    if not all(isinstance(end, Tensor) for end in bounds):
        return False
    if any((end.shape, end.dtype) != (shift.shape, shift.dtype) for end in bounds):
        return False
    return bool((bounds.low < bounds.high).all())


def fingerprint(dataset: Dataset, *, labelled: bool = True) -> str:
    """SHA-256 of all points and of their split, rounded to about 1e-6 of their scale.

    Rounded because the points of synthetic data are computed, and the last bit of a logarithm
    differs between processors. The scale is rounded to a power of two, so division by it is exact.

    Args:
        labelled: include the classes of the points.
    """
    _, exponent = torch.frexp(dataset.standardization.scale)
    quantum = torch.ldexp(torch.ones_like(dataset.standardization.scale), exponent - 20)
    digest = hashlib.sha256()
    labels = labels_of(dataset) if labelled else None
    for classes in () if labels is None else (labels.train, labels.holdout):
        digest.update(classes.numpy().tobytes())
    for points in (dataset.train, dataset.holdout):
        digest.update(repr(tuple(points.shape)).encode())
        for part in points.split(65_536):
            part = dataset.standardization.to_linear(part)
            digest.update(_quantize(part, quantum).numpy().tobytes())
    return digest.hexdigest()


def _quantize(points: Tensor, quantum: Tensor) -> Tensor:
    """Points in multiples of `quantum`, as floats because large ones do not fit into an integer.
    Padding becomes +inf, since NaN has many bit patterns."""
    whole = (points.to("cpu", torch.float64) / quantum).round()
    return torch.where(whole.isnan(), torch.inf, whole) + 0.0  # -0 is 0
