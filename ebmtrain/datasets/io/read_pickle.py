"""Safe reading of byte arrays and lists of numbers from a pickle.

A pickle is a program that names functions and calls them. This reader accepts only the three names
of a pickled array, and replaces each by a stub that stores its arguments. Any other name is refused
before it is looked up, so neither foreign code nor NumPy's own unpickling runs.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from ebmtrain.errors import DataError, first_line

_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")  # of NumPy before and since 2


class _Stub:
    """It stores the arguments and the state in the pickle."""

    def __init__(self, *arguments: Any):
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _ArrayStub(_Stub):
    """Stub of `_reconstruct`, with state (version, shape, dtype, Fortran order, bytes)."""


class _DtypeStub(_Stub):
    """Stub of `numpy.dtype`."""


class _ForbiddenNameError(pickle.UnpicklingError):
    """The pickle names something other than an array."""


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that resolves the names of an array to stubs and refuses any other name."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name in _ARRAYS and global_name == "_reconstruct":
            return _ArrayStub
        if module_name == "numpy" and global_name in ("ndarray", "dtype"):
            return _DtypeStub
        raise _ForbiddenNameError(f"{module_name}.{global_name}")


def read_pickle(data: bytes, name: str) -> dict[str, Any]:
    """The content of a pickled mapping by name, for `byte_array` and `whole_numbers`.

    Args:
        name: of the file, for messages.

    Raises:
        DataError: the pickle is damaged, names code, or holds no mapping.
    """
    try:
        # Strings of Python 2 as bytes, as they are.
        content = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    except _ForbiddenNameError as error:
        what = "".join(c if c.isprintable() else "?" for c in str(error))[:80]
        raise DataError(
            f"{name} asks for {what}, which could run any code: get the original file again"
        ) from error
    except Exception as error:  # a pickle that is damaged fails in many ways, MemoryError included
        reason = first_line(error)
        raise DataError(f"{name} is a damaged pickle ({reason}): get it again") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{name} holds no mapping with data and labels: get the original file again"
        )
    names = ((k.decode("latin-1") if isinstance(k, bytes) else k, v) for k, v in content.items())
    return {key: value for key, value in names if isinstance(key, str)}


def byte_array(content: Mapping[str, Any], key: str, name: str) -> np.ndarray:
    """The array of unsigned bytes under `key`.

    Raises:
        DataError: it does not exist.
    """
    array = content.get(key)
    if not isinstance(array, _ArrayStub):
        raise DataError(f"{name} holds no array {key}: get the original file again")
    if not isinstance(array.state, tuple) or len(array.state) != 5:
        raise DataError(f"{name} holds an array {key} without content: get the original again")
    _, shape, kind, fortran, pixels = array.state
    if not isinstance(kind, _DtypeStub) or kind.arguments[:1] not in ((b"u1",), ("u1",)):
        raise DataError(f"{name} holds {key} that are not unsigned bytes: get the original again")
    held = len(pixels) if isinstance(pixels, bytes) else -1
    is_shape = isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)
    if not is_shape or held != math.prod(shape):
        raise DataError(f"{name} holds {max(held, 0):,} bytes for shape {shape}: get it again")
    return np.frombuffer(pixels, np.uint8).reshape(shape, order="F" if fortran else "C")


def whole_numbers(content: Mapping[str, Any], key: str, below: int, name: str) -> np.ndarray:
    """The list under `key` of whole numbers in [0, below), as int64.

    Raises:
        DataError: it does not exist or holds other values.
    """
    numbers = content.get(key)
    if not isinstance(numbers, list):
        raise DataError(f"{name} holds no list {key}: get the original file again")
    for number in numbers:
        if type(number) is not int or not 0 <= number < below:
            shown = number if type(number) is int and abs(number) < 10**9 else "something"
            raise DataError(
                f"{name} holds {shown} among its {key}, which are whole numbers from 0 to "
                f"{below - 1}: get the original file again"
            )
    return np.array(numbers, np.int64)
