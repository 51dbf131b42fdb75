"""Families of sequences from FASTA files: codes, weights, split, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ebmtrain.datasets.fasta import _neighbours, fasta
from ebmtrain.datasets.io.read_fasta import read_fasta, to_fasta
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.datasets.support import BINARY, Categorical
from ebmtrain.errors import CheckpointError, ConfigError, DataError


def write(folder, *records: str) -> str:
    path = folder / "family.fasta"
    path.write_text("".join(f">s{i}\n{r}\n" for i, r in enumerate(records, 1)))
    return str(path)


def test_symbols_become_their_places_in_the_alphabet(tmp_path):
    path = write(tmp_path, "-AC\nDE", "YWVaa.T-")  # over two lines; with insertions
    found = read_fasta(path, "-ACDEFGHIKLMNPQRSTVWY")
    assert found.codes.tolist() == [[0, 1, 2, 3, 4], [20, 19, 18, 17, 0]]
    assert found.names == ("s1", "s2")
    Path(path).write_bytes(to_fasta(found.codes.numpy(), "-ACDEFGHIKLMNPQRSTVWY", ["a", "b"]))
    assert Path(path).read_text() == ">a\n-ACDE\n>b\nYWVT-\n"


BAD = {
    "ragged": (("ACGU", "ACG"), "record 2 (s2) has 3 symbols, and 4 are expected"),
    "unknown": (("ACGU", "ACXU"), "record 2 (s2) has 'X' at position 3, which is not in"),
    "number": (("ACGU", "AC0.417"), "record 2 (s2) has '0' at position 3"),
    "one": (("ACGU",), "holds record 1 alone"),
    "copies of one": (("ACGU", "ACGU"), "holds record 1 alone, 2 times: give at least 2"),
    "gaps": (("ACGU", "----"), "record 2 (s2) has gaps alone, positions 1 to 4"),
    "insertions": (("acgu", "acgu"), "record 1 (s1) has no symbols: remove it; lower-case letters"),
    "ragged insertions": (
        ("ACGU", "ACgu"),
        "4 are expected: give aligned sequences of equal length; l",
    ),
    "empty": (("", "ACGU"), "record 1 (s1) has no symbols: remove it"),
    "none": ((), "holds no sequences"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_files_are_named_by_record_and_position(tmp_path, kind):
    records, text = BAD[kind]
    with pytest.raises(DataError) as raised:
        fasta(path=write(tmp_path, *records), alphabet="rna", seed=0)
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"ACGU\n", b"\xff\xfe", b""])
def test_what_is_no_fasta_is_refused(tmp_path, content):
    (tmp_path / "x.fasta").write_bytes(content)
    with pytest.raises(DataError, match=r"FASTA|sequences"):
        fasta(path=str(tmp_path / "x.fasta"), alphabet="rna", seed=0)
    with pytest.raises(DataError, match="cannot be read"):
        fasta(path=str(tmp_path / "missing.fasta"), seed=0)
    with pytest.raises(ConfigError, match="2 different symbols, got 'AA'"):
        fasta(path=write(tmp_path, "A", "A"), alphabet="AA", seed=0)


def test_copies_are_left_out_and_rows_are_those_of_the_file(tmp_path):
    path = write(tmp_path, "ACGU", "ACGU", "UUUU", "ACGU", "GGGG")
    data = fasta(path=path, alphabet="rna", holdout=0.3, seed=0)
    assert sorted(data.row_numbers.tolist()) == [0, 2, 4]
    codes = read_fasta(path, "-ACGU").codes[data.row_numbers]
    assert torch.equal(codes, torch.cat([data.train, data.holdout]))
    assert "2 of 5 sequences" in data.notes[0]
    assert "effective number of 3.00" in data.notes[-1]


def test_weights_and_groups_are_those_of_identities():
    codes = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 1, 1], [2, 2, 2, 2, 2.0]])
    counts, groups = _neighbours(codes, 0.8)
    assert counts.tolist() == [2, 3, 2, 1]  # 1 agrees with 0 and 2 in four of five
    assert len(groups[:3].unique()) == 1
    assert groups[3] != groups[0]


def test_batches_are_weighted_and_homologues_are_on_one_side(tmp_path):
    """Thirty copies with one change of one sequence weigh as much as one other sequence."""
    g = torch.Generator().manual_seed(0)
    symbols = "ACGU"
    family = [["A"] * 20 for _ in range(30)]
    for i, row in enumerate(family):
        row[i % 20] = "CG"[i // 20]
    others = [[symbols[k] for k in torch.randint(4, (20,), generator=g)] for _ in range(30)]
    path = write(tmp_path, *("".join(row) for row in family + others))
    data = fasta(path=path, alphabet="rna", holdout=0.2, seed=1)
    is_family = ((data.train == 1).sum(1) >= 19).double()
    assert is_family.sum() in (0, 30)
    assert len(data.holdout) in range(6, 13)
    drawn = torch.cat([data.batch(step, 50, 0).x for step in range(40)])
    share = float(((drawn == 1).sum(1) >= 19).double().mean())
    if is_family.any():
        assert share == pytest.approx(1 / (1 + len(data.train) - 30), abs=0.04)
    assert torch.equal(data.batch(3, 5, 0).x, data.batch(3, 5, 0).x)
    assert any("effective number of" in note for note in data.notes)
    rows = data.row_numbers[len(data.train) :]
    assert torch.equal(read_fasta(path, "-ACGU").codes[rows], data.holdout)


def test_the_alphabet_is_saved_with_the_model(tmp_path):
    path = write(tmp_path, "AB", "BA", "AA")
    spec = DataSpec.of(fasta(path=path, alphabet="AB", identity=0.0, holdout=0.4, seed=0))
    state = spec.state_dict()
    assert DataSpec.from_state(state).support == Categorical("AB")
    for wrong in ({"alphabet": 3}, {"space": "ternary"}):
        with pytest.raises(CheckpointError, match="its space is"):
            DataSpec.from_state(state | wrong)
    assert DataSpec.from_state(state | {"space": "binary"}).support is BINARY


def test_codes_that_are_none_are_named():
    support = Categorical("-ABC")
    support.check(torch.tensor([[0.0, 3.0]]), "points")
    for value in (4.0, -1.0, 0.417):
        with pytest.raises(DataError, match=f"element 2 of row 1 .* is {value:g}, .* 0 to 3"):
            support.check(torch.tensor([[0.0, value]]), "points")
    x = support.method_starts(torch.zeros(4000, 2), 1.0, torch.Generator().manual_seed(0))
    shares = torch.stack([(x == a).double().mean(0) for a in range(4)])
    assert ((shares - 0.25).abs() < 4.5 * (0.25 * 0.75 / 4000) ** 0.5).all()
