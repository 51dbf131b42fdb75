"""Files that can be read, and every kind that cannot."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ebmtrain.datasets.file import from_file
from ebmtrain.errors import DataError

GOOD = np.arange(20.0).reshape(10, 2) ** 1.5


def npy_bytes(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def savetxt_bytes(array, **options) -> bytes:
    stream = io.BytesIO()
    np.savetxt(stream, array, **options)
    return stream.getvalue()


def header(shape, dtype="<f8") -> bytes:
    """The first bytes of a .npy file that promises this shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return stream.getvalue()


def rows_of(points) -> np.ndarray:
    rows = torch.cat([points.train, points.holdout]).numpy()
    return rows[np.lexsort(rows.reshape(len(rows), -1).T[::-1])]


TEXT = "\n".join(",".join(repr(float(v)) for v in row) for row in GOOD)
READABLE = {
    "plain.csv": TEXT.encode(),
    "final-newline.csv": f"{TEXT}\n".encode(),
    "windows.csv": TEXT.replace("\n", "\r\n").encode(),
    "header.csv": f"x,y\n{TEXT}".encode(),
    "quoted-header.csv": f'"first, second","y"\n{TEXT}'.encode(),
    "byte-order-mark.csv": f"\ufeff{TEXT}".encode(),
    "byte-order-mark-and-header.csv": f"\ufeffx,y\n{TEXT}".encode(),
    "semicolons.csv": f"x;y\n{TEXT.replace(',', ';')}".encode(),
    "tabs.tsv": TEXT.replace(",", "\t").encode(),
    "spaced.txt": TEXT.replace(",", " , ").encode(),
    "blank-lines.csv": TEXT.replace("\n", "\n\n").encode(),
    "comment.csv": f"# made by hand\n{TEXT}".encode(),
    "savetxt.txt": savetxt_bytes(GOOD),
    "savetxt-header.txt": savetxt_bytes(GOOD, header="x y"),
    "aligned.txt": TEXT.replace(",", "    ").replace("\n", "\n   ").encode(),
    "words.txt": f"x y\n{TEXT}".replace(",", " ").encode(),
    "spaces-and-tabs.txt": TEXT.replace(",", " \t ").encode(),
    "plain.npy": npy_bytes(GOOD),
    "UPPER.NPY": npy_bytes(GOOD),
    "fortran.npy": npy_bytes(np.asfortranarray(GOOD)),
    "big-endian.npy": npy_bytes(GOOD.astype(">f8")),
    "single.npy": npy_bytes(GOOD.astype(np.float32)),
}


@pytest.mark.parametrize("file", READABLE)
def test_valid_files_are_read(tmp_path, file):
    (tmp_path / file).write_bytes(READABLE[file])
    points = from_file(path=str(tmp_path / file), seed=1)
    assert points.train.dtype == torch.float64
    assert points.batch(0, 2, 0).x.dtype == torch.float32
    assert (len(points.train), len(points.holdout)) == (8, 2)
    assert points.truth is None
    np.testing.assert_allclose(rows_of(points), GOOD, rtol=1e-6)


@pytest.mark.parametrize(
    ("array", "event"),
    [
        (np.arange(12), (1,)),
        (np.arange(24, dtype=np.uint8).reshape(12, 2), (2,)),
        (np.arange(12)[:, None] % 2 == 0, (1,)),
        (np.arange(144.0).reshape(12, 3, 4), (3, 4)),
        (np.arange(24, dtype=np.float16).reshape(12, 2), (2,)),
    ],
    ids=["1-D", "integer", "boolean", "3-D", "half"],
)
def test_arrays_of_any_shape_are_read(tmp_path, array, event):
    np.save(tmp_path / "x.npy", array)
    points = from_file(path=str(tmp_path / "x.npy"), seed=1)
    assert points.train.shape[1:] == event
    np.testing.assert_array_equal(
        np.sort(rows_of(points), 0), np.sort(array.reshape(12, *event), 0)
    )


@pytest.mark.parametrize("compress", [np.savez, np.savez_compressed])
def test_an_array_of_an_npz_file_is_read(tmp_path, compress):
    path = str(tmp_path / "x.npz")
    compress(path, GOOD)
    np.testing.assert_allclose(rows_of(from_file(path=path, seed=1)), GOOD, rtol=1e-6)
    compress(path, points=GOOD, labels=np.arange(10))
    chosen = from_file(path=path, array="points", seed=1)
    np.testing.assert_allclose(rows_of(chosen), GOOD, rtol=1e-6)


def test_the_split_depends_on_seed_and_fraction(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.arange(1000.0))
    one, again, other = (from_file(path=str(path), holdout=0.3, seed=s) for s in (1, 1, 2))
    assert len(one.holdout) == 300
    assert torch.equal(one.train, again.train)
    assert not torch.equal(one.train, other.train)
    # A split at random, not the tail: 300 draws from 0 ... 999 have mean 499.5 +- 14.
    assert abs(one.holdout.mean() - 499.5) < 4 * 14


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_two_points_suffice_for_training_and_held_out_set(tmp_path, share):
    np.save(tmp_path / "x.npy", np.array([1.0, 3.0]))
    points = from_file(path=str(tmp_path / "x.npy"), holdout=share, seed=1)
    assert (len(points.train), len(points.holdout)) == (1, 1)
    assert points.batch(0, 1, 0).x.isfinite().all()


def with_value(value, where=(3, 1)):
    array = GOOD.copy()
    array[where] = value
    return npy_bytes(array)


def npz_bytes(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def npz_of(member: bytes, name="x.npy") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, member)
    return stream.getvalue()


def flip_bit(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


class Bomb:
    """Writes a file as soon as it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("unpickled"),)


OBJECTS = np.array([[1.0, Bomb()], [2.0, None]], dtype=object)
RECORDS = np.zeros(5, dtype=[("x", "f8"), ("y", "f8")])
BAD = {
    "empty.npy": (b"", "is empty"),
    "empty.csv": (b"", "is empty"),
    "blank.csv": (b"\n\n", "holds no numbers"),
    "header-only.csv": (b"x,y\n", "holds no numbers"),
    "nan.npy": (with_value(np.nan), r"nan in row 4, column 2.*: leave out .* are not finite"),
    "inf.npy": (with_value(-np.inf, (0, 0)), r"-inf in row 1, column 1.* are not finite"),
    "constant.csv": (
        b"x,y\n1,7\n2,7\n3,7\n",
        r"column 2 \(y\) is constant \(7\): dataset.columns=\[x\] leaves",
    ),
    "constant.npy": (npy_bytes(np.full((9, 1), 0.1)), r"column 1 is constant \(0.1\): there is"),
    "ragged.txt": (b"1 2\n3\n4 5\n", "line 2 has 1 columns, the first row has 2"),
    "text.txt": (b"1 2\n3 abc\n", "line 2, column 2 is 'abc', not a number"),
    "huge.npy": (with_value(1e300), r"1e\+300 in row 4, column 2.*float32"),
    "nan-3d.npy": (npy_bytes(np.full((3, 2, 2), np.nan)), r"nan in row 1, column 1, 1"),
    "nan.csv": (b"x,y\n1,2\n\n3,nan\n", r"line 4, column 2 \(y\) is nan, a missing value"),
    "inf.csv": (b"1,2\n-inf,4\n", "line 2, column 1 is -inf"),
    "overflow.csv": (b"1,2\n1e999,4\n", "line 2, column 1 is 1e999"),
    "ragged.csv": (b"x,y\n1,2\n3\n", "line 3 has 1 columns, the first row has 2"),
    "ragged-header.csv": (b"x,y,z\n1,2\n", "line 2 has 2 columns, the first row has 3"),
    "text.csv": (
        b"x,y\n1,2\n3,abc\n",
        r"line 3, column 2 \(y\) is 'abc', not a number.* the column out by dataset.columns=\[x\]",
    ),
    "half-header.csv": (b"x,2\n1,2\n", "line 1, column 1 is 'x', not a number"),
    "second-header.csv": (b"x,y\nleft,up\n1,2\n", r"line 2, column 1 \(x\) is 'left'"),
    "missing-cell.csv": (b"1,2\n3,\n", "line 2, column 2 is empty"),
    "decimal-comma.csv": (b"1,5;2,5\n3,5;4,5\n", "decimal point"),
    "underscore.csv": (b"1,2\n1_000,3\n", "'1_000', not a number"),
    "index.csv": (b",x,y\n0,1,2\n1,3,4\n", "index"),
    "latin.csv": ("größe,x\n1,2\n".encode("latin-1"), "not UTF-8"),
    "utf16.csv": ("1,2\n3,4\n".encode("utf-16"), "not UTF-8"),
    "long-cell.csv": (b"1," + b"2" * 200_000, "not a text table"),
    "one-row.csv": (b"x,y\n1,2\n", "one point"),
    "one-row.npy": (npy_bytes(np.zeros((1, 2))), "one point"),
    "zero-d.npy": (npy_bytes(np.array(3.0)), "one number"),
    "no-columns.npy": (npy_bytes(np.zeros((5, 0))), "holds no numbers"),
    "objects.npy": (npy_bytes(OBJECTS), "Python objects"),
    "complex.npy": (npy_bytes(GOOD + 1j), "complex"),
    "strings.npy": (npy_bytes(np.array(["a", "b"])), "dtype <U1"),
    "dates.npy": (npy_bytes(np.array(["2020-01-01"], dtype="M8[D]")), "dtype datetime64"),
    "records.npy": (npy_bytes(RECORDS), "dtype"),
    "terabytes.npy": (header((2**40, 2)) + b"\0" * 64, "states 17,592,186,044,416 bytes"),
    "negative.npy": (header((-1, 2)) + b"\0" * 64, "damaged"),
    "truncated.npy": (npy_bytes(GOOD)[:-8], "states 160 bytes .* 152 follow"),
    "trailing.npy": (npy_bytes(GOOD) * 2, "damaged"),
    "header-cut.npy": (npy_bytes(GOOD)[:30], "no readable npy header"),
    "header-code.npy": (
        npy_bytes(GOOD).replace(b"'shape': (10, 2)", b"'shape': exit(1)"),
        "no readable npy header",
    ),
    "pickle.npy": (pickle.dumps(Bomb()), "no readable npy header"),
    "text.npy": (b"1,2\n3,4\n", "no readable npy header"),
    "text.npz": (b"1,2\n3,4\n", "not an npz archive"),
    "cut.npz": (npz_bytes(x=GOOD)[:-40], "not an npz archive"),
    "no-arrays.npz": (npz_bytes(), "holds no array"),
    "other-members.npz": (npz_of(b"hello", "readme.txt"), "holds no array"),
    "several.npz": (npz_bytes(points=GOOD, labels=GOOD), "2 arrays: .*labels, points"),
    "objects.npz": (npz_bytes(x=OBJECTS), r"\[x\] holds Python objects"),
    "terabytes.npz": (npz_of(header((2**40, 2)) + b"\0" * 64), "states 17,592,186,044,416"),
    "flipped.npz": (flip_bit(npz_bytes(x=GOOD), 250), "Bad CRC-32"),
    "flipped-late.npz": (flip_bit(npz_bytes(x=np.ones(10_000)), 50_000), "cannot be read .*CRC"),
    "model.pt": (b"PK", "is damaged, or holds more than tensors"),
    "model.ckpt": (b"PK", "no known kind"),
    "noextension": (b"1,2\n3,4\n", "no known kind"),
}


@pytest.mark.parametrize("file", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path, monkeypatch, file):
    monkeypatch.chdir(tmp_path)
    content, message = BAD[file]
    Path(file).write_bytes(content)
    with pytest.raises(DataError, match=message) as refusal:
        from_file(path=file, seed=1)
    line = str(refusal.value)
    assert file in line
    assert "\n" not in line
    assert ": " in line  # what is wrong: what to do
    assert not Path("unpickled").exists()


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.csv does not exist"):
        from_file(path=str(tmp_path / "nowhere.csv"), seed=1)


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(DataError, match="is a directory"):
        from_file(path=str(tmp_path), seed=1)


def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "x.csv")
    with pytest.raises(DataError, match="is a pipe"):
        from_file(path=str(tmp_path / "x.csv"), seed=1)


@pytest.mark.parametrize("path", ["x\0.csv", "x" * 300 + ".csv", "~nobody-of-this-name/x.csv"])
def test_an_impossible_path_is_refused(path):
    with pytest.raises(DataError, match="cannot be read"):
        from_file(path=path, seed=1)


def test_a_missing_array_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(npz_bytes(points=GOOD, labels=GOOD))
    with pytest.raises(DataError, match="did you mean points"):
        from_file(path=str(tmp_path / "x.npz"), array="point", seed=1)
    with pytest.raises(DataError, match="it holds labels, points"):
        from_file(path=str(tmp_path / "x.npz"), array="zzz", seed=1)


def test_an_array_name_for_a_file_without_names_is_refused(tmp_path):
    (tmp_path / "x.npy").write_bytes(npy_bytes(GOOD))
    with pytest.raises(DataError, match="no named arrays"):
        from_file(path=str(tmp_path / "x.npy"), array="points", seed=1)


# Tables with named columns

WINES = b"label,alcohol,ash,hue\nred,13.1,2.4,1.0\nwhite,12.2,2.1,0.9\nred,13.9,2.6,1.1\n"
COLUMNS = {
    "a word in place of a name": (["hu"], "no column hu: check the names; did you mean hue"),
    "a column twice": (["ash", "ash"], "column ash of .* occurs twice"),
    "a column of words": (["label"], r"line 2, column 1 \(label\) is 'red', not a number"),
    "no column": ([], "no columns of .* are chosen"),
}


def test_columns_are_selected_by_name_in_the_given_order(tmp_path):
    (tmp_path / "wines.csv").write_bytes(WINES)
    points = from_file(path=str(tmp_path / "wines.csv"), columns=["hue", "alcohol"], seed=1)
    assert points.names == ("hue", "alcohol")
    assert points.to(dtype=torch.float64).names == points.names
    np.testing.assert_array_equal(rows_of(points), [[0.9, 12.2], [1.0, 13.1], [1.1, 13.9]])


@pytest.mark.parametrize("case", COLUMNS)
def test_invalid_columns_are_refused(tmp_path, case):
    (tmp_path / "wines.csv").write_bytes(WINES)
    columns, message = COLUMNS[case]
    with pytest.raises(DataError, match=message):
        from_file(path=str(tmp_path / "wines.csv"), columns=columns, seed=1)


def test_columns_of_files_without_a_header_are_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes(TEXT.encode())
    np.save(tmp_path / "x.npy", GOOD)
    with pytest.raises(DataError, match="its columns have no names to choose by"):
        from_file(path=str(tmp_path / "x.csv"), columns=["x"], seed=1)
    with pytest.raises(DataError, match="no named columns"):
        from_file(path=str(tmp_path / "x.npy"), columns=["x"], seed=1)
    assert from_file(path=str(tmp_path / "x.csv"), seed=1).names is None


def test_an_index_column_may_precede_the_selected_columns(tmp_path):
    (tmp_path / "x.csv").write_bytes(b",x,y\n0,1,2\n1,3,4\n")
    assert from_file(path=str(tmp_path / "x.csv"), columns=["y"], seed=1).names == ("y",)


@pytest.mark.parametrize("word", ["", "NA", "?", "null", "NaN"])
def test_a_missing_value_is_refused_with_row_and_column(tmp_path, word):
    (tmp_path / "x.csv").write_bytes(f"mass,length\n1,2\n3,{word}\n".encode())
    with pytest.raises(DataError, match=r"line 3, column 2 \(length\) is .*leave the row out"):
        from_file(path=str(tmp_path / "x.csv"), seed=1)


def test_control_characters_in_column_names_are_escaped(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"a\x1b[31mred,\x07\n1,2\n3,4\n")
    assert from_file(path=str(tmp_path / "x.csv"), seed=1).names == ("a [31mred", "column 2")
