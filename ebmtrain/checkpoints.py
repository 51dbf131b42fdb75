"""A checkpoint as bytes: what goes in comes out, or an error; damage never passes for data.

The file is torch's own format followed by a line with the SHA-256 of all before it, so
`torch.load(path, weights_only=True)` opens it, and one rename makes state and digest appear
together.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Iterator
from types import NoneType
from typing import Annotated, Any

import torch
from annotated_types import Ge
from pydantic import StringConstraints, TypeAdapter, ValidationError
from torch import Tensor
from typing_extensions import TypedDict  # pydantic's own: it needs it before Python 3.12

from ebmtrain.errors import CheckpointError, UnsafeError

FORMAT = 4
_MARK = b"\nebmtrain-sha256:"
TRAILER = len(_MARK) + 64  # bytes


def encode(state: dict[str, Any]) -> bytes:
    """Serialised in memory, so that a full disk is met by a plain write and not by torch."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    body = buffer.getvalue()
    return body + _MARK + hashlib.sha256(body).hexdigest().encode()


def signed(tail: bytes) -> bool:
    """Whether a file with these last bytes says what its digest is."""
    return tail[-TRAILER:].startswith(_MARK)


def decode(data: bytes, name: str) -> dict[str, Any]:
    """The state, its tensors on the CPU.

    Raises:
        CheckpointError: truncated or altered since it was written, or of another format.
        UnsafeError: written on purpose to be something else: its digest is right, and it holds
            more than plain numbers and words.
    """
    body, trailer = data[:-TRAILER], data[-TRAILER:]
    if trailer != _MARK + hashlib.sha256(body).hexdigest().encode():
        raise CheckpointError(f"{name} is damaged: its content does not match its SHA-256")
    try:
        check_archive(body)
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        check_tensors(state)
    except Exception as error:  # bytes of somebody else fail in any way there is
        reason = " ".join(str(error).split())[:300]
        raise UnsafeError(
            f"{name} is refused: it is not a checkpoint of ebmtrain ({reason}); train anew"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else None
        raise CheckpointError(f"{name} has format {found}, this version reads {FORMAT}")
    return state


def check_archive(body: bytes) -> None:
    """
    Raises:
        ValueError: it would unpack to more than it is. (torch stores its tensors as they are.)
    """
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("its entries are compressed")
        if sum(entry.file_size for entry in entries) > len(body):
            raise ValueError("its entries are larger than the file")


def check_tensors(content: Any) -> None:
    """
    Raises:
        ValueError: a tensor that is not plain numbers, each with a place of its own in the file: a
            stride of 0 makes a terabyte of four bytes.
    """
    for value in flat(content):
        if isinstance(value, Tensor):
            dense = value.layout is torch.strided and value.device.type == "cpu"
            if not dense or value.is_quantized:
                raise ValueError("it holds a tensor that is not dense numbers")
            if value.numel() * value.element_size() > value.untyped_storage().nbytes():
                raise ValueError("it holds a tensor that is larger than its storage")


def flat(content: Any) -> Iterator[Any]:
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


KINDS: dict[str, type | tuple[type, ...]] = {
    "step": int,
    "energy": dict,
    "average": (dict, NoneType),
    "optimizer": dict,
    "method": dict,
    "generator": Tensor,
    "evaluations": int,
    "retries": list,
    "window": list,
    "frame": dict,
    "best": dict,
    "measured": dict,
    "seconds": (int, float),
    "metrics_size": int,
}


Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class Best(TypedDict):
    metric: Text
    value: float
    step: int


class Measured(TypedDict):
    step: int | None
    metrics: dict[Text, float | int | bool | list[float] | None]
    warnings: list[Text]


class Retry(TypedDict):
    step: int
    back_to: int
    lr: float


class Nothing(TypedDict):
    pass


# What goes into result.json and onto the screen, as it stands.
WRITTEN: dict[str, TypeAdapter[Any]] = {
    "best": TypeAdapter(Best | Nothing),
    "measured": TypeAdapter(Measured),
    "retries": TypeAdapter(list[Retry]),
    "seconds": TypeAdapter(Annotated[float, Ge(0)]),
}


def checked(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a run, whose items are what they should be.

    Raises:
        CheckpointError: they are not.
        UnsafeError: its optimizer would step to where no number is.
    """
    for name, kind in KINDS.items():
        if name not in state or not isinstance(state[name], kind) or isinstance(state[name], bool):
            raise CheckpointError(f"the checkpoint's {name} is {type(state.get(name)).__name__}")
    for name in ("step", "metrics_size", "evaluations"):
        if not 0 <= state[name] < 2**63:
            raise CheckpointError(f"the checkpoint's {name} is {state[name]}")
    for name, value in WRITTEN.items():
        try:
            value.validate_python(state[name], strict=True)
        except ValidationError as error:
            reason = " ".join(str(error.errors()[0]["msg"]).split())
            raise CheckpointError(f"the checkpoint's {name} is not what it was: {reason}") from None
    for value in flat(state["optimizer"].get("param_groups")):
        if isinstance(value, float) and not math.isfinite(value):
            raise UnsafeError(
                f"the checkpoint's optimizer is refused: it holds {value}; train anew"
            )
    if not all(isinstance(value, Tensor) for value in state["method"].values()):
        raise CheckpointError("the checkpoint's method holds more than tensors")
    return state
