"""What a checkpoint of a run holds: these names and no others, each of its type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

from annotated_types import Ge
from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError, with_config
from torch import Tensor
from typing_extensions import TypedDict  # pydantic's own: it needs it before Python 3.12

from ebmtrain.errors import CheckpointError, UnsafeError
from ebmtrain.runs.storage.checkpoint_format import leaves


class Checkpoint(TypedDict):
    """The items of a checkpoint, in their order. The first nine are `types.TrainingItems`, which
    training saves; a run adds the others."""

    step: int
    energy: dict[str, Tensor]
    average: dict[str, Tensor] | None
    optimizer: dict[str, Any]
    method: dict[str, Tensor]
    generator: Tensor
    evaluations: int
    retries: list[dict[str, Any]]
    window: list[tuple[list[str], Tensor]]
    frame: dict[str, Any]
    """The data spec."""
    best: dict[str, Any]
    """`Best`, or {}."""
    measured: dict[str, Any]
    """`Measured`."""
    seconds: float
    """Wall clock of the run so far."""
    metrics_size: int
    """Bytes of metrics.jsonl."""


def _kinds(hint: Any) -> tuple[type, ...]:
    """The classes of the values that an annotation allows."""
    if isinstance(hint, UnionType):
        return tuple(kind for member in get_args(hint) for kind in _kinds(member))
    kind = get_origin(hint) or hint
    return (int, float) if kind is float else (kind,)


KINDS = {name: _kinds(hint) for name, hint in get_type_hints(Checkpoint).items()}
"""The classes of each item."""
# Their names, so that an error can say which; the types of what is inside stand below.
_ITEMS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "optimizer": {"state": dict, "param_groups": list},
    "best": {"metric": str, "value": (int, float), "step": int},
    "measured": {"step": (int, NoneType), "metrics": dict, "warnings": list},
}
_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
_exact = with_config(ConfigDict(extra="forbid"))


@_exact
class Best(TypedDict):
    metric: _Text
    value: float
    step: int


@_exact
class Measured(TypedDict):
    step: int | None
    metrics: dict[_Text, float | int | bool | list[float] | None]
    warnings: list[_Text]


@_exact
class Retry(TypedDict):
    step: int
    back_to: int
    lr: float


@_exact
class Nothing(TypedDict):
    """Until something was measured."""


# What goes into result.json and onto the screen, as it stands.
_WRITTEN: dict[str, TypeAdapter[Any]] = {
    "best": TypeAdapter(Best | Nothing),
    "measured": TypeAdapter(Measured),
    "retries": TypeAdapter(list[Retry]),
    "seconds": TypeAdapter(Annotated[float, Ge(0)]),
}


def validate_state(state: dict[str, Any]) -> Checkpoint:
    """The state of a run, whose items are what they should be: these names and no others, of these
    types. Whether the tensors fit the model is seen where they are put into it: see
    `TrainState.load_state_dict`; what the frame holds, by `DataSpec.from_state`.

    Raises:
        CheckpointError: they are not.
        UnsafeError: its optimizer would step to where no number is.
    """
    _require(state, {"format": (int,), **KINDS}, "")
    for name, kinds in _ITEMS.items():
        if state[name] or name != "best":  # {} until something was measured
            _require(state[name], kinds, f"{name}.")
    for name in ("energy", "average", "method"):
        items = (state[name] or {}).items()
        if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in items):
            raise CheckpointError(f"the checkpoint's {name} holds more than tensors with names")
    if not all(map(_is_window, state["window"])):
        raise CheckpointError("the checkpoint's window is not rows of metrics")
    for name in ("step", "metrics_size", "evaluations", "seconds"):
        if not 0 <= state[name] < 2**63:  # NaN compares false
            raise CheckpointError(f"the checkpoint's {name} is {state[name]}")
    for name, value in _WRITTEN.items():
        try:
            value.validate_python(state[name], strict=True)
            if any(isinstance(leaf, Tensor) for leaf in leaves(state[name])):  # passes for a float
                raise CheckpointError(f"the checkpoint's {name} holds a tensor")
        except ValidationError as error:
            reason = " ".join(str(error.errors()[0]["msg"]).split())
            raise CheckpointError(f"the checkpoint's {name} is not what it was: {reason}") from None
    for value in leaves(state["optimizer"].get("param_groups")):
        if isinstance(value, float) and not math.isfinite(value):
            raise UnsafeError(
                f"the checkpoint's optimizer is refused: it holds {value}; train again"
            )
    return cast(Checkpoint, state)


def _require(
    found: dict[str, Any], kinds: Mapping[str, type | tuple[type, ...]], where: str
) -> None:
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


def _is_window(item: Any) -> bool:
    """([names], tensor of shape (rows, names)): see `TrainState.window`."""
    if not isinstance(item, list | tuple) or len(item) != 2:
        return False
    names, rows = item
    named = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return named and isinstance(rows, Tensor) and rows.ndim == 2 and rows.shape[1] == len(names)
