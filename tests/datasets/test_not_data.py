"""Cells of a table that are not data are told from data, named, or asked about."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pandas as pd
import pytest

from ebmtrain.datasets.file import from_file
from ebmtrain.datasets.read_for_model import read_for_model
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.errors import DataError

X = np.random.default_rng(0).normal(20, 3, (40, 3)).round(3)


def read(path, **options) -> tuple[np.ndarray, tuple[str, ...] | None, tuple[str, ...]]:
    """Rows sorted by the last column, names, notes."""
    points = from_file(path=str(path), seed=1, standardize=False, **options)
    rows = np.concatenate([points.train.numpy(), points.holdout.numpy()])
    return rows[np.argsort(rows[:, -1])], points.names, points.notes


def write(path, x=X, header=None, lines=(), **options):
    """A text table by numpy, `header` above and `lines` below."""
    np.savetxt(path, x, "%.12g", delimiter=",")
    body = path.read_text()
    path.write_text(
        ("" if header is None else f"{header}\n") + body + "".join(f"{s}\n" for s in lines)
    )
    return path


ORDERED = X[np.argsort(X[:, -1])]


@pytest.mark.parametrize("header", ["0,1,2", "1,2,3"])
def test_a_header_that_counts_the_columns_is_told_from_data(tmp_path, header):
    file = write(tmp_path / "x.csv", header=header)
    rows, names, (note,) = read(file)
    np.testing.assert_array_equal(rows, ORDERED)
    assert names == tuple(header.split(","))
    assert f"({header.replace(',', ', ')}) is read as the names" in note
    assert "dataset.header=false if it is a point" in note
    assert len(read(file, header=False)[0]) == 41
    chosen, names, _ = read(file, columns=["1", "2"])
    assert names == ("1", "2")
    assert len(chosen) == 40


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_combination_of_other_columns_is_named(tmp_path, dtype):
    file, x = tmp_path / "x.npy", np.random.default_rng(0).normal(5, 3, (200, 3)).astype(dtype)
    np.save(file, np.column_stack([x, x[:, 0] - 2 * x[:, 2]]))
    (note,) = read(file)[2]
    assert "is a linear combination of the other columns" in note
    assert "no density" in note
    close = x[:, 0] + 1e-3 * np.random.default_rng(1).normal(size=200)
    np.save(file, np.column_stack([x, close]).astype(dtype))
    assert read(file)[2] == ()


def test_fewer_rows_than_columns_are_named(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(8, 200)))
    (note,) = read(tmp_path / "x.npy")[2]
    assert "8 rows of 200 columns, fewer points than coordinates: transpose it" in note


MAY_BE = {
    "whole numbers below": ("0,1,2", np.round(X)),
    "one whole column": ("0,1,2", np.column_stack([X[:, :2], X[:, 2].round()])),
    "years": ("2001,2002,2004", X),
    "a single zero": ("0", X[:, :1] + 0.0005),
    "wave lengths": ("400.5,401,401.5,402,402.5,403", np.tile(X, 2) + np.arange(6)),
}


@pytest.mark.parametrize("case", MAY_BE)
def test_a_first_row_that_may_be_a_header_is_asked_about(tmp_path, case):
    header, x = MAY_BE[case]
    file = write(tmp_path / "x.csv", x, header)
    with pytest.raises(DataError, match=r"dataset\.header=true or dataset\.header=false"):
        read(file)
    assert len(read(file, header=True)[0]) == 40
    assert len(read(file, header=False)[0]) == 41
    assert read(file, header=True)[1] == tuple(header.split(","))


def test_first_rows_of_numbers_are_data(tmp_path):
    for first in ([0.5, 1.0, 2.0], [20.5, 21.0, 22.0], [0.5, 1.0, 3.0]):
        x = np.vstack([first, X])
        assert len(read(write(tmp_path / "x.csv", x))[0]) == 41
    bits = np.random.default_rng(0).integers(0, 2, (40, 2))
    bits[0] = 0, 1
    assert len(read(write(tmp_path / "x.csv", bits))[0]) == 40


@pytest.mark.parametrize("first", ["temp,2020,x", "temp,nan,inf"])
def test_a_header_with_numbers_among_names_is_asked_about(tmp_path, first):
    file = write(tmp_path / "x.csv", header=first)
    with pytest.raises(DataError, match=r"line 1, column 1 is 'temp', .* dataset\.header=true if"):
        read(file)
    assert read(file, header=True)[1] == tuple(first.split(","))


@pytest.mark.parametrize(
    "first", ["NA,NA,NA", ",,", "?,?,?", "1.5;2;3", '"1,5","2,5","3,5"', "1 000,2 000,3 000"]
)
def test_a_row_of_data_that_cannot_be_read_is_not_taken_for_a_header(tmp_path, first):
    file = write(tmp_path / "x.csv", header=first)
    if ";" in first:
        file.write_text(file.read_text().replace(",", ";").replace("1.5", "1,5"))
    with pytest.raises(DataError, match=r"line 1, column 1|without a name"):
        read(file)


def pandas_index(path, **options):
    frame = pd.DataFrame(X, columns=["temp", "power", "a b"])
    frame.to_csv(path, **options)
    return path


def test_an_index_column_is_named(tmp_path):
    left_out = re.escape("""dataset.columns='["temp","power","a b"]'""")
    file = pandas_index(tmp_path / "x.csv")
    with pytest.raises(DataError, match=f"has an index, .* {left_out}"):
        read(file)
    twice = tmp_path / "y.csv"
    pd.read_csv(file).to_csv(twice)
    with pytest.raises(DataError, match=f"has an index, .* {left_out}"):
        read(twice)
    once = tmp_path / "z.csv"
    pd.read_csv(file).to_csv(once, index=False)
    with pytest.raises(DataError, match=f"has an index, .* {left_out}"):
        read(once)
    rows, names, _ = read(once, columns=["temp", "power", "a b"])
    np.testing.assert_allclose(rows, ORDERED)
    assert names == ("temp", "power", "a b")


def test_row_names_of_r_are_an_index(tmp_path):
    lines = [f'"{i}" {a} {b} {c}' for i, (a, b, c) in enumerate(X.tolist(), 1)]
    (tmp_path / "x.txt").write_text("\n".join(['"temp" "power" "z"', *lines]))
    with pytest.raises(DataError, match=r"has an index.* dataset\.columns=\[temp,power,z\]"):
        read(tmp_path / "x.txt")
    np.testing.assert_array_equal(
        read(tmp_path / "x.txt", columns=["temp", "power", "z"])[0], ORDERED
    )


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_column_that_numbers_the_rows_is_named(tmp_path, start, shuffled):
    number = np.arange(40.0) + start
    if shuffled:
        number = np.random.default_rng(0).permutation(number)
    x = np.column_stack([X[:, :1], number, X[:, 1:]])
    file = write(tmp_path / "x.csv", x, "a,id,b,c")
    with pytest.raises(
        DataError,
        match=rf"column 2 \(id\) numbers the rows from {start}.* dataset.columns=\[a,b,c\]",
    ):
        read(file)
    np.testing.assert_array_equal(read(file, columns=["a", "b", "c"])[0], ORDERED)
    assert read(file, columns=["a", "id", "b", "c"])[0].shape == (40, 4)
    np.save(tmp_path / "x.npy", x)
    _, _, (note,) = read(tmp_path / "x.npy")
    assert f"column 2 numbers the rows from {start}" in note


def test_a_header_of_numbers_is_not_repeated(tmp_path):
    file = write(tmp_path / "x.csv", header="0,1,2", lines=["", "# part 2", "0,1,2", "3.5,4.5,5.5"])
    with pytest.raises(DataError, match="line 44 repeats the names of the columns: leave it out"):
        read(file)


CODES = [-999, -9999, 9999, -99, 1e20, -1e30, 9.96920996839e36, -32768, 2147483647]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("count", [1, 5])
def test_codes_for_missing_values_are_named(tmp_path, code, count):
    x = X.copy()
    x[3 : 3 + count, 1] = code
    np.save(tmp_path / "x.npy", x)
    file = write(tmp_path / "x.csv", x, "a,b,c")
    for path, column in ((file, r"column 2 \(b\)"), (tmp_path / "x.npy", "column 2")):
        with pytest.raises(
            DataError, match=f"{column} is .* in row 4 .*a code for a missing"
        ) as got:
            read(path)
        typed = re.search(r"dataset\.missing=\[(.+?)\] leaves such", str(got.value))
        assert typed
        rows, _, (note,) = read(path, missing=[code])
        np.testing.assert_allclose(rows, ORDERED[~np.isin(ORDERED[:, 2], x[3 : 3 + count, 2])])
        assert f"{count} of 40 points" in note
    assert len(read(file, missing=[])[0]) == 40


def test_several_codes_in_one_column_are_named(tmp_path):
    x = X.copy()
    x[3, 1], x[5, 1] = -999, 9999
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(DataError, match="-999 in row 4"):
        read(tmp_path / "x.npy")
    x[3, 1] = 20
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(DataError, match="9999 in row 6"):
        read(tmp_path / "x.npy")


def test_a_repeated_extreme_value_is_noted(tmp_path):
    x = X.copy()
    x[3:8, 1] = -1
    x[:, 1] += 60 * (x[:, 1] > 0)
    np.save(tmp_path / "x.npy", x)
    _, _, (note, _) = read(tmp_path / "x.npy")
    assert "column 2 is -1 in row 4 (counted from 1) and 4 others" in note
    assert "dataset.missing=[-1] leaves such rows out" in note


def test_values_near_the_others_are_data(tmp_path):
    x = np.abs(np.random.default_rng(0).normal(0, 600, (200, 2))).round()
    x[0] = 999, 99
    onehot = np.eye(3)[np.random.default_rng(0).integers(0, 3, 60)]
    for data in (x, onehot, x - 999):
        np.save(tmp_path / "x.npy", data)
        assert not any("missing" in note for note in read(tmp_path / "x.npy")[2])


def test_a_row_of_totals_is_named(tmp_path):
    for what, row in (("sum", X.sum(0)), ("mean", X.mean(0))):
        np.save(tmp_path / "x.npy", np.vstack([X, row]))
        with pytest.raises(DataError, match=f"row 41 .* is the {what} of all rows above: leave"):
            read(tmp_path / "x.npy")


REFUSED = {
    "units": ("a,b,c\nkg,m,s", "line 2, column 1 (a) is 'kg', not a number: .* rows of units"),
    "names again": ("a,b,c\n1,2,3\na,b,c", "line 3 repeats the names of the columns: leave it"),
    "total": ("a,b,c\n1,2,3\nTotal,4,6", "line 3, column 1 (a) is 'Total', .* totals"),
    "thousands": ('a;b;c\n1,234.5;2;3', "line 2, column 1 (a) is '1,234.5', .* separators of thou"),
    "points in thousands": ('a;b;c\n1.234.567;2;3', "'1.234.567', .* separators of thousands"),
    "apostrophes": ("a;b;c\n1'234;2;3", "1'234\", not a number: .* separators of thousands"),
    "decimal comma": ("a;b;c\n1,5;2;3", "column 1 (a) is '1,5', .* a decimal point"),
    "truth": ("a,b,c\nTrue,2,3", "column 1 (a) is 'True', not a number: write 1 and 0"),
    "error of a spreadsheet": ("a,b,c\n#DIV/0!,2,3", "line 2, column 1 (a) is #DIV/0!, a missing"),
    "pandas' missing value": ("a,b,c\n1,<NA>,3", "line 2, column 2 (b) is <NA>, a missing value"),
    "percent": ("a,b,c\n5%,2,3", "column 1 (a) is '5%', not a number"),
    "open quote": ('a,b,c\n1,2,"3', "not a text table (unexpected end of data in '1,2,\"3')"),
    "date": ("a,b,c\n2020-01-01,2,3", "column 1 (a) is '2020-01-01', not a number"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_cells_that_are_not_numbers_are_refused_by_line_and_column(tmp_path, case):
    text, message = REFUSED[case]
    mark = ";" if ";" in text else ","
    (tmp_path / "x.csv").write_text(text + f"\n4{mark}5{mark}6.5" * 3)
    escaped = re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(DataError, match=escaped):
        read(tmp_path / "x.csv")


def test_columns_and_labels_are_selected_by_numbers_as_names(command, folder):
    """As the command line gives them."""
    pd.DataFrame(X).to_csv("x.csv", index=False)
    np.savez("x.npz", **{"0": X, "1": np.arange(40) % 3})
    small = ("train.batch_size=8", "method.slots=16", "model.width=8")
    outcome = command(
        "check", *small, "dataset=file", "dataset.path=x.csv", "dataset.columns=[0,2]"
    )
    assert outcome.code == 0, outcome.err
    assert "32 points of shape (2,)" in outcome.out
    outcome = command("check", *small, "dataset=file", "dataset.path=x.npz", "dataset.array=0",
                      "dataset.labels=1", "method=jem")  # fmt: skip
    assert outcome.code == 0, outcome.err


def test_rows_to_score_are_read_without_questions(tmp_path):
    spec = DataSpec.of(from_file(path=str(write(tmp_path / "x.csv")), seed=1))
    whole = write(tmp_path / "whole.csv", X.round(), "0,1,2")
    assert read_for_model(str(whole), None, {}, spec).shape == (41, 3)
    counted = write(tmp_path / "counted.csv", X, "0,1,2")
    assert read_for_model(str(counted), None, {}, spec).shape == (40, 3)
    assert read_for_model(str(whole), None, {"header": True}, spec).shape == (40, 3)
    named = DataSpec.of(from_file(path=str(counted), seed=1))
    np.testing.assert_array_equal(read_for_model(str(whole), None, {}, named), X.round())


def test_compressed_text_is_known_by_its_bytes(tmp_path):
    text = write(tmp_path / "x.csv", header="a,b,c").read_bytes()
    (tmp_path / "z.csv").write_bytes(gzip.compress(text))
    (tmp_path / "plain.csv.gz").write_bytes(text)
    for name in ("z.csv", "plain.csv.gz"):
        np.testing.assert_array_equal(read(tmp_path / name)[0], ORDERED)


def test_codes_in_sequences_are_named(tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 5, 2))
    x[3, 4, 1] = -9999
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(
        DataError, match=r"element 5, 2 is -9999 in row 4 .* dataset\.missing=\[-99"
    ):
        from_file(path=str(tmp_path / "x.npy"), seed=1)
    points = from_file(path=str(tmp_path / "x.npy"), missing=[-9999], seed=1)
    assert len(points.train) + len(points.holdout) == 19
    x[2, 3:] = np.nan  # a shorter sequence
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(DataError, match="element 5, 2 is -9999 in row 4"):
        from_file(path=str(tmp_path / "x.npy"), seed=1)
    pixels = np.random.default_rng(0).integers(0, 5, (40, 4, 4))
    pixels[7, 0, 0], pixels[8, 0, 1] = 99, 65535
    np.save(tmp_path / "y.npy", pixels)
    assert len(from_file(path=str(tmp_path / "y.npy"), seed=1).train) == 32


def test_codes_in_single_precision_are_left_out(tmp_path):
    x = X.astype(np.float32)
    x[3, 1], x[5, 1] = 1e20, -999.1
    np.save(tmp_path / "x.npy", x)
    assert len(read(tmp_path / "x.npy", missing=[1e20, -999.1])[0]) == 38


def test_a_column_of_text_is_left_out_by_the_argument_in_the_message(tmp_path):
    body = "".join(f"{a},{b},city {i},\n" for i, (a, b, _) in enumerate(X.tolist()))
    (tmp_path / "x.csv").write_text("temp,power,place,\n" + body)
    with pytest.raises(DataError, match=r"column 3 \(place\) is 'city 0', .*=\[temp,power\]$"):
        read(tmp_path / "x.csv")
    (tmp_path / "y.csv").write_text(("temp,power,place,\n" + body).replace("city", ""))
    with pytest.raises(DataError, match=r"column 4 .* is empty: .*=\[temp,power,place\]$"):
        read(tmp_path / "y.csv")
    rows, _, _ = read(tmp_path / "x.csv", columns=["temp", "power"])
    np.testing.assert_array_equal(rows, X[np.argsort(X[:, 1]), :2])
    constant = write(tmp_path / "z.csv", np.column_stack([X, np.ones(40)]), "a,b,c,d")
    with pytest.raises(
        DataError, match=r"column 4 \(d\) is constant \(1\): .*=\[a,b,c\] leaves it"
    ):
        read(constant)


def test_a_hint_of_the_delimiter_is_no_header(tmp_path):
    file = write(tmp_path / "x.csv", X)
    file.write_text("sep=;\n" + file.read_text().replace(",", ";"))
    rows, names, _ = read(file)
    np.testing.assert_array_equal(rows, ORDERED)
    assert names is None


@pytest.mark.parametrize("mark", [",", " "])
def test_rows_of_other_lengths_are_refused_beside_selected_columns(tmp_path, mark):
    file = write(tmp_path / "x.txt", header="a,b,c", lines=["1.5,2.5,3.5,4.5"])
    file.write_text(file.read_text().replace(",", mark))
    with pytest.raises(DataError, match="line 42 has 4 columns, the first row has 3"):
        read(file, columns=["a", "b"])


def test_classes_in_numbers_are_in_their_order(tmp_path):
    write(tmp_path / "x.csv", np.column_stack([X, np.arange(40) % 12]), "a,b,c,y")
    labels = from_file(path=str(tmp_path / "x.csv"), labels="y", seed=1).labels
    assert labels is not None
    assert labels.names == tuple(map(str, range(12)))
