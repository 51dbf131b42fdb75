"""Points from a file."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import torch

from ebmtrain.datasets.bounds import SupportOption, check_inside, parse_support, support_notes
from ebmtrain.datasets.discrete import discrete_notes, lattice_steps
from ebmtrain.datasets.extremes import extreme_values
from ebmtrain.datasets.io.long_format import LongColumns
from ebmtrain.datasets.io.read_points import read_points
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.split import random_split
from ebmtrain.datasets.standardization import Standardize
from ebmtrain.datasets.support import BINARY
from ebmtrain.datasets.table_checks import check_codes, check_table, leave_rows_out
from ebmtrain.errors import ConfigError, DataError
from ebmtrain.types import Count, OpenUnit, WholeNumber


def from_file(
    *,
    path: str,
    array: str | int | None = None,
    columns: list[str | int] | None = None,
    header: bool | None = None,
    missing: list[float] | None = None,
    labels: str | int | None = None,
    label: str | int | None = None,
    without: WholeNumber | None = None,
    id: str | int | None = None,
    time: str | int | None = None,
    n_train: Count | None = None,
    holdout: OpenUnit = 0.2,
    standardize: Standardize = True,
    dequantize: bool = False,
    support: SupportOption | None = None,
    states: Literal["binary"] | None = None,
    seed: WholeNumber,
) -> Points:
    """Rows of a .npy, .npz, .csv, .tsv, .txt, .csv.gz, .parquet, .h5, .mat, .pt or .safetensors
    file, split at random.

    Args:
        path: the file. The first axis of its array counts the points, the others are the shape of
            one point. A one-dimensional array is n points of one coordinate. Sequences
            (n, length, channels) may be of different lengths: NaN at the end of the shorter ones,
            or an array `lengths` next to them in a .npz file.
        array: name of the array in a file that holds several.
        columns: names of the columns of a table to use, in this order; null: all.
        header: whether the first row of a text table holds names; null: names if none of its cells
            is a number, or if they are 0, 1, 2, ... above other numbers.
        missing: numbers that stand for a missing value; points with them are left out. null: none,
            and values that look like such a code are refused.
        labels: name of the column, or of the array, of the classes; null: none.
        label: name of the column, or of the array, that is 0 for normal points and 1 for anomalies,
            which are left out of both parts: labels and without=1 in one; null: none.
        id, time: names of two columns of a table in long format, whose rows are steps: the
            sequence of a step, and its time. A point is then (length, channels), one channel per
            other column. All sequences have the same times, up to their length, in any order of
            the rows. null: a row is a point.
        n_train: number of training points, selected at random, and of held-out points in
            proportion; null: all. Of a .npy file no other points are read.
        holdout, standardize, without, seed: see `random_split`.
        dequantize: add uniform noise of one step, h u with u in [0, 1), to elements whose values
            are whole numbers or multiples of a step h, other noise in each batch. The NLL of a
            density of x + h u, in nats, minus the sum of log h, is an upper bound on the NLL of the
            discrete values (Theis, van den Oord & Bethge, ICLR 2016).
        support: bounds of columns, which the model's density and samples do not cross, see
            `parse_support`; null: none.
        states: binary: all numbers are states 0 and 1, which are not standardized; null: they are
            real numbers.

    Raises:
        ConfigError: only one of id and time is given, or both name the same column; label is given
            with labels or without; states are to be standardized, dequantized or bounded.
        DataError: the file is invalid; one line with the reason and the remedy.
    """
    if label is not None:
        if labels is not None or without is not None:
            raise ConfigError(
                f"dataset.label={label} names the anomalies, and dataset.labels and "
                "dataset.without the classes: give only one kind"
            )
        labels, without = label, 1
    array, labels, id, time = (None if x is None else str(x) for x in (array, labels, id, time))
    names = None if columns is None else [str(name) for name in columns]
    if (id is None) != (time is None) or (id is not None and id == time):
        raise ConfigError(
            "dataset.id and dataset.time are two columns of a table whose rows are steps of "
            "sequences: give both, or neither"
        )
    long = None if id is None or time is None else LongColumns(id, time)
    select = partial(_select_rows, n_train=n_train, holdout=holdout, seed=seed)
    values, names, words, found = read_points(
        path, array, names, long, labels=labels, header=header, select=select, ragged=True
    )
    notes = list(found)
    if label is not None:
        _check_anomaly_labels(path, str(label), words)
    if missing:
        count = len(values)
        values, words = leave_rows_out(values, words, missing)
        notes.append(
            f"{count - len(values)} of {count} points of {path} have missing values and "
            "are left out"
        )
    if len(values) < 2:
        raise DataError(f"{path} holds one point: give at least 2, one to train on, one held out")
    if states is not None:
        if dequantize or support is not None or standardize not in (True, False):
            raise ConfigError(
                "states are neither standardized, dequantized nor bounded: leave out "
                "dataset.standardize, dataset.dequantize and dataset.support, or dataset.states"
            )
        BINARY.check(torch.from_numpy(values), path)
        classes, numbers = _classes(path, labels, words)
        binary = random_split(
            torch.from_numpy(values), holdout=holdout, standardize=False, seed=seed, names=names,
            labels=numbers, classes=classes, without=without, states=True,
        )  # fmt: skip
        return replace(binary, notes=(*notes, *binary.notes))
    if values.ndim == 2:
        notes += check_table(path, values, names, columns_chosen=columns is not None)
    if missing is None:
        notes += check_codes(path, values, names)
    steps = lattice_steps(values)
    if not dequantize and np.isin(values, (0.0, 1.0)).all():
        notes.append(
            f"all numbers of {path} are 0 or 1: dataset.states=binary takes them as states, for "
            "model=rbm sampler=block_gibbs"
        )
    if not dequantize:
        notes += discrete_notes(path, values, names, steps)
    elif not steps.any():
        raise DataError(
            f"{path} has no values that are whole numbers or multiples of a step: leave "
            "dataset.dequantize out"
        )
    bounds = parse_support(support, values.shape[1:], names)
    if bounds is not None:
        check_inside(path, values, names, bounds, steps if dequantize else None)
    if values.ndim == 2:
        notes += support_notes(path, values, names, bounds, steps)
    classes, numbers = _classes(path, labels, words)
    points = random_split(
        torch.from_numpy(values),
        holdout=holdout,
        standardize=standardize,
        seed=seed,
        names=names,
        labels=numbers,
        classes=classes,
        without=without,
        steps=torch.from_numpy(steps) if dequantize else None,
        bounds=bounds,
    )
    if values.ndim == 2 and standardize != "robust":
        notes += extreme_values(points)
    return replace(points, notes=(*notes, *points.notes))


def _select_rows(n: int, *, n_train: int | None, holdout: float, seed: int) -> np.ndarray | None:
    """A random subset of n rows, sorted, of which `n_train` are left after the split; None: all."""
    if n_train is None or (size := max(2, round(n_train / (1 - holdout)))) >= n:
        return None
    return np.sort(np.random.default_rng(seed).choice(n, size, replace=False, shuffle=False))


def _check_anomaly_labels(path: str, name: str, words: tuple[str, ...] | None) -> None:
    """Raises DataError unless the labels are 0 and 1, both of them."""
    found = sorted(set(words or ()), key=_label_key)
    if [_label_key(word)[0] for word in found] != [0, 1]:
        raise DataError(
            f"{path} has the labels {', '.join(found[:5])} in {name}: dataset.label needs 0 for "
            "normal points and 1 for anomalies; of other classes give dataset.labels and "
            "dataset.without"
        )


def _classes(
    path: str, name: str | None, words: tuple[str, ...] | None
) -> tuple[tuple[str, ...], torch.Tensor | None]:
    """Names of the classes, sorted as numbers if all are, and the class of each point, from 0."""
    if words is None:
        return (), None
    distinct = sorted(set(words), key=_label_key)
    if len(distinct) < 2 or 2 * len(distinct) > len(words):
        raise DataError(
            f"{path} has {len(distinct)} different labels {name} of {len(words)} points: name a "
            "column of classes, each with several points"
        )
    number = {word: i for i, word in enumerate(distinct)}
    return tuple(distinct), torch.tensor([number[word] for word in words])


def _label_key(word: str) -> tuple[float, str]:
    try:
        return float({"False": "0", "True": "1"}.get(word, word)), word
    except ValueError:
        return math.inf, word
