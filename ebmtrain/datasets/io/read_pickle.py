"""Arrays of bytes and lists of numbers in a pickle, without executing what is in it.

A pickle is a program: it names functions and calls them. This reader knows the three names that an
array is pickled by, and gives each a stand-in of its own that only remembers what it is told; any
other name is refused before it is looked up. So neither foreign code nor NumPy's own unpickling
runs.
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
    """Stands for an array or its type: keeps what a pickle says of it."""

    def __init__(self, *arguments: Any):
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _ArrayStub(_Stub):
    """Of `_reconstruct`, with state (version, shape, type, Fortran's order, bytes)."""


class _DtypeStub(_Stub):
    """Of `numpy.dtype`."""


class _ForbiddenNameError(pickle.UnpicklingError):
    """A name that an array has no need of."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name in _ARRAYS and global_name == "_reconstruct":
            return _ArrayStub
        if module_name == "numpy" and global_name in ("ndarray", "dtype"):
            return _DtypeStub
        raise _ForbiddenNameError(f"{module_name}.{global_name}")


class PickledArrays:
    """A mapping of arrays, lists and plain values.

    Args:
        data: the pickle.
        name: of the file, for messages.

    Raises:
        DataError: it is damaged, wants code to run, or holds something else.
    """

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self._found = _loaded(data, name)

    def array(self, key: str) -> np.ndarray:
        """The array of unsigned bytes under `key`.

        Raises:
            DataError: there is none.
        """
        array = self._under(key)
        if not isinstance(array, _ArrayStub):
            raise DataError(f"{self.name} holds no array {key}: get the original file again")
        return _filled(array.state, key, self.name)

    def whole_numbers(self, key: str, below: int) -> np.ndarray:
        """The list under `key` of whole numbers >= 0 and less than `below`, int64.

        Raises:
            DataError: there is none.
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
        if not isinstance(self._found, dict):
            raise DataError(f"{self.name} holds no mapping with {key}: get the original file again")
        return self._found.get(key.encode(), self._found.get(key))


def _loaded(data: bytes, name: str) -> Any:
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


def _filled(state: Any, key: str, name: str) -> np.ndarray:
    """What NumPy would make of the state, if it is plain bytes."""
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
