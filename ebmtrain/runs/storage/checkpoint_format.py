"""Serialized checkpoints: `decode` returns the encoded state or raises an error.

The file is in torch's own format, followed by a line with the SHA-256 of all preceding bytes:
`torch.load(path, weights_only=True)` opens it, and one rename publishes state and digest together.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ebmtrain.errors import CheckpointError, UnsafeError, one_line

FORMAT = 5
_OLDEST_FORMAT = 4  # without the item `pending`: see `checkpoint_schema.validate_state`
_MARK = b"\nebmtrain-sha256:"
TRAILER_BYTES = len(_MARK) + 64
_DTYPES = (torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool)


def encode(state: Mapping[str, Any]) -> bytes:
    """The bytes of a checkpoint."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **_compact(state)}, buffer)
    body = buffer.getvalue()
    return body + _MARK + hashlib.sha256(body).hexdigest().encode()


def has_digest(tail: bytes) -> bool:
    """True if a file with these last bytes holds its digest."""
    return tail[-TRAILER_BYTES:].startswith(_MARK)


def _compact(value: Any) -> Any:
    """A copy whose tensors are dense and own their storage: torch saves the storage of a view."""
    if isinstance(value, dict):
        return {key: _compact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_compact(item) for item in value)
    if isinstance(value, Tensor) and not _fills_storage(value):
        return value.detach().clone(memory_format=torch.contiguous_format)
    return value


def _fills_storage(tensor: Tensor) -> bool:
    """True if it is contiguous and fills its storage."""
    size = tensor.numel() * tensor.element_size()
    return tensor.is_contiguous() and tensor.untyped_storage().nbytes() == size


def decode(data: bytes, name: str) -> dict[str, Any]:
    """The state, its tensors on the CPU.

    Raises:
        CheckpointError: the file was truncated or altered, or has another format.
        UnsafeError: the digest is right, but the file holds more than plain numbers and text.
    """
    body, trailer = data[:-TRAILER_BYTES], data[-TRAILER_BYTES:]
    if trailer != _MARK + hashlib.sha256(body).hexdigest().encode():
        raise CheckpointError(f"{name} is damaged: its content does not match its SHA-256")
    try:
        _check_archive(body)
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        _check_tensors(state)
    except Exception as error:  # untrusted bytes may raise any exception
        reason = one_line(error)
        raise UnsafeError(
            f"{name} is refused: it is not a checkpoint of ebmtrain ({reason}); train again"
        ) from error
    found = state.get("format") if isinstance(state, dict) else None
    if not isinstance(found, int) or not _OLDEST_FORMAT <= found <= FORMAT:
        known = f"{_OLDEST_FORMAT} and {FORMAT}"
        raise CheckpointError(f"{name} has format {found}, this version reads {known}")
    return state


def _check_archive(body: bytes) -> None:
    """Raises ValueError for an archive that unpacks to more bytes than it has. torch compresses
    nothing."""
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("its entries are compressed")
        if sum(entry.file_size for entry in entries) > len(body):
            raise ValueError("its entries are larger than the file")


def _check_tensors(content: Any) -> None:
    """Raises ValueError for a tensor that is not dense plain numbers and all of its storage: a
    stride of 0 makes a terabyte of four bytes."""
    for value in leaves(content):
        if isinstance(value, Tensor):
            dense = value.layout is torch.strided and value.device.type == "cpu"
            if not dense or value.is_quantized:
                raise ValueError("it holds a tensor that is not dense numbers")
            if value.requires_grad:
                raise ValueError("it holds a parameter in place of its numbers")
            if value.dtype not in _DTYPES:
                raise ValueError(f"it holds a tensor of {value.dtype}")
            if not _fills_storage(value):
                raise ValueError("it holds a tensor that is not all of its storage, in order")


def leaves(content: Any) -> Iterator[Any]:
    """The leaves of nested mappings and sequences."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        else:
            yield value
