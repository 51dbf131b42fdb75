"""Safe reading of byte arrays and lists of numbers from a pickle.

A pickle is a program that names functions and calls them. This reader accepts only the three names
of a pickled array, and replaces each by a stub that stores its arguments. Any other name is refused
before it is looked up, so neither foreign code nor NumPy's own unpickling runs.
"""

from __future__ import annotations

import io
import math
import pickle
from typing import Any

import numpy as np

from ebmtrain.errors import DataError

_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")  # of NumPy before and since 2


class _Stub:
    """Stub of an array or a dtype: it stores the arguments and the state in the pickle."""

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


class PickledArrays:
    """A pickled mapping of arrays, lists and plain values.

    Args:
        data: the pickle.
        name: of the file, for messages.

    Raises:
        DataError: the pickle is damaged, names code, or holds something else.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self._content = _load(data, name)

    def array(self, key: str) -> np.ndarray:
        """The array of unsigned bytes under `key`.

        Raises:
            DataError: it does not exist.
        """
        array = self._under(key)
        if not isinstance(array, _ArrayStub):
            raise DataError(f"{self.name} holds no array {key}: get the original file again")
        return _to_array(array.state, key, self.name)

    def whole_numbers(self, key: str, below: int) -> np.ndarray:
        """The list under `key` of whole numbers in [0, below), as int64.

        Raises:
            DataError: it does not exist or holds other values.
        """
        numbers = self._under(key)
        if not isinstance(numbers, list):
            raise DataError(f"{self.name} holds no list {key}: get the original file again")
        for number in numbers:
            if type(number) is not int or not 0 <= number < below:
                shown = number if type(number) is int and abs(number) < 10**9 else "something"
                raise DataError(
                    f"{self.name} holds {shown} among its {key}, which are whole numbers from 0 to "
                    f"{below - 1}: get the original file again"
                )
        return np.array(numbers, np.int64)

    def _under(self, key: str) -> Any:
        if not isinstance(self._content, dict):
            raise DataError(f"{self.name} holds no mapping with {key}: get the original file again")
        return self._content.get(key.encode(), self._content.get(key))


def _load(data: bytes, name: str) -> Any:
    try:
        # Strings of Python 2 as bytes, as they are.
        return _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    except _ForbiddenNameError as error:
        what = "".join(c if c.isprintable() else "?" for c in str(error))[:80]
        raise DataError(
            f"{name} asks for {what}, which could run any code: get the original file again"
        ) from error
    except Exception as error:  # a pickle that is damaged fails in many ways, MemoryError included
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{name} is a damaged pickle ({reason}): get it again") from error


def _to_array(state: Any, key: str, name: str) -> np.ndarray:
    """The array that NumPy would build from the state of an unsigned byte array."""
    if not isinstance(state, tuple) or len(state) != 5:
        raise DataError(f"{name} holds an array {key} without content: get the original again")
    _, shape, kind, fortran, pixels = state
    if not isinstance(kind, _DtypeStub) or kind.arguments[:1] not in ((b"u1",), ("u1",)):
        raise DataError(f"{name} holds {key} that are no unsigned bytes: get the original again")
    held = len(pixels) if isinstance(pixels, bytes) else -1
    if not _is_shape(shape) or held != math.prod(shape):
        raise DataError(f"{name} holds {max(held, 0):,} bytes for shape {shape}: get it again")
    return np.frombuffer(pixels, np.uint8).reshape(shape, order="F" if fortran else "C")


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)
