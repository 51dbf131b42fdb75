"""The items of a checkpoint, their types, and their validation."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, cast, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, StringConstraints, TypeAdapter, ValidationError, with_config
from torch import Tensor
from typing_extensions import TypedDict  # pydantic's own: it needs it before Python 3.12

from ebmtrain.errors import CheckpointError
from ebmtrain.runs.storage.checkpoint_format import leaves


class Checkpoint(TypedDict):
    """The items of a checkpoint, in order. The first ten are `types.TrainingItems`."""

    step: int
    energy: dict[str, Tensor]
    average: dict[str, Tensor] | None
    optimizer: dict[str, Any]
    method: dict[str, Tensor]
    generator: Tensor
    evaluations: int
    retries: list[dict[str, Any]]
    window: list[tuple[list[str], Tensor]]
    pending: dict[str, float] | None
    frame: dict[str, Any]
    """The data spec."""
    best: dict[str, Any]
    """metric, value and step of best.pt; {}: there is none."""
    measured: dict[str, Any]
    """step, metrics and warnings of the last evaluation."""
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
# Checked before the adapters below, so that an error names the item.
_ITEMS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "optimizer": {"state": dict, "param_groups": list},
    "best": {"metric": str, "value": (int, float), "step": int},
    "measured": {"step": (int, NoneType), "metrics": dict, "warnings": list},
}
_Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
_exact = with_config(ConfigDict(extra="forbid"))


@_exact
class _Best(TypedDict):
    metric: _Text
    value: float
    step: int


@_exact
class _Measured(TypedDict):
    step: int | None
    metrics: dict[_Text, float | int | bool | list[float] | None]
    warnings: list[_Text]


@_exact
class _Retry(TypedDict):
    step: int
    back_to: int
    lr: float


# Items that are copied into result.json and printed.
_PRINTED: dict[str, TypeAdapter[Any]] = {
    "best": TypeAdapter(_Best),
    "measured": TypeAdapter(_Measured),
    "retries": TypeAdapter(list[_Retry]),
    "pending": TypeAdapter(dict[_Text, float] | None),
}


def validate_state(state: dict[str, Any]) -> Checkpoint:
    """The same state, with the names and types of `Checkpoint` and no others.

    `TrainState.load_state_dict` checks whether the tensors fit the model, and `DataSpec.from_state`
    the content of the item `frame`.

    Raises:
        CheckpointError: an item is missing, unknown or of another type.
    """
    if state.get("format") == 4:  # the callbacks ran before each save
        state = {"pending": None, **state}
    _require(state, {"format": (int,), **KINDS}, "")
    for name, kinds in _ITEMS.items():
        if state[name] or name != "best":  # {} before the first evaluation
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
    for name, value in _PRINTED.items():
        if any(isinstance(leaf, Tensor) for leaf in leaves(state[name])):  # passes for a float
            raise CheckpointError(f"the checkpoint's {name} holds a tensor")
        try:
            if state[name] or name != "best":
                value.validate_python(state[name], strict=True)
        except ValidationError as error:
            reason = " ".join(str(error.errors()[0]["msg"]).split())
            raise CheckpointError(f"the checkpoint's {name} is invalid: {reason}") from None
    return cast(Checkpoint, state)


def _require(
    found: dict[str, Any], kinds: Mapping[str, type | tuple[type, ...]], where: str
) -> None:
    """Raises CheckpointError for names that are missing, unknown or of another type."""
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
