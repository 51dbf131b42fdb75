"""Reads points for a trained model: the columns and the shape that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ebmtrain.datasets.augmentation import Dequantization, augment
from ebmtrain.datasets.discrete import on_lattice
from ebmtrain.datasets.images import check_pixel_values
from ebmtrain.datasets.io.long_format import LongColumns
from ebmtrain.datasets.io.numeric_header import AmbiguousHeaderError
from ebmtrain.datasets.io.point_table import UnnamedColumnsError
from ebmtrain.datasets.io.read_fasta import FASTA_SUFFIXES, read_fasta
from ebmtrain.datasets.io.read_points import read_points
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.datasets.support import Categorical
from ebmtrain.errors import DataError


def read_for_model(
    path: str, array: str | None, options: Mapping[str, Any], spec: DataSpec
) -> Tensor:
    """Points in a file, (n, *event) float64, in the data's own units.

    From a table with named columns, the columns of the training data are read, in any order. For a
    model of sequences of different lengths, shorter sequences are padded with NaN at their ends.
    For a model of a dequantized table, discrete values are dequantized likewise.

    Args:
        path: see `read_points`.
        array: name of the array in a file that holds several.
        options: the section `dataset` of the configuration, with id, time, columns, header,
            dequantize and seed.
        spec: of the training data.

    Raises:
        DataError: the file cannot be read, or holds points of another kind, or pixels as whole
            numbers for a model of dequantised images.
    """
    if isinstance(spec.support, Categorical) and Path(path).suffix in FASTA_SUFFIXES:
        length = spec.standardization.shift.numel()
        return read_fasta(path, spec.support.alphabet, length).codes
    names, ragged, long = spec.names, spec.ragged, None
    columns = names if names is not None and len(set(names)) == len(names) else None
    header = options.get("header")
    if options.get("id") is not None and options.get("time") is not None:
        selected = options.get("columns")
        columns = None if selected is None else [str(name) for name in selected]
        long = LongColumns(str(options["id"]), str(options["time"]))
    try:
        values = read_points(path, array, columns, long, header=header, ragged=ragged).values
    except UnnamedColumnsError:
        values = read_points(path, array, header=header, ragged=ragged).values
    except AmbiguousHeaderError:  # numbers that are no names of the model's columns
        values = read_points(path, array, header=False, ragged=ragged).values
    event = tuple(spec.standardization.shift.shape)
    if ragged and values.ndim == 3 and values.shape[1] < event[0]:
        n_missing = event[0] - values.shape[1]
        values = np.pad(values, ((0, 0), (0, n_missing), (0, 0)), constant_values=np.nan)
    if values.shape[1:] != event:
        channels_last = len(event) == 3 and values.shape[1:] == (*event[1:], event[0])
        remedy = (
            "put the channels first, x.transpose(0, 3, 1, 2) in numpy"
            if channels_last
            else "give the columns that it was trained on"
        )
        raise DataError(
            f"{path} holds points of shape {values.shape[1:]}, the model takes {event}: {remedy}"
        )
    dequantize = options.get("dequantize")
    if isinstance(dequantize, bool) and "flip" in options:  # as data sets of images have
        check_pixel_values(values, path, dequantize=dequantize)
    spec.support.check(torch.from_numpy(values), path)
    if spec.steps is None:
        return torch.from_numpy(values)
    return _dequantize(values, spec, int(options.get("seed", 0)))


def _dequantize(values: np.ndarray, spec: DataSpec, seed: int) -> Tensor:
    """The points with the noise of the training points on values that are discrete in this file
    too; in samples of the model they are not."""
    assert spec.steps is not None
    flat, width = values.reshape(len(values), -1), spec.steps.flatten().tolist()
    origins = [None] * len(width) if spec.origins is None else spec.origins.flatten().tolist()
    discrete = np.zeros(flat.shape, bool)
    for j, (h, origin) in enumerate(zip(width, origins, strict=True)):
        if h > 0:
            discrete[:, j] = on_lattice(flat[:, j], h, origin)
    noise = Dequantization(spec.steps * torch.from_numpy(discrete.reshape(values.shape)))
    return augment(torch.from_numpy(values), [noise], seed, "file")
