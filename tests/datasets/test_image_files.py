"""Files of images: those that can be read, and every kind that cannot."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ebmtrain.datasets.cifar10 import BATCHES, cifar10
from ebmtrain.datasets.idx import idx
from ebmtrain.datasets.image_folder import image_folder
from ebmtrain.errors import DataError

NOISE = np.random.default_rng(0)
TRAIN = NOISE.integers(0, 256, (6, 5, 4), dtype=np.uint8)
TEST = NOISE.integers(0, 256, (3, 5, 4), dtype=np.uint8)


def idx_bytes(images: np.ndarray, kind: int = 8) -> bytes:
    lengths = struct.pack(f">{images.ndim}I", *images.shape)
    return bytes([0, 0, kind, images.ndim]) + lengths + images.tobytes()


def write_mnist(folder: Path, train: bytes, test: bytes | None = None, ending: str = "-idx3-ubyte"):
    (folder / f"train-images{ending}").write_bytes(train)
    if test is None:
        test = idx_bytes(TEST)
    (folder / f"t10k-images{ending}").write_bytes(test)
    return idx(path=str(folder), seed=1)


def sorted_rows(points) -> list[list[float]]:
    return sorted(points.floor().flatten(1).tolist())


@pytest.mark.parametrize("ending", ["-idx3-ubyte", ".idx3-ubyte", "-idx3-ubyte.gz"])
def test_idx_files_are_read(tmp_path, ending):
    pack = gzip.compress if ending.endswith("gz") else bytes
    points = write_mnist(tmp_path, pack(idx_bytes(TRAIN)), pack(idx_bytes(TEST)), ending)
    assert points.train.shape[1:] == (5, 4)
    assert sorted_rows(points.train) == sorted(TRAIN.reshape(6, -1).tolist())
    assert points.holdout.floor().flatten(1).tolist() == TEST.reshape(3, -1).tolist()
    assert points.standardization.log_volume == pytest.approx(20 * np.log(128))
    assert len(idx(path=str(tmp_path), n_train=4, seed=1).train) == 4


GOOD = idx_bytes(TRAIN)
ZIPPED = gzip.compress(GOOD)
BAD_IDX = {
    "empty": (b"", "is empty: get it again"),
    "two bytes": (b"\0\0", "begins with 00 00"),
    "wrong magic": (b"\x89PNG" + GOOD[4:], "begins with 89 50 4e 47, not with 00 00 08 03"),
    "a web page": (b"<html>not found</html>", "begins with 3c 68 74 6d"),
    "floats": (idx_bytes(TRAIN, 0x0D), "type 0x0d, not unsigned bytes"),
    "labels": (idx_bytes(TRAIN[:, 0, 0]), "has 1 axes and holds labels"),
    "two axes": (idx_bytes(TRAIN[0]), "has 2 axes and holds no images"),
    "half a header": (GOOD[:10], "truncated within its header"),
    "truncated": (GOOD[:-1], "states 120 bytes"),
    "too long": (GOOD + b"\0", "states 120 bytes .* more follow"),
    "none": (idx_bytes(TRAIN[:0]), r"holds no images \(shape \(0, 5, 4\)\)"),
    "terabytes": (GOOD[:4] + b"\x7f" * 12, "states [0-9,]{20,} bytes"),
    "truncated gz": (ZIPPED[:-12], "cannot be unpacked"),
    "flipped gz": (ZIPPED[:-6] + b"\xff" + ZIPPED[-5:], "cannot be unpacked"),
    "terabytes of gz": (gzip.compress(GOOD[:4] + b"\x7f" * 12), "states [0-9,]{20,} bytes"),
    "other size": (idx_bytes(TRAIN[:, :4]), "images of 4 x 4, t10k.* of 5 x 4"),
}


def assert_refused(saying: str, read, *arguments, **options) -> None:
    with pytest.raises(DataError, match=saying) as caught:
        read(*arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("case", BAD_IDX)
def test_bad_idx_files_are_refused(tmp_path, case):
    data, saying = BAD_IDX[case]
    assert_refused(saying, write_mnist, tmp_path, data)


LABELS = np.array([0, 1, 2, 3, 2, 0], np.uint8)
TEST_LABELS = np.array([3, 0, 2], np.uint8)


def label_files(folder: Path, train: bytes | None, test: bytes | None, ending="-idx1-ubyte"):
    folder.mkdir(exist_ok=True)
    for part, data in (("train", train), ("t10k", test)):
        if data is not None:
            (folder / f"{part}-labels{ending}").write_bytes(data)


def classes_of(points) -> dict[bytes, int]:
    """The class that each training image has been given."""
    pixels = points.train.floor().byte()
    pairs = zip(pixels, points.labels.train.tolist(), strict=True)
    return {bytes(image.numpy()): label for image, label in pairs}


@pytest.mark.parametrize("ending", ["-idx1-ubyte", ".idx1-ubyte", "-idx1-ubyte.gz"])
@pytest.mark.parametrize("place", [None, "elsewhere"])
def test_idx_labels_belong_to_their_images(tmp_path, ending, place):
    pack = gzip.compress if ending.endswith("gz") else bytes
    assert write_mnist(tmp_path, GOOD).labels is None
    folder = tmp_path if place is None else tmp_path / place
    label_files(folder, pack(idx_bytes(LABELS)), pack(idx_bytes(TEST_LABELS)), ending)
    labels = None if place is None else str(folder)
    points = idx(path=str(tmp_path), seed=1, dequantize=False, labels=labels)
    truth = dict(zip(map(bytes, TRAIN), LABELS.tolist(), strict=True))
    assert classes_of(points) == truth
    assert points.labels is not None
    assert points.labels.holdout.tolist() == TEST_LABELS.tolist()
    assert points.labels.names == ("0", "1", "2", "3")
    fewer = idx(path=str(tmp_path), n_train=4, seed=1, dequantize=False, labels=labels)
    assert classes_of(fewer).items() <= truth.items()
    assert fewer.labels is not None
    assert fewer.labels.names == points.labels.names


Y = idx_bytes(LABELS)
BAD_LABELS = {
    "too few": (idx_bytes(LABELS[:5]), "holds 5 labels for 6 images: take labels and images"),
    "too many": (idx_bytes(LABELS.repeat(2)), "holds 12 labels for 6 images"),
    "wrong magic": (b"\x89PNG" + Y[4:], "begins with 89 50 4e 47, not with 00 00 08 01"),
    "images": (GOOD, "has 3 axes and holds images: 1 is expected, as in idx1: get"),
    "floats": (idx_bytes(LABELS, 0x0D), "type 0x0d, .*: write labels as bytes$"),
    "half a header": (Y[:6], "truncated within its header"),
    "truncated": (Y[:-1], "states 6 bytes"),
    "too long": (Y + b"\0", "states 6 bytes .* more follow"),
    "none": (idx_bytes(LABELS[:0]), r"holds no labels \(shape \(0,\)\)"),
    "empty": (b"", "is empty: get it again"),
    "truncated gz": (gzip.compress(Y)[:-12], "cannot be unpacked"),
    "a damaged label": (Y[:-1] + b"\xc8", "holds label 200 and no 4: get it again"),
    "beyond the classes": (
        idx_bytes(LABELS % 3),
        "label 3, those of train-labels.* end at 2: take",
    ),
    "no file": (None, "has no train-labels-idx1-ubyte: put it there too, or move t10k-labels"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
def test_bad_idx_labels_are_refused(tmp_path, case):
    data, saying = BAD_LABELS[case]
    label_files(tmp_path, data, idx_bytes(TEST_LABELS))
    assert_refused(saying, write_mnist, tmp_path, GOOD)


def test_missing_label_files_are_refused(tmp_path):
    write_mnist(tmp_path, GOOD)
    for place, saying in (("", "has no train-labels-idx1-ubyte: put train-labels-idx1-ubyte.gz"),
                          ("nowhere", "cannot be read .*: put train-labels")):  # fmt: skip
        assert_refused(saying, idx, path=str(tmp_path), labels=str(tmp_path / place), seed=1)


@pytest.mark.usefixtures("no_pictures")
def test_a_run_classifies_letters_with_labels_from_one(command, tiny_file, folder):
    write_mnist(folder, idx_bytes(np.tile(TRAIN, (6, 2, 2))), idx_bytes(np.tile(TEST, (1, 2, 2))))
    label_files(folder, idx_bytes(np.tile(LABELS + 1, 6)), idx_bytes(TEST_LABELS + 1))
    small = [word for word in tiny_file if not word.startswith("model.")]
    outcome = command(*small, "dataset=idx", "dataset.path=.", "method=jem", "model=conv",
                      "model.widths=[4,4]", "model.classes=5", "method.slots=32",
                      "train.batch_size=32", "train.steps=2", "hydra.run.dir=run")  # fmt: skip
    assert outcome.code == 0, outcome.err
    metrics = json.loads((folder / "run/result.json").read_text())["metrics"]
    assert 0 <= metrics["accuracy"] <= 1
    assert 0 <= metrics["ece"] <= 1


def py2_pickle(images: np.ndarray, *, data: bytes | None = None) -> bytes:
    """A file of CIFAR-10 opcode by opcode as Python 2 and its NumPy wrote it."""
    n, pixels = len(images), images.tobytes() if data is None else data

    def py2_string(word: bytes) -> bytes:
        return b"U" + bytes([len(word)]) + word

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + b"M" + struct.pack("<H", n) + b"M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T" + struct.pack("<I", len(pixels)) + pixels + b"tb"
    )  # fmt: skip
    head = b"\x80\x02}(" + py2_string(b"batch_label") + py2_string(b"training batch 1 of 5")
    labels = py2_string(b"labels") + b"](" + b"K\x06" * n + b"e"
    return head + labels + py2_string(b"data") + array + py2_string(b"filenames") + b"](" + b"eu."


def pickled(value, protocol: int = 4) -> bytes:
    return pickle.dumps(value, protocol)


ROWS = NOISE.integers(0, 256, (4, 3072), dtype=np.uint8)


def write_cifar(folder: Path, first: bytes, rest: bytes | None = None, ending: str = ""):
    for i, name in enumerate(BATCHES):
        other = py2_pickle(ROWS) if rest is None else rest
        (folder / f"{name}{ending}").write_bytes(first if i == 0 else other)
    return cifar10(path=str(folder), seed=1)


def test_cifar_pickles_of_python_2_are_read(tmp_path):
    assert pickle.loads(py2_pickle(ROWS), encoding="bytes")[b"data"].tolist() == ROWS.tolist()
    points = write_cifar(tmp_path, py2_pickle(ROWS))
    assert points.train.shape == (20, 3, 32, 32)
    assert points.holdout.floor().flatten(1).tolist() == ROWS.tolist()
    assert points.batch(0, 5, 0).x.abs().max() <= 1
    assert points.labels is not None
    assert points.labels.names[6] == "frog"
    assert points.labels.holdout.tolist() == [6] * 4


@pytest.mark.parametrize("rows", [ROWS, np.asfortranarray(ROWS)], ids=["C", "Fortran"])
def test_cifar_pickles_of_python_3_are_read(tmp_path, rows):
    data = pickled({"data": rows, "labels": [3, 9, 0, 1]})
    points = write_cifar(tmp_path, data, data)
    assert sorted_rows(points.train) == sorted(ROWS.tolist() * 5)
    assert classes_of(points) == dict(zip(map(bytes, ROWS), [3, 9, 0, 1], strict=True))
    assert points.labels is not None
    assert points.labels.holdout.tolist() == [3, 9, 0, 1]


def test_binary_cifar_files_are_read(tmp_path):
    rows = np.concatenate([np.arange(4, dtype=np.uint8)[:, None], ROWS], 1).tobytes()
    points = write_cifar(tmp_path, rows, rows, ".bin")
    assert points.holdout.floor().flatten(1).tolist() == ROWS.tolist()
    assert classes_of(points) == {bytes(row): label for label, row in enumerate(ROWS)}
    assert points.labels is not None
    assert points.labels.holdout.tolist() == [0, 1, 2, 3]
    for data, saying in ((rows[:-1], "not a multiple of 3,073"), (b"", "is empty"),
                         (b"\x0a" + rows[1:], "labels above 9")):  # fmt: skip
        assert_refused(saying, write_cifar, tmp_path, data, rows, ".bin")


class Bomb:
    """Writes a file as soon as it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("unpickled"),)


OBJECTS = np.array([[1, Bomb()]], dtype=object)
CALL = b"\x80\x02cposix\nsystem\nU\x0ftouch unpickled\x85R."
BAD_PICKLES = {
    "empty": (b"", "is empty"),
    "code": (CALL, "asks for posix.system, which could run any code"),
    "code beside the data": (pickled({"data": ROWS, "x": Bomb()}), "asks for pathlib"),
    "a builtin": (b"\x80\x02cbuiltins\neval\nU\x011\x85R.", "asks for builtins.eval"),
    "NumPy's own": (b"\x80\x02cnumpy\nload\nU\x01x\x85R.", "asks for numpy.load"),
    "objects": (pickled({"data": OBJECTS}), "asks for pathlib"),
    "plain objects": (pickled({"data": np.array([[None]])}), "not unsigned bytes"),
    "escapes in a name": (b"\x80\x02c\x1b[2J\nx\n.", r"asks for \?\[2J.x"),
    "persistent": (b"\x80\x02U\x01xQ.", "damaged pickle"),
    "registry": (b"\x80\x02\x82\x01.", "damaged pickle"),
    "truncated": (py2_pickle(ROWS)[:-4000], "damaged pickle"),
    "no pickle": (b"<html>not found</html>", "damaged pickle"),
    "a list": (pickled([ROWS]), "no mapping with data"),
    "no data": (pickled({"labels": [1]}), "no array data"),
    "NaN": (pickled({"data": np.full((4, 3072), np.nan)}), "not unsigned bytes"),
    "wide numbers": (pickled({"data": ROWS.astype(np.int64)}), "not unsigned bytes"),
    "wrong shape": (pickled({"data": ROWS[:, :3000].copy()}), r"shape \(4, 3000\), not"),
    "three axes": (pickled({"data": ROWS[None]}), r"shape \(1, 4, 3072\), not"),
    "no content": (
        py2_pickle(ROWS).replace(b"tbU\tfilenames", b"t0U\tfilenames"),
        "without content",
    ),
    "no labels": (pickled({"data": ROWS}), "no list labels: get"),
    "labels in words": (pickled({"data": ROWS, "labels": "frog"}), "no list labels: get"),
    "a label in words": (
        pickled({"data": ROWS, "labels": ["frog"] * 4}),
        "something among its",
    ),
    "beyond the classes": (
        pickled({"data": ROWS, "labels": [0, 1, 10, 2]}),
        "holds 10 among its",
    ),
    "negative": (
        pickled({"data": ROWS, "labels": [0, 1, -1, 2]}),
        "holds -1 among its labels",
    ),
    "too few labels": (
        pickled({"data": ROWS, "labels": [0]}),
        "holds 1 label for 4 images: get",
    ),
    "too few bytes": (py2_pickle(ROWS, data=b"abc"), r"3 bytes for shape \(4, 3072\)"),
}


@pytest.mark.parametrize("case", BAD_PICKLES)
def test_bad_pickles_are_refused_and_not_executed(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    data, saying = BAD_PICKLES[case]
    assert_refused(saying, write_cifar, tmp_path, data)
    assert not (tmp_path / "unpickled").exists()


def test_the_hostile_pickles_execute_in_plain_pickle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickled(Bomb()))
    assert (tmp_path / "unpickled").exists()


def picture(path: Path, mode: str = "RGB", size=(6, 4), value=None) -> np.ndarray:
    """A picture of (width, height) at path, and its pixels as the dataset should have them."""
    shape = size[::-1] if mode == "L" else (*size[::-1], len(mode))
    array = NOISE.integers(0, 256, shape, dtype=np.uint8) if value is None else value
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(array, mode=None).save(path)
    return array if mode == "L" else array.transpose(2, 0, 1)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_folder_of_pictures_is_read(tmp_path, mode):
    truth = [picture(tmp_path / place, mode)
             for place in ("a.png", "b.PNG", "deeper/c.png", "deeper/d.png")]  # fmt: skip
    (tmp_path / "notes.txt").write_text("no picture")
    points = image_folder(path=str(tmp_path), holdout=0.5, seed=1)
    assert points.train.shape[1:] == ((4, 6) if mode == "L" else (3, 4, 6))
    every = torch.cat([points.train, points.holdout])
    assert sorted_rows(every) == sorted(x.reshape(-1).tolist() for x in truth)


def test_jpeg_and_mixed_modes_are_converted_on_request(tmp_path):
    flat = np.full((4, 6, 3), 200, np.uint8)
    picture(tmp_path / "a.jpg", value=flat)
    picture(tmp_path / "b.png", "L", size=(9, 9))
    picture(tmp_path / "c.png", "RGBA")
    points = image_folder(path=str(tmp_path), size=[4, 5], channels=3, holdout=0.3, seed=1)
    assert points.train.shape == (2, 3, 4, 5)
    every = torch.cat([points.train, points.holdout]).floor().flatten(1)
    assert ((every - 200).abs() <= 2).all(1).any()  # the flat one, as JPEG keeps it
    gray = image_folder(path=str(tmp_path), size=[3, 3], channels=1, seed=1)
    assert gray.train.shape[1:] == (3, 3)


def broken(data: bytes):
    return lambda path: path.write_bytes(data)


def cut(path: Path) -> None:
    picture(path, size=(60, 40))
    path.write_bytes(path.read_bytes()[:3000])


def huge(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )


BAD_PICTURES = {
    "empty": (broken(b""), "z.png is empty"),
    "no picture": (broken(b"<html>not found</html>"), "is not a picture .*<html>no.*: delete it"),
    "half a header": (broken(b"\x89PNG\r\n"), "z.png is damaged or of a rare kind: get it again"),
    "truncated": (cut, "z.png is not a complete image"),
    "mixed channels": (lambda path: picture(path, "L"), "z.png is gray, a.png is coloured: give"),
    "mixed sizes": (lambda path: picture(path, size=(7, 4)), "z.png has 4 x 7 .* a.png has 4 x 6"),
    "transparent": (lambda path: picture(path, "RGBA"), "transparent .* dataset.channels=3"),
    "too large": (huge, "z.png (has 50000 x 50000 pixels, more|is not a complete .*decompression)"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_bad_pictures_are_refused(tmp_path, case):
    picture(tmp_path / "a.png")
    write, saying = BAD_PICTURES[case]
    write(tmp_path / "z.png")
    assert_refused(saying, image_folder, path=str(tmp_path), seed=1)


def test_a_single_picture_is_refused(tmp_path):
    picture(tmp_path / "a.png")
    assert_refused("holds 1 image; at least 2", image_folder, path=str(tmp_path), seed=1)


def test_every_image_format_supports_augmentation(tmp_path):
    for name in ("mnist", "cifar", "pictures"):
        (tmp_path / name).mkdir()
    write_mnist(tmp_path / "mnist", idx_bytes(TRAIN))
    write_cifar(tmp_path / "cifar", py2_pickle(ROWS))
    for name in "ab":
        picture(tmp_path / f"pictures/{name}.png")
    kinds = {"mnist": idx, "cifar": cifar10, "pictures": image_folder}
    for name, read in kinds.items():
        points = read(path=str(tmp_path / name), shift=1, flip=True, seed=1)
        assert [a.purpose for a in points.source.augmentations] == [
            "shift",
            "flip",
            "dequantize",
        ]
        assert_refused("dataset.shift is 99", read, path=str(tmp_path / name), shift=99, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("files", ["", "one", "a file"])
@pytest.mark.parametrize(
    ("option", "wanted"),
    [("idx", "train-images-idx3-ubyte"), ("cifar10", "data_batch_1"), ("image_folder", ".png")],
)
def test_missing_files_are_named_with_their_source(command, folder, option, wanted, files):
    """Exit code 2, one line, and nothing left behind."""
    place = folder / "data"
    if files == "a file":
        place.write_text("no folder")
    elif files == "one":
        place.mkdir()
        (place / "data_batch_1").write_bytes(b"")
        (place / "train-images-idx3-ubyte").write_bytes(b"")
    outcome = command("check", f"dataset={option}", "dataset.path=data")
    assert outcome.code == 2
    (line,) = outcome.err.splitlines()
    assert wanted in line
    assert "dataset.path=FOLDER" in line
    assert [p.name for p in folder.iterdir()] == (["data"] if files else [])
