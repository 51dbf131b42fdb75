"""Damage is detected, never loaded."""

from __future__ import annotations

import hashlib
import io
import math
import os
import random
import re
from typing import get_type_hints

import pytest
import torch
from same_state import differences

from ebmtrain.errors import CheckpointError, UnsafeError
from ebmtrain.runs.storage.checkpoint_format import FORMAT, decode, encode
from ebmtrain.runs.storage.checkpoint_schema import KINDS, Checkpoint, validate_state
from ebmtrain.types import TrainingItems

STATE = {
    "step": 7,
    "energy": {"w": torch.arange(20.0), "n": torch.tensor(3)},
    "average": None,
    "optimizer": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 0.1}]},
    "method": {"chains": torch.randn(5, 2, dtype=torch.float64)},
    "generator": torch.Generator().manual_seed(1).get_state(),
    "best": {"metric": "nll", "value": 1.5, "step": 5},
}
DATA = encode(STATE)


def test_a_round_trip_preserves_the_state():
    state = decode(DATA, "x.pt")
    assert state.pop("format") == FORMAT
    assert differences(STATE, state) == []


def test_equal_states_have_equal_bytes():
    assert encode(STATE) == DATA


def test_torch_load_reads_the_file(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(DATA)
    state = torch.load(path, weights_only=True)
    assert differences({"format": FORMAT, **STATE}, state) == []


def test_the_digest_covers_the_whole_body():
    mark = b"\nebmtrain-sha256:"
    body, _, digest = DATA.rpartition(mark)
    assert hashlib.sha256(body).hexdigest().encode() == digest


# Some 200 places, the first and the last bytes among them; two bits of each.
PLACES = sorted({*range(0, len(DATA), max(1, len(DATA) // 200)), 0, 1, len(DATA) - 1})


def test_every_flipped_bit_is_detected():
    assert len(PLACES) >= 200
    for place in PLACES:
        for bit in (place % 8, (place + 3) % 8):
            damaged = bytearray(DATA)
            damaged[place] ^= 1 << bit
            with pytest.raises(CheckpointError, match=r"x\.pt is damaged"):
                decode(bytes(damaged), "x.pt")


def undetected_damage(data: bytes, count: int) -> int:
    """How many of `count` damaged copies are loaded: half have a flipped bit, half are cut."""
    draw, found = random.Random(0), 0
    for number in range(count):
        place = draw.randrange(len(data))
        damaged = bytearray(data if number % 2 else data[:place])
        if number % 2:
            damaged[place] ^= 1 << draw.randrange(8)
        try:
            decode(bytes(damaged), "x.pt")
            found += 1
        except CheckpointError:
            pass
    return found


def test_damaged_files_are_never_loaded():
    assert undetected_damage(DATA, 2000) == 0


@pytest.mark.parametrize("damage", ["cut", "longer", "zeros", "twice", "empty", "middle"])
def test_truncated_or_patched_files_are_refused(damage):
    half = len(DATA) // 2
    spoilt = {
        "cut": [DATA[:n] for n in (1, 63, 64, 80, half, len(DATA) - 1)],
        "longer": [DATA + b"\0", DATA + b"\n"],
        "zeros": [bytes(len(DATA))],
        "twice": [DATA + DATA],
        "empty": [b""],
        "middle": [DATA[:half] + DATA[half + 1 :]],
    }[damage]
    for data in spoilt:
        if damage == "twice":  # two whole files: the digest of the second is not that of both
            assert data != DATA
        with pytest.raises(CheckpointError, match=r"damaged"):
            decode(data, "x.pt")


def sealed(body: bytes) -> bytes:
    return body + b"\nebmtrain-sha256:" + hashlib.sha256(body).hexdigest().encode()


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return sealed(buffer.getvalue())


class Hostile:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (saved(Hostile()), UnsafeError, "is refused: it is not a checkpoint of ebmtrain"),
        (saved({"format": FORMAT, "x": Hostile()}), UnsafeError, "is refused"),
        (saved({"format": FORMAT + 1}), CheckpointError,
         f"has format {FORMAT + 1}, this version reads 4 and {FORMAT}"),
        (saved({"step": 1}), CheckpointError, "has format None"),
        (saved([1, 2]), CheckpointError, "has format None"),
        (sealed(b"not a zip"), UnsafeError, "is refused"),
        (sealed(b""), UnsafeError, "is refused"),
    ],
)  # fmt: skip
def test_an_intact_file_of_another_kind_is_refused(data, error, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=reason):
        decode(data, "x.pt")
    assert not (tmp_path / "executed").exists()


# The schema

RUN = {
    "step": 7,
    "energy": {"w": torch.ones(3)},
    "average": None,
    "optimizer": {"state": {}, "param_groups": []},
    "method": {},
    "generator": torch.Generator().get_state(),
    "evaluations": 5,
    "retries": [],
    "window": [(["loss"], torch.ones(2, 1))],
    "pending": {"loss": 1.0},
    "frame": {},
    "best": {},
    "measured": {"step": None, "metrics": {}, "warnings": []},
    "seconds": 1.5,
    "metrics_size": 10,
}


def test_the_state_of_a_run_is_valid():
    assert set(RUN) == set(KINDS) == set(Checkpoint.__annotations__)
    assert validate_state(decode(encode(RUN), "x.pt"))["step"] == 7


def test_the_schema_starts_with_the_items_of_training():
    """Storage may not import `types`, so the two are written down twice."""
    training = get_type_hints(TrainingItems)
    whole = get_type_hints(Checkpoint)
    assert {name: whole[name] for name in training} == training
    assert list(whole)[: len(training)] == list(training)


def test_items_have_the_types_of_the_schema():
    assert KINDS["average"] == (dict, type(None))
    assert KINDS["seconds"] == (int, float)
    assert KINDS["generator"] == (torch.Tensor,)
    assert KINDS["window"] == (list,)


@pytest.mark.parametrize(
    ("item", "value", "reason"),
    [
        ("step", "7", "step is str"), ("step", True, "step is bool"), ("step", -1, "step is -1"),
        ("seconds", math.nan, "seconds is nan"), ("seconds", math.inf, "seconds is inf"),
        ("metrics_size", -1, "metrics_size is -1"), ("evaluations", -1, "evaluations is -1"),
        ("energy", {"w": 1.0}, "energy holds more than tensors"),
        ("average", {"w": None}, "average holds more than tensors"),
        ("method", {"chains": [1]}, "method holds more than tensors"),
        ("method", {None: torch.ones(3)}, "method holds more than tensors with names"),
        ("optimizer", {"state": {}}, "has no optimizer.param_groups"),
        ("best", {"metric": "nll", "value": 1.0}, "has no best.step"),
        ("best", {"metric": 1, "value": 1.0, "step": 1}, "best.metric is int"),
        ("measured", {"step": 1, "metrics": {}, "warnings": [], "x": 1}, "measured.'x'"),
        ("measured", {"step": 1, "metrics": {"nll": torch.zeros(())}, "warnings": []},
         "measured holds a tensor"),
        ("retries", [{"step": 1, "back_to": 0, "lr": 0.1, "x": 1}], "retries is invalid"),
        ("window", [["loss"]], "window"), ("window", [(["a", "b"], torch.ones(2, 1))], "window"),
        ("pending", {"loss": torch.zeros(())}, "pending holds a tensor"),
        ("pending", {"loss": "1"}, "pending is invalid"),
        ("pending", [], "pending is list"),
        ("extra", 1, "holds 'extra', which is not known"),
    ],
)  # fmt: skip
def test_a_state_of_another_shape_is_refused(item, value, reason):
    with pytest.raises(CheckpointError, match=re.escape(reason)):
        validate_state(decode(encode(RUN | {item: value}), "x.pt"))


@pytest.mark.parametrize("item", RUN)
def test_a_missing_item_is_refused(item):
    with pytest.raises(CheckpointError, match=f"has no {item}"):
        validate_state(decode(encode({k: v for k, v in RUN.items() if k != item}), "x.pt"))


VIEWS = {
    "transposed": torch.arange(6.0).view(2, 3).T,
    "part": torch.arange(1000.0)[10:13],
    "repeated": torch.zeros(()).expand(1000),
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_saved_as_their_values_and_refused_when_loaded(name):
    data = encode({"x": VIEWS[name]})
    found = decode(data, "x.pt")["x"]
    assert torch.equal(found, VIEWS[name])
    assert found.is_contiguous()
    assert found.untyped_storage().nbytes() == found.numel() * 4
    with pytest.raises(UnsafeError, match="not all of its storage"):
        decode(saved({"format": FORMAT, "x": VIEWS[name]}), "x.pt")


def test_tensors_of_other_dtypes_are_refused():
    with pytest.raises(UnsafeError, match=r"a tensor of torch\.complex64"):
        decode(encode({"x": torch.ones(2, dtype=torch.complex64)}), "x.pt")


def test_a_parameter_instead_of_a_tensor_is_refused():
    with pytest.raises(UnsafeError, match="holds a parameter"):
        decode(saved({"format": FORMAT, "x": torch.nn.Parameter(torch.ones(2))}), "x.pt")


def test_a_state_of_format_4_has_no_pending_row():
    state = {k: v for k, v in RUN.items() if k != "pending"} | {"format": 4}
    assert validate_state(state)["pending"] is None
