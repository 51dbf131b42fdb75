"""A checkpoint as bytes: what goes in comes out, or an error; damage never passes for data.

The file is torch's own format followed by a line with the SHA-256 of all before it, so
`torch.load(path, weights_only=True)` opens it, and one rename makes state and digest appear
together.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from typing import Any

import torch

from ebmtrain.errors import CheckpointError

FORMAT = 2
_MARK = b"\nebmtrain-sha256:"
_TRAILER = len(_MARK) + 64


def encode(state: dict[str, Any]) -> bytes:
    """Serialised in memory, so that a full disk is met by a plain write and not by torch."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    body = buffer.getvalue()
    return body + _MARK + hashlib.sha256(body).hexdigest().encode()


def decode(data: bytes, name: str) -> dict[str, Any]:
    """The state, its tensors on the CPU.

    Raises:
        CheckpointError: truncated, altered, of another format, or not a checkpoint at all.
    """
    body, trailer = data[:-_TRAILER], data[-_TRAILER:]
    if trailer != _MARK + hashlib.sha256(body).hexdigest().encode():
        raise CheckpointError(f"{name} is damaged: its content does not match its SHA-256")
    try:
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise CheckpointError(f"{name} is not a checkpoint of ebmtrain: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else None
        raise CheckpointError(f"{name} has format {found}, this version reads {FORMAT}")
    return state
