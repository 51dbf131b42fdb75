"""Pictures are read as a viewer shows them, compared with pixels computed by hand, or refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from png import png

from ebmtrain.datasets.image_folder import image_folder
from ebmtrain.datasets.io.read_picture import read_picture
from ebmtrain.datasets.spec import DataSpec
from ebmtrain.errors import DataError

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 256, (4, 6), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
ALPHA = np.array([[0, 128, 255, 7, 1, 254]] * 4, np.uint8)


def pixels(path: Path, channels: int | None = None) -> np.ndarray:
    """(height, width) or (height, width, 3)."""
    found = read_picture(path, None, channels).pixels
    return found if found.ndim == 2 else found.transpose(1, 2, 0)


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha.reshape(*alpha.shape, *[1] * (colours.ndim - 2)) / 255
    return share * colours + (1 - share) * 255


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_gray_is_scaled_and_not_clipped(tmp_path, ending):
    deep = np.array(
        [[0, 1, 128, 129, 256, 4095], [257, 514, 23130, 65535, 65406, 65407]], np.uint16
    )
    file = tmp_path / f"x.{ending}"
    if ending == "png":
        png(file, deep, 0, 16)
    else:
        Image.fromarray(deep).save(file)
    np.testing.assert_array_equal(pixels(file), np.round(deep / 257))
    np.testing.assert_array_equal(pixels(file, 1), np.round(deep / 257))
    np.testing.assert_array_equal(pixels(file, 3), np.round(deep / 257)[..., None].repeat(3, 2))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_of_fewer_bits_spans_black_to_white(tmp_path, bits):
    few = RNG.integers(0, 2**bits, (5, 9), dtype=np.uint8)
    found = pixels(png(tmp_path / "x.png", few, 0, bits))
    np.testing.assert_array_equal(found, few * (255 // (2**bits - 1)))


ORIENTED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", ORIENTED)
def test_the_orientation_in_the_file_is_applied(tmp_path, orientation):
    exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation]) + b"\0" * 7
    want = ORIENTED[orientation](COLOUR)
    np.testing.assert_array_equal(pixels(png(tmp_path / "x.png", COLOUR, 2, eXIf=exif)), want)
    for ending in ("tif", "webp", "jpg"):
        flat = np.kron(COLOUR, np.ones((8, 8, 1), np.uint8))
        Image.fromarray(flat).save(tmp_path / f"x.{ending}", exif=b"Exif\0\0" + exif,
                                   **({} if ending == "tif" else {"quality": 100}))  # fmt: skip
        off = np.abs(pixels(tmp_path / f"x.{ending}").astype(int) - ORIENTED[orientation](flat))
        assert off.mean() < 20  # a picture of another orientation differs by about 85


def test_a_damaged_orientation_is_ignored(tmp_path):
    found = pixels(png(tmp_path / "x.png", COLOUR, 2, eXIf=b"II*\0\xff\xff\xff\xff\0"))
    np.testing.assert_array_equal(found, COLOUR)


def test_a_palette_is_looked_up(tmp_path):
    palette = RNG.integers(0, 256, (16, 3), dtype=np.uint8)
    index = RNG.integers(0, 16, (4, 6), dtype=np.uint8)
    file = png(tmp_path / "x.png", index, 3, 4, PLTE=palette.tobytes())
    np.testing.assert_array_equal(pixels(file), palette[index])
    seen = palette[index] @ [0.299, 0.587, 0.114]
    assert np.abs(pixels(file, 1) - seen).max() <= 0.51
    opaque = np.arange(16, dtype=np.uint8)
    file = png(tmp_path / "y.png", index, 3, 4, PLTE=palette.tobytes(), tRNS=opaque.tobytes())
    with pytest.raises(DataError, match=r"transparent pixels: give dataset.channels=3 \(or 1\)"):
        pixels(file)
    assert np.abs(pixels(file, 3) - on_white(palette[index], opaque[index])).max() <= 1


def test_transparent_pixels_are_refused_or_put_on_white(tmp_path):
    for kind, colours in ((6, COLOUR), (4, GRAY)):
        samples = np.concatenate([colours.reshape(4, 6, -1), ALPHA[..., None]], 2)
        file = png(tmp_path / "x.png", samples, kind)
        with pytest.raises(DataError, match=r"transparent pixels: give dataset\.channels=3"):
            pixels(file)
        channels = 3 if kind == 6 else 1
        found, want = pixels(file, channels), on_white(colours, ALPHA)
        assert np.abs(found - want).max() <= 1
        assert (found[:, 0] == 255).all()  # not the colours below
        samples[..., -1] = 255
        np.testing.assert_array_equal(pixels(png(tmp_path / "y.png", samples, kind)), colours)


def test_a_transparent_colour_is_transparent(tmp_path):
    colours = COLOUR.copy()
    colours[1, 2] = 9, 8, 7
    key = struct.pack(">3H", 9, 8, 7)
    file = png(tmp_path / "x.png", colours, 2, tRNS=key)
    with pytest.raises(DataError, match="transparent pixels"):
        pixels(file)
    colours[1, 2] = 255
    np.testing.assert_array_equal(pixels(file, 3), colours)
    deep = np.array([[5, 700]], np.uint16)
    file = png(tmp_path / "y.png", deep, 0, 16, tRNS=struct.pack(">H", 700))
    with pytest.raises(DataError, match="transparent pixels of 16 bits: save it without"):
        pixels(file, 1)


def test_cmyk_is_converted(tmp_path):
    inks = RNG.integers(0, 256, (4, 6, 4), dtype=np.uint8)
    Image.frombytes("CMYK", (6, 4), inks.tobytes()).save(tmp_path / "x.tif")
    light = 255.0 - inks
    assert np.abs(pixels(tmp_path / "x.tif") - light[..., :3] * light[..., 3:] / 255).max() <= 1
    flat = np.full((16, 16, 4), (0, 255, 255, 0), np.uint8)
    Image.frombytes("CMYK", (16, 16), flat.tobytes()).save(tmp_path / "x.jpg", quality=100)
    assert np.abs(pixels(tmp_path / "x.jpg").astype(int) - (255, 0, 0)).max() <= 3


def profile(*primaries: tuple[float, float, float]) -> bytes:
    """An ICC profile of linear light with these primaries, XYZ of D50."""
    xyz = [b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * v) for v in p)) for p in primaries]
    linear = b"curv" + bytes(8)
    names = (b"rXYZ", b"gXYZ", b"bXYZ", b"wtpt", b"rTRC", b"gTRC", b"bTRC", b"desc")
    name = b"desc\0\0\0\0\0\0\0\x05test\0" + bytes(79)
    bodies = [*xyz, b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061), *[linear] * 3, name]
    table, data, start = b"", b"", 128 + 4 + 12 * len(names)
    for tag, body in zip(names, bodies, strict=True):
        table += tag + struct.pack(">II", start + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    size = start + len(data)
    head = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(names)) + table + data


SRGB = (0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141)


def test_a_colour_profile_is_applied(tmp_path):
    """Linear light with red and blue exchanged is sRGB with its curve and its channels in order."""
    icc = profile(*SRGB[::-1])
    Image.fromarray(COLOUR).save(tmp_path / "x.png", icc_profile=icc)
    light = COLOUR[..., ::-1] / 255
    want = 255 * np.where(light < 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(pixels(tmp_path / "x.png") - want).max() <= 1.5
    Image.fromarray(COLOUR).save(tmp_path / "y.png", icc_profile=icc[:200])
    np.testing.assert_array_equal(pixels(tmp_path / "y.png"), COLOUR)  # damaged


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tif"])
def test_an_animation_is_refused(tmp_path, ending):
    frames = [Image.fromarray(np.full((4, 6), 80 * i, np.uint8)) for i in range(3)]
    file = tmp_path / f"x.{ending}"
    frames[0].save(file, save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"has 3 frames: save each as a picture of its own"):
        pixels(file)
    frames[1].save(file)
    assert (pixels(file) == 80).all()


def test_the_first_picture_of_a_camera_file_is_read(tmp_path):
    first, preview = (Image.fromarray(np.full((8, 8), v, np.uint8)) for v in (200, 10))
    first.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[preview])
    assert (pixels(tmp_path / "x.jpg") == 200).all()


def test_pixels_without_black_and_white_are_refused(tmp_path):
    for array in (GRAY.astype(np.float32), GRAY.astype(np.int32)):
        Image.fromarray(array).save(tmp_path / "x.tif")
        with pytest.raises(DataError, match=r"has 32-bit pixels .*: save it with 8 or 16 bits"):
            pixels(tmp_path / "x.tif")


def test_single_pixels_are_read(tmp_path):
    for i in range(4):
        png(tmp_path / f"{i}.png", np.array([[i]], np.uint8), 0)
    points = image_folder(path=str(tmp_path), seed=1)
    assert points.train.shape[1:] == (1, 1)
    assert sorted(
        points.train.floor().flatten().tolist() + points.holdout.floor().flatten().tolist()
    ) == [0, 1, 2, 3]


def test_files_that_are_not_read_are_named(tmp_path):
    for i in range(3):
        png(tmp_path / f"{i}.png", GRAY, 0)
    assert image_folder(path=str(tmp_path), seed=1).notes == ()
    for name in ("._1.png", "Thumbs.db", "labels.csv", "phone.heic"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX/1.png").write_bytes(b"\0\5\x16\7")
    points = image_folder(path=str(tmp_path), seed=1)
    assert len(points.train) + len(points.holdout) == 3
    (note,) = points.notes
    assert "not read as pictures: ._1.png, Thumbs.db, labels.csv, phone.heic; move" in note
    png(tmp_path / "3.png", GRAY.astype(np.uint16), 0, 16)
    assert "1 picture of 16 bits per pixel in" in image_folder(path=str(tmp_path), seed=1).notes[1]


def folders_of_classes(folder: Path, n: int = 10, names=("cat", "dog", "emu")) -> dict[bytes, str]:
    """Pictures in subfolders; the class of each."""
    truth = {}
    for name in names:
        (folder / name / "deeper").mkdir(parents=True)
        for i in range(n):
            image = RNG.integers(0, 256, (8, 8), dtype=np.uint8)
            png(folder / name / ("deeper" if i % 2 else "") / f"{i}.png", image, 0)
            truth[image.tobytes()] = name
    return truth


def test_subfolders_are_classes(tmp_path):
    truth = folders_of_classes(tmp_path)
    points = image_folder(path=str(tmp_path), seed=1)
    labels = points.labels
    assert labels is not None
    assert labels.names == ("cat", "dog", "emu")
    x = torch.cat([points.train, points.holdout]).floor().byte().numpy()
    y = torch.cat([labels.train, labels.holdout]).tolist()
    found = {image.tobytes(): labels.names[k] for image, k in zip(x, y, strict=True)}
    assert found == truth
    out = image_folder(path=str(tmp_path), without=1, seed=1)
    assert out.anomalies is not None
    assert len(out.anomalies) == 10
    png(tmp_path / "loose.png", RNG.integers(0, 256, (8, 8), dtype=np.uint8), 0)
    assert image_folder(path=str(tmp_path), seed=1).labels is None


def test_subfolders_that_look_like_a_split_are_named(tmp_path):
    folders_of_classes(tmp_path, 2, ("train", "val"))
    (note,) = image_folder(path=str(tmp_path), seed=1).notes
    assert "train, val, which are named as parts of a split: dataset.path=" in note


def test_a_run_without_classes_accepts_the_same_pictures_with_classes(tmp_path):
    folders_of_classes(tmp_path)
    points = image_folder(path=str(tmp_path), seed=1)
    labels, points.labels = points.labels, None
    saved = DataSpec.of(points)
    points.labels = labels
    saved.check(points)
    other = image_folder(path=str(tmp_path), seed=2)
    with pytest.raises(DataError, match="the data are not those"):
        saved.check(other)


@pytest.mark.usefixtures("no_pictures")
@pytest.mark.slow
def test_a_run_learns_the_classes_of_subfolders(command, tiny_file, folder):
    folders_of_classes(folder / "pictures")
    (folder / "pictures/notes.txt").write_text("cats and dogs")
    small = [word for word in tiny_file if not word.startswith(("model.", "dataset"))]
    outcome = command(*small, "dataset=image_folder", "dataset.path=pictures", "method=jem",
                      "model=conv", "model.widths=[4,4]", "method.slots=32", "train.batch_size=16",
                      "train.steps=2", "hydra.run.dir=run")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "files that are not read as pictures: notes.txt; move" in " ".join(outcome.out.split())
    assert 0 <= json.loads((folder / "run/result.json").read_text())["metrics"]["accuracy"] <= 1
    assert command("sample", "run", "label=2", "count=2", "out=x.npy").code == 0


def test_pictures_that_do_not_fit_into_memory_are_refused_before_they_are_read(
    tmp_path, monkeypatch
):
    png(tmp_path / "0.png", GRAY, 0)
    for i in range(1, 10):
        (tmp_path / f"{i}.png").write_bytes(b"not read")
    monkeypatch.setattr("ebmtrain.datasets.io.memory.memory_bytes", lambda: 24 * 240)
    with pytest.raises(DataError, match=r"10 pictures of 24 numbers does not fit .*dataset\.size"):
        image_folder(path=str(tmp_path), seed=1)


def test_a_folder_without_pictures_names_what_it_has(tmp_path):
    for i in range(7):
        (tmp_path / f"{i}.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"0 images, and 0.heic, .*, 4.heic and 2 more, not"):
        image_folder(path=str(tmp_path), seed=1)
