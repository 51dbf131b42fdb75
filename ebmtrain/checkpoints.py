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
from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError
from torch import Tensor
from typing_extensions import TypedDict  # pydantic's own: it needs it before Python 3.12

from ebmtrain.errors import CheckpointError, UnsafeError

FORMAT = 4
_MARK = b"\nebmtrain-sha256:"
TRAILER = len(_MARK) + 64  # bytes


def encode(state: dict[str, Any]) -> bytes:
    """Serialised in memory, so that a full disk is met by a plain write and not by torch."""
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **compact(state)}, buffer)
    body = buffer.getvalue()
    return body + _MARK + hashlib.sha256(body).hexdigest().encode()


def signed(tail: bytes) -> bool:
    """Whether a file with these last bytes says what its digest is."""
    return tail[-TRAILER:].startswith(_MARK)


def compact(value: Any) -> Any:
    """The same, each tensor dense and in a place of its own: of a view torch saves all that it is
    a view of."""
    if isinstance(value, dict):
        return {key: compact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(compact(item) for item in value)
    if isinstance(value, Tensor) and not own(value):
        return value.detach().clone(memory_format=torch.contiguous_format)
    return value


def own(tensor: Tensor) -> bool:
    """Contiguous, and all of its storage."""
    size = tensor.numel() * tensor.element_size()
    return tensor.is_contiguous() and tensor.untyped_storage().nbytes() == size


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
        ValueError: a tensor that is not plain numbers, one after the other, with a place of its own
            in the file: a stride of 0 makes a terabyte of four bytes.
    """
    for value in flat(content):
        if isinstance(value, Tensor):
            dense = value.layout is torch.strided and value.device.type == "cpu"
            if not dense or value.is_quantized:
                raise ValueError("it holds a tensor that is not dense numbers")
            if value.requires_grad:
                raise ValueError("it holds a parameter in place of its numbers")
            if value.dtype not in DTYPES:
                raise ValueError(f"it holds a tensor of {value.dtype}")
            if not own(value):
                raise ValueError("it holds a tensor that is not all of its storage, in order")


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


DTYPES = (torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.bool)
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


# Their names, so that an error can say which; the types of what is inside stand below.
ITEMS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "optimizer": {"state": dict, "param_groups": list},
    "best": {"metric": str, "value": (int, float), "step": int},
    "measured": {"step": (int, NoneType), "metrics": dict, "warnings": list},
}


Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


EXACT = ConfigDict(extra="forbid")  # where pydantic looks for it in a TypedDict, checkers object


class Best(TypedDict):
    __pydantic_config__ = EXACT  # type: ignore[misc]
    metric: Text
    value: float
    step: int


class Measured(TypedDict):
    __pydantic_config__ = EXACT  # type: ignore[misc]
    step: int | None
    metrics: dict[Text, float | int | bool | list[float] | None]
    warnings: list[Text]


class Retry(TypedDict):
    __pydantic_config__ = EXACT  # type: ignore[misc]
    step: int
    back_to: int
    lr: float


class Nothing(TypedDict):  # until something was measured
    __pydantic_config__ = EXACT  # type: ignore[misc]


# What goes into result.json and onto the screen, as it stands.
WRITTEN: dict[str, TypeAdapter[Any]] = {
    "best": TypeAdapter(Best | Nothing),
    "measured": TypeAdapter(Measured),
    "retries": TypeAdapter(list[Retry]),
    "seconds": TypeAdapter(Annotated[float, Ge(0)]),
}


def checked(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a run, whose items are what they should be: these names and no others, of these
    types. Whether the tensors fit the model is seen where they are put into it: see
    `TrainState.load_state_dict`; what the frame holds, by `Frame.from_state`.

    Raises:
        CheckpointError: they are not.
        UnsafeError: its optimizer would step to where no number is.
    """
    require(state, {"format": int, **KINDS}, "")
    for name, kinds in ITEMS.items():
        if state[name] or name != "best":  # {} until something was measured
            require(state[name], kinds, f"{name}.")
    for name in ("energy", "average", "method"):
        items = (state[name] or {}).items()
        if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in items):
            raise CheckpointError(f"the checkpoint's {name} holds more than tensors with names")
    if not all(map(is_window, state["window"])):
        raise CheckpointError("the checkpoint's window is not rows of metrics")
    for name in ("step", "metrics_size", "evaluations", "seconds"):
        if not 0 <= state[name] < 2**63:  # NaN compares false
            raise CheckpointError(f"the checkpoint's {name} is {state[name]}")
    for name, value in WRITTEN.items():
        try:
            value.validate_python(state[name], strict=True)
            if any(isinstance(leaf, Tensor) for leaf in flat(state[name])):  # passes for a float
                raise CheckpointError(f"the checkpoint's {name} holds a tensor")
        except ValidationError as error:
            reason = " ".join(str(error.errors()[0]["msg"]).split())
            raise CheckpointError(f"the checkpoint's {name} is not what it was: {reason}") from None
    for value in flat(state["optimizer"].get("param_groups")):
        if isinstance(value, float) and not math.isfinite(value):
            raise UnsafeError(
                f"the checkpoint's optimizer is refused: it holds {value}; train anew"
            )
    return state


def require(found: dict[str, Any], kinds: dict[str, type | tuple[type, ...]], where: str) -> None:
    """
    Raises:
        CheckpointError: names are missing or unknown, or of another type.
    """
    for name, kind in kinds.items():
        if name not in found:
            raise CheckpointError(f"the checkpoint has no {where}{name}")
        if not isinstance(found[name], kind) or isinstance(found[name], bool):
            kind_found = type(found[name]).__name__
            raise CheckpointError(f"the checkpoint's {where}{name} is {kind_found}")
    if unknown := set(found) - set(kinds):
        shown = str(min(map(str, unknown)))[:40]
        raise CheckpointError(f"the checkpoint holds {where}{shown!r}, which is not known")


def is_window(item: Any) -> bool:
    """([names], tensor of shape (rows, names)): see `TrainState.window`."""
    if not isinstance(item, list | tuple) or len(item) != 2:
        return False
    names, rows = item
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return named and isinstance(rows, Tensor) and rows.ndim == 2 and rows.shape[1] == len(names)
