"""Named arrays in HDF5, MATLAB, PyTorch and safetensors files. No reader runs code of the file."""

from __future__ import annotations

import math
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ebmtrain.datasets.io.memory import check_memory
from ebmtrain.datasets.io.named_arrays import Arrays
from ebmtrain.datasets.io.read_numpy import open_npz
from ebmtrain.errors import DataError, first_line
from ebmtrain.runtime.optional import import_optional

_BYTES = 8  # per number of a MATLAB file
_MATLAB = ("double", "single", "logical", "char", "sparse", "int8", "int16", "int32", "int64",
           "uint8", "uint16", "uint32", "uint64")  # fmt: skip


def open_archive(path: Path) -> Arrays:
    """The arrays of a file with several, by name.

    Raises:
        ConfigError: the package that reads it is not installed.
        DataError: the file is damaged or of another kind.
    """
    match path.suffix.lower():
        case ".npz":
            return open_npz(path)
        case ".h5" | ".hdf5":
            return _open_hdf5(path, matlab=False)
        case ".mat":
            return _open_matlab(path)
        case ".pt" | ".pth":
            return _open_torch(path)
        case _:
            return _open_safetensors(path)


ARCHIVES = (".npz", ".h5", ".hdf5", ".mat", ".pt", ".pth", ".safetensors")


def _damaged(path: Path, what: str, error: Exception) -> DataError:
    reason = first_line(error)
    return DataError(f"{path} cannot be read as {what} ({reason}): write it again")


def _open_hdf5(path: Path, *, matlab: bool) -> Arrays:
    h5py = import_optional("h5py", str(path), "files")
    names = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not _is_hidden(name, item.attrs):
            names.append(name)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
    except Exception as error:  # h5py raises errors of many kinds for a damaged file
        raise _damaged(path, "HDF5", error) from error
    return {name: partial(_read_hdf5, path, name, matlab) for name in names}


def _is_hidden(name: str, attributes: Any) -> bool:
    """True for what MATLAB does not store as an array of numbers."""
    kind = attributes.get("MATLAB_class", b"")
    return name.startswith("#") or "MATLAB_empty" in attributes or kind in (b"char", b"cell")


def _read_hdf5(path: Path, name: str, matlab: bool) -> np.ndarray:
    h5py = import_optional("h5py", str(path), "files")
    try:
        with h5py.File(path, "r") as file:
            check_memory(f"{path}[{name}]", file[name].nbytes)
            is_text = h5py.check_string_dtype(file[name].dtype) is not None
            values = np.asarray((file[name].asstr() if is_text else file[name])[()])
    except DataError:
        raise
    except Exception as error:
        raise _damaged(path, "HDF5", error) from error
    if is_text:
        values = values.astype(str)
    return values.T if matlab else values  # MATLAB stores columns first


def _open_matlab(path: Path) -> Arrays:
    from scipy.io import whosmat

    try:
        found = whosmat(path)
    except NotImplementedError:  # version 7.3 is HDF5
        return _open_hdf5(path, matlab=True)
    except Exception as error:
        raise _damaged(path, "a MATLAB file", error) from error
    return {
        name: partial(_read_matlab, path, name, math.prod(shape))
        for name, shape, kind in found
        if kind in _MATLAB
    }


def _read_matlab(path: Path, name: str, count: int) -> np.ndarray:
    from scipy.io import loadmat
    from scipy.sparse import issparse

    check_memory(f"{path}[{name}]", _BYTES * count)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of variables of the same name
            values = loadmat(path, variable_names=[name])[name]
    except Exception as error:
        raise _damaged(path, "a MATLAB file", error) from error
    return values.toarray() if issparse(values) else values


def _open_torch(path: Path) -> Arrays:
    try:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # a file of the former format cannot be mapped
            check_memory(path, path.stat().st_size)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except DataError:
        raise
    except Exception as error:  # a damaged file, or one that names code
        raise DataError(
            f"{path} is damaged, or holds more than tensors, which could run any code: write "
            "torch.save({'x': x}, path)"
        ) from error
    if isinstance(content, torch.Tensor):
        content = {"tensor": content}
    if isinstance(content, list | tuple):
        content = dict(enumerate(content))
    if not isinstance(content, dict):
        content = {}
    return {
        str(name): partial(_to_numpy, path, str(name), tensor)
        for name, tensor in content.items()
        if isinstance(tensor, torch.Tensor)
    }


def _open_safetensors(path: Path) -> Arrays:
    safetensors = import_optional("safetensors", str(path), "files")

    def read(name: str) -> np.ndarray:
        with safetensors.safe_open(path, framework="pt") as file:
            return _to_numpy(path, name, file.get_tensor(name))

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: partial(read, name) for name in file.keys()}  # noqa: SIM118  no mapping
    except Exception as error:
        raise _damaged(path, "safetensors", error) from error


def _to_numpy(path: Path, name: str, tensor: torch.Tensor) -> np.ndarray:
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise DataError(f"{path}[{name}] is sparse or quantized: save a dense tensor")
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.dtype not in _NUMPY_FLOATS:
        check_memory(f"{path}[{name}]", 4 * tensor.numel())
        tensor = tensor.float()
    return tensor.resolve_conj().resolve_neg().numpy()


_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)
