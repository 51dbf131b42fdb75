"""Every format of files gives the points and classes that were written, or is refused by name."""

from __future__ import annotations

import gzip
import pickle
import sys
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse
import torch
from safetensors.torch import save_file

from ebmtrain.datasets.file import from_file
from ebmtrain.datasets.io.read_csv import read_csv
from ebmtrain.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(30, 3))
SPECIES = np.array(["cat", "dog", "emu"])[RNG.integers(0, 3, 30)]
NUMBER = np.searchsorted(["cat", "dog", "emu"], SPECIES)
FRAME = pd.DataFrame(X, columns=["a", "b", "c d"])


def write_mat73(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["x"], file["y"] = X.T, NUMBER[None].astype(float)
        file["name"] = np.array([[99], [97]], np.uint16)
        file["name"].attrs["MATLAB_class"] = np.bytes_("char")
        file["none"] = np.zeros(2, np.uint64)
        file["none"].attrs["MATLAB_empty"] = 1
        file["#refs#/a"] = X
    head = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"
    path.write_bytes(head + path.read_bytes()[len(head) :])


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["group/x"], file["y"], file["species"] = X, NUMBER, SPECIES.astype("S3")
        file["words"] = SPECIES.tolist()


def tensors() -> dict[str, torch.Tensor]:
    return {"x": torch.tensor(X), "y": torch.tensor(NUMBER)}


WRITERS = {
    "x.csv.gz": lambda p: p.write_bytes(gzip.compress(FRAME.to_csv(index=False).encode())),
    "x.parquet": lambda p: FRAME.to_parquet(p, index=False),
    "index.parquet": lambda p: FRAME.set_index(SPECIES).to_parquet(p),
    "range.parquet": lambda p: FRAME.to_parquet(p),
    "x.npz": lambda p: np.savez(p, x=X, y=NUMBER, species=SPECIES),
    "x.h5": write_hdf5,
    "x.hdf5": write_hdf5,
    "x.mat": lambda p: scipy.io.savemat(p, {"x": X, "y": NUMBER, "species": SPECIES}),
    "zipped.mat": lambda p: scipy.io.savemat(p, {"x": X, "y": NUMBER}, do_compression=True),
    "sparse.mat": lambda p: scipy.io.savemat(p, {"x": scipy.sparse.csc_array(X), "y": NUMBER}),
    "new.mat": write_mat73,
    "x.pt": lambda p: torch.save(tensors(), p),
    "old.pth": lambda p: torch.save(tensors(), p, _use_new_zipfile_serialization=False),
    "ordered.pt": lambda p: torch.save(OrderedDict(tensors()), p),
    "x.safetensors": lambda p: save_file(tensors(), p),
}
ARRAYS = {"x.h5": "group/x", "x.hdf5": "group/x"}


def is_table(name: str) -> bool:
    return name.endswith((".gz", ".parquet"))


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_points_that_were_written(tmp_path, name):
    WRITERS[name](tmp_path / name)
    array = None if is_table(name) else ARRAYS.get(name, "x")
    points = from_file(path=str(tmp_path / name), array=array, seed=1)
    rows = np.concatenate([points.train.numpy(), points.holdout.numpy()])
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], X[np.argsort(X[:, 0])])
    assert points.names == (("a", "b", "c d") if is_table(name) else None)


LABELS = {
    **{name: "y" for name in WRITERS if not is_table(name)},
    "x.csv": "kind",
    "quoted.csv": "kind",
    "numbers.csv": "kind",
    "kinds.csv.gz": "kind",
    "kinds.parquet": "kind",
    "category.parquet": "kind",
    "numbers.parquet": "kind",
}


@pytest.mark.parametrize("name", LABELS)
def test_classes_belong_to_their_points(tmp_path, name):
    table = FRAME.assign(kind=NUMBER if "numbers" in name else SPECIES)
    if "category" in name:
        table["kind"] = table["kind"].astype("category")
    path = tmp_path / name
    if name in WRITERS:
        WRITERS[name](path)
    elif name.endswith(".parquet"):
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, quoting=1 if "quoted" in name else 0)
    array = ARRAYS.get(name, "x") if name in WRITERS and not is_table(name) else None
    points = from_file(path=str(path), array=array, labels=LABELS[name], seed=1)
    labels = points.labels
    assert labels is not None
    words = name in ("x.csv", "quoted.csv", "kinds.csv.gz", "kinds.parquet", "category.parquet")
    want = SPECIES if words else NUMBER.astype(float)
    truth = dict(zip(X[:, 0].tolist(), want.tolist(), strict=True))
    x = torch.cat([points.train, points.holdout])[:, 0].tolist()
    y = torch.cat([labels.train, labels.holdout]).tolist()
    named = [labels.names[k] if words else float(labels.names[k]) for k in y]
    assert dict(zip(x, named, strict=True)) == truth
    out = from_file(path=str(path), array=array, labels=LABELS[name], without=1, seed=1)
    assert out.anomalies is not None
    assert len(out.anomalies) == (NUMBER == 1).sum()


@pytest.mark.parametrize(("name", "labels"), [("x.npz", "species"), ("x.h5", "species"),
                                              ("x.h5", "words"), ("x.mat", "species")])  # fmt: skip
def test_classes_in_words_are_read_from_archives(tmp_path, name, labels):
    WRITERS[name](tmp_path / name)
    points = from_file(
        path=str(tmp_path / name), array=ARRAYS.get(name, "x"), labels=labels, seed=1
    )
    assert points.labels is not None
    assert points.labels.names == ("cat", "dog", "emu")


def test_single_tensors_and_lists_are_read(tmp_path):
    torch.save(torch.tensor(X, requires_grad=True), tmp_path / "x.pt")
    torch.save([torch.tensor(X).bfloat16(), torch.tensor(NUMBER)], tmp_path / "two.pt")
    assert from_file(path=str(tmp_path / "x.pt"), seed=1).train.shape == (24, 3)
    points = from_file(path=str(tmp_path / "two.pt"), array="0", labels="1", seed=1)
    rounded = torch.tensor(X).bfloat16().double()
    assert set(points.train.flatten().tolist()) <= set(rounded.flatten().tolist())


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("loaded"),)


def words_parquet(path: Path) -> None:
    FRAME.assign(kind=SPECIES).to_parquet(path)


def null_parquet(path: Path) -> None:
    frame = FRAME.copy()
    frame["b"] = pd.array([1, *[None] * 29], dtype="Int64")
    frame.to_parquet(path)


BAD = {
    "words.parquet": (words_parquet, r"column kind holds .*string, .* dataset\.columns='\[\"a\""),
    "null.parquet": (null_parquet, r"row 2 \(counted from 1\), column b has a missing value"),
    "index.parquet": (
        lambda p: FRAME.reset_index(names="Unnamed: 0").to_parquet(p),
        "has an index",
    ),
    "cut.parquet": (lambda p: p.write_bytes(b"PAR1"), "cannot be read as Parquet .*: write it"),
    "cut.csv.gz": (lambda p: p.write_bytes(gzip.compress(b"1,2\n" * 99)[:-9]), "cannot be unpack"),
    "flipped.csv.gz": (
        lambda p: p.write_bytes(gzip.compress(b"1,2\n3,4\n")[:-6] + b"xxxxxx"),
        "cannot be unpacked",
    ),
    "x.npy.gz": (lambda p: p.write_bytes(b"1"), "of no known kind: give .npy"),
    "cut.h5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n"), "cannot be read as HDF5 .*: write"),
    "cut.mat": (lambda p: p.write_bytes(b"MATLAB 5.0"), "cannot be read as a MATLAB file"),
    "cut.safetensors": (lambda p: p.write_bytes(b"\x08\0\0\0\0\0\0\0{"), "read as safetensors"),
    "two.h5": (write_hdf5, r"holds 4 arrays: choose one with dataset\.array=NAME .*, of group/x"),
    "bomb.pt": (lambda p: torch.save({"x": Bomb()}, p), "more than tensors, which could run any"),
    "pickle.pt": (lambda p: p.write_bytes(pickle.dumps(Bomb())), "more than tensors"),
    "model.pt": (lambda p: torch.save(torch.nn.Linear(2, 2), p), "more than tensors"),
    "text.pt": (lambda p: torch.save("x", p), "holds no array"),
    "sparse.pt": (lambda p: torch.save(torch.eye(3).to_sparse(), p), "sparse or quantized"),
    "complex.pt": (lambda p: torch.save(torch.ones(3, 2) * 1j, p), "is complex"),
    "nan.pt": (lambda p: torch.save(torch.tensor([[1.0], [float("nan")]]), p), "nan in row 2"),
    "endless.pt": (
        lambda p: torch.save(torch.ones(1).expand(10**13), p),
        r"does not fit into memory: its points take 240,000\.0 GB",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write, message = BAD[name]
    write(Path(name))
    with pytest.raises(DataError, match=message) as caught:
        from_file(path=name, seed=1)
    assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not Path("loaded").exists()


BAD_LABELS = {
    "z": "has no column z: check the names",
    "a": "has 30 different labels a of 30 points: name a column of classes",
    "one": "has 1 different labels one of 30 points",
    "hole": r"column 6 \(hole\) is empty|column hole has a missing value",
}


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
@pytest.mark.parametrize("labels", BAD_LABELS)
def test_bad_labels_are_refused(tmp_path, name, labels):
    frame = FRAME.assign(kind=SPECIES, one="x", hole=[None, *SPECIES[1:]])
    path = tmp_path / name
    frame.to_csv(path, index=False) if name == "x.csv" else frame.to_parquet(path)
    with pytest.raises(DataError, match=BAD_LABELS[labels]):
        from_file(path=str(path), columns=["b", "c d"], labels=labels, seed=1)


def test_labels_of_other_shapes_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x=X, y=NUMBER[:-1], z=X)
    for labels, message in (("y", r"int64 of shape \(29,\): save one label"), ("z", "of shape"),
                            ("n", "holds no labels n: it holds x, y, z")):  # fmt: skip
        with pytest.raises(DataError, match=message):
            from_file(path=str(tmp_path / "x.npz"), array="x", labels=labels, seed=1)
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(DataError, match="has no labels y of its points: give a table or an npz"):
        from_file(path=str(tmp_path / "x.npy"), labels="y", seed=1)


@pytest.mark.parametrize(("name", "package"), [("x.parquet", "pyarrow.parquet"), ("x.h5", "h5py"),
                                               ("x.safetensors", "safetensors")])  # fmt: skip
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, name, package):
    WRITERS[name](tmp_path / name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"needs .*: pip install 'ebmtrain\[files\]'") as caught:
        from_file(path=str(tmp_path / name), seed=1)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_a_run_learns_the_classes_of_a_parquet_file(command, tiny_file, folder):
    FRAME.assign(kind=SPECIES).to_parquet("table.parquet")
    small = [word for word in tiny_file if not word.startswith("dataset")]
    outcome = command(*small, "dataset=file", "dataset.path=table.parquet", "dataset.labels=kind",
                      "method=jem", "method.slots=64", "train.batch_size=16", "train.steps=2",
                      "hydra.run.dir=run")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert command("score", "run", "--data", "table.parquet", "--out", "x.npy").code == 0
    assert len(np.load("x.npy")) == 30


def sparse_npy(path: Path, rows: int) -> np.ndarray:
    """A file of `rows` points of 3 coordinates of which the disk holds the first thousand."""
    head = np.lib.format.header_data_from_array_1_0(np.zeros((1, 3)))
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {**head, "shape": (rows, 3)})
        first = np.arange(3000.0).reshape(1000, 3) ** 1.5
        stream.write(first.tobytes())
        stream.truncate(stream.tell() + 24 * (rows - 1000))
    return first


def test_an_array_larger_than_memory_is_refused_before_it_is_read(tmp_path):
    sparse_npy(tmp_path / "x.npy", 2**32)
    began = time.perf_counter()
    with pytest.raises(DataError, match=r"take 309\.2 GB, .*: dataset\.n_train=\d+ reads a random"):
        from_file(path=str(tmp_path / "x.npy"), seed=1)
    assert time.perf_counter() - began < 1


def test_a_subset_of_an_array_larger_than_memory_is_read(tmp_path):
    sparse_npy(tmp_path / "x.npy", 2**32)
    with pytest.raises(DataError, match="column 1 is constant"):  # nearly all rows are zero
        from_file(path=str(tmp_path / "x.npy"), n_train=80, seed=1)


def test_n_train_selects_points_at_random(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "x.npz", x=X, y=NUMBER)
    truth = dict(zip(X[:, 0].tolist(), NUMBER.tolist(), strict=True))
    one = from_file(path=str(tmp_path / "x.npy"), n_train=16, seed=1)
    again = from_file(path=str(tmp_path / "x.npz"), n_train=16, labels="y", seed=1)
    other = from_file(path=str(tmp_path / "x.npy"), n_train=16, seed=2)
    assert (len(one.train), len(one.holdout)) == (16, 4)
    assert torch.equal(one.train, again.train)
    assert set(one.train[:, 0].tolist()) != set(other.train[:, 0].tolist())
    labels = again.labels
    assert labels is not None
    found = zip(again.train[:, 0].tolist(), labels.train.tolist(), strict=True)
    assert dict(found).items() <= truth.items()
    assert len(from_file(path=str(tmp_path / "x.npy"), n_train=999, seed=1).train) == 24


def test_an_archive_that_expands_beyond_memory_is_refused_before_it_is_read(tmp_path):
    zeros = bytes(1 << 24)
    head = np.lib.format.header_data_from_array_1_0(np.zeros((1, 3)))
    rows, size = 2**36, 24 * 2**36
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array_header_1_0(stream, {**head, "shape": (rows, 3)})
            stream.write(zeros)
        archive.getinfo("x.npy").file_size += size - len(zeros)
    with pytest.raises(
        DataError, match=r"x.npz\[x\] does not fit into memory: its points take 1,649"
    ):
        from_file(path=str(tmp_path / "x.npz"), seed=1)


def test_compressed_text_that_expands_beyond_memory_is_refused(tmp_path, monkeypatch):
    with gzip.open(tmp_path / "x.csv.gz", "wb") as stream:
        for _ in range(3):
            stream.write(b"1,2\n" * 2**22)
    monkeypatch.setattr("ebmtrain.datasets.io.memory.memory_bytes", lambda: 10**8)
    with pytest.raises(DataError, match="does not fit into memory"):
        from_file(path=str(tmp_path / "x.csv.gz"), seed=1)


@pytest.mark.slow
def test_text_is_read_within_twice_the_time_of_numpy(tmp_path):
    """CPU time, the least of three, as other processes may run."""
    np.savetxt(tmp_path / "x.csv", RNG.normal(size=(30_000, 10)), delimiter=",")

    def seconds(read) -> float:
        times = []
        for _ in range(3):
            began = time.process_time()
            read()
            times.append(time.process_time() - began)
        return min(times)

    ours = seconds(lambda: read_csv(tmp_path / "x.csv"))
    assert ours < 2 * seconds(lambda: np.loadtxt(tmp_path / "x.csv", delimiter=","))
