"""Random user files, read by ebmtrain and by independent readers: pandas, NumPy, and pixels
computed by hand; and settings of other programs in the current folder and in the user's home.

    python tests/reliability/fuzz_files.py --files 2000 --seed 0

Each file is either read as the independent reader reads it, with a note if that is not plain, or
refused in one line. Anything else is a finding, which the command prints; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import struct
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import scipy.io
import torch
from PIL import Image
from png import png
from safetensors.torch import load_file, save_file

from ebmtrain.datasets.file import from_file
from ebmtrain.datasets.image_folder import image_folder
from ebmtrain.errors import ConfigError, DataError

Reader = Callable[[], np.ndarray | None]
"""The rows that the file holds, by other means; None: it holds no valid rows."""


class Case(NamedTuple):
    kind: str
    path: Path
    expected: Reader
    clean: bool = False
    """Nothing is wrong with the file: it must be read."""
    options: dict = {}  # noqa: RUF012  never changed


class Finding(NamedTuple):
    case: Case
    verdict: str
    """read, noted, refused; or unexpected, wrong, refused though clean."""
    detail: str = ""


def run_case(case: Case) -> Finding:
    """Reads the file and compares."""
    if case.kind == SETTINGS:
        return run_settings(case)
    read = image_folder if case.path.is_dir() and "picture" in case.kind else from_file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            points = read(path=str(case.path), seed=0, standardize=False, **case.options)
    except (DataError, ConfigError) as error:
        if case.clean:
            return Finding(case, "refused though clean", str(error))
        text = str(error).replace(str(case.path), "").replace(repr(str(case.path)), "")
        one_line = len(text.splitlines()) == 1 and ": " in text
        return Finding(case, "refused" if one_line else "unexpected", str(error))
    except Exception as error:
        return Finding(case, "unexpected", repr(error))
    found = torch.cat([points.train, points.holdout]).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = case.expected()
    if read is image_folder:
        found = np.floor(found)
    if want is None or not _same(found, want):
        shapes = f"{found.shape}, {None if want is None else want.shape}"
        return Finding(case, "wrong", f"{shapes}, noted {points.notes}")
    return Finding(case, "noted" if points.notes else "read")


def _same(found: np.ndarray, want: np.ndarray) -> bool:
    """Equal but for the order of the rows, which are split at random."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (found, want))
    if found.shape != want.shape:
        return False
    return bool(np.array_equal(*(x[np.lexsort(x.T[::-1])] for x in (a, b))))


# Text tables

FORMATS = (repr, "{:g}".format, "{:.3e}".format, "{:+.4f}".format, "{:.10f}".format)
FAULTS = {
    "none": None, "missing": ["", "NA", "nan", "NULL", "?", "-", "#N/A", "<NA>"],
    "word": ["abc", "True", "1,234.5", "1.234.567", "12 kg", "5%", "1_000", "0x1F", "1e", "$5"],
    "infinite": ["inf", "-Infinity", "1e999"], "code": ["-999", "9999", "1e20", "-9999.0"],
    "short row": None, "long row": None, "header again": None, "units": None, "total": None,
    "bytes": None, "cut": None,
}  # fmt: skip


def table(rng: np.random.Generator, folder: Path, i: int) -> Case:
    """A text table of a random dialect with at most one fault."""
    n, d = int(rng.integers(8, 30)), int(rng.integers(1, 6))
    x = rng.normal(rng.normal(0, 50), rng.choice([0.01, 1, 100]), (n, d))
    form = FORMATS[rng.integers(len(FORMATS))]
    mark = str(rng.choice([",", ";", "\t", " "])) if d > 1 else ","
    cells = [[form(float(v)) for v in row] for row in x]
    names = list(rng.permutation(["temp", "größe", "x_1", "a b", "(m)"])[:d])
    header = str(rng.choice(["none", "words", "quoted", "counts"]))
    if mark == " " and header in ("words", "quoted"):
        names = [name.replace(" ", "_") for name in names]
    if header == "counts":
        names = [str(j) for j in range(d)]
    fault = str(rng.choice(list(FAULTS)) if rng.random() < 0.7 else "none")
    if fault == "total" and d == 1:
        fault = "none"  # a single sum may be a point
    head = [f'"{name}"' if header == "quoted" else name for name in names]
    rows = ([] if header == "none" else [head]) + cells
    _spoil(rng, rows, fault, header != "none")
    text = [mark.join(row) for row in rows]
    if rng.random() < 0.2:
        text.insert(int(rng.integers(len(text) + 1)), str(rng.choice(["", "# comment", "   "])))
    end = str(rng.choice(["\n", "\r\n", "\r"], p=[0.6, 0.3, 0.1]))
    data = (end.join(text) + end * int(rng.integers(2))).encode()
    data = b"\xef\xbb\xbf" * int(rng.random() < 0.1) + data
    data = _damage(rng, data, fault)
    zipped = rng.random() < 0.1
    path = folder / f"table{i}.{rng.choice(['csv', 'txt', 'tsv'])}{'.gz' * zipped}"
    path.write_bytes(gzip.compress(data) if zipped else data)
    options = {} if header in ("none", "words", "quoted") else {"header": True}
    clean = (
        fault == "none"
        and header != "none"
        and np.ptp([list(map(float, r)) for r in cells], 0).min() > 0
    )
    return Case(
        f"table, {fault}", path, lambda: _by_pandas(data, mark, header, fault), clean, options
    )


_NO_VALUE = ("missing", "word", "infinite", "code", "units", "total", "header again")


def _spoil(rng: np.random.Generator, rows: list[list[str]], fault: str, headed: bool) -> None:
    """Puts the fault into one row."""
    i, j = int(rng.integers(headed, len(rows))), int(rng.integers(len(rows[0])))
    if words := FAULTS[fault]:
        # A line with nothing in its only cell is blank.
        rows[i][j] = str(rng.choice(words if len(rows[i]) > 1 else [w for w in words if w]))
    elif fault == "short row":
        rows[i] = rows[i][:-1] or ["1", "2"]
    elif fault == "long row":
        rows[i] = [*rows[i], "1.5"]
    elif fault == "header again" and headed:
        rows.insert(max(i, 1), list(rows[0]))
    elif fault == "units" and headed:
        rows.insert(1, ["kg"] * len(rows[0]))
    elif fault == "total":
        body = np.array(rows[headed:], float)
        rows.append([repr(float(v)) for v in body.sum(0)])


def _damage(rng: np.random.Generator, data: bytes, fault: str) -> bytes:
    """Other bytes in place of some, or the first part of the file."""
    if fault == "cut":
        return data[: int(rng.integers(1, len(data)))]
    if fault == "bytes":
        spoilt = bytearray(data)
        for at in rng.integers(0, len(data), int(rng.integers(1, 4))):
            spoilt[at] = int(rng.choice([rng.integers(256), *b'\n\r",;#. \t0-e\0_']))
        return bytes(spoilt)
    return data


def _by_pandas(data: bytes, mark: str, header: str, fault: str) -> np.ndarray | None:
    """The rows by pandas; None if a cell is no finite number, or the fault is no value."""
    kept = header == "none" and fault in ("header again", "units")  # there is none to repeat
    if fault in _NO_VALUE and not kept:
        return None
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        lines = [s for s in text.split("\n") if s.strip() and not s.startswith("#")]
        frame = pd.read_csv(
            io.StringIO("\n".join(lines)),
            sep=r"\s+" if mark == " " else mark,
            header=None if header == "none" else 0,
            index_col=False,
            float_precision="round_trip",
            keep_default_na=False,
        )
        values = frame.to_numpy(np.float64)
    except Exception:
        return None
    return values if np.isfinite(values).all() else None


# Arrays


def array(rng: np.random.Generator, folder: Path, i: int) -> Case:
    """An array of a random type and shape in a random format, half of them damaged."""
    shape = (int(rng.integers(8, 30)), *rng.integers(1, 5, int(rng.integers(0, 3))).tolist())
    kind = str(rng.choice(["f8", "f4", "f2", ">f8", "i8", "i4", "u1", "i2", "?", ">i4", "c16"]))
    x = rng.normal(0, 40, shape).astype(kind) if kind != "?" else rng.random(shape) < 0.5
    if rng.random() < 0.3:
        x = np.asfortranarray(x)
    if rng.random() < 0.1 and x.dtype.kind == "f":
        x[tuple(rng.integers(0, s) for s in shape)] = rng.choice([np.nan, np.inf, -np.inf])
    ending = str(rng.choice(["npy", "npz", "h5", "mat", "pt", "safetensors", "parquet"]))
    path = folder / f"array{i}.{ending}"
    write, read = WRITERS[ending]
    if ending in ("pt", "safetensors"):
        x = np.ascontiguousarray(x, x.dtype.newbyteorder("="))
    if ending == "parquet":
        x = np.asarray(x.reshape(len(x), -1), x.dtype.newbyteorder("="))
    try:
        write(path, x)
    except (TypeError, ValueError, KeyError, NotImplementedError):
        return array(rng, folder, i)  # this format has no such type
    except Exception as error:
        if "pyarrow" not in type(error).__module__:
            raise
        return array(rng, folder, i)
    damaged = rng.random() < 0.5
    if damaged:
        path.write_bytes(_damage(rng, path.read_bytes(), str(rng.choice(["bytes", "cut"]))))

    def expected() -> np.ndarray | None:
        try:
            values = np.asarray(read(path))
        except Exception:
            return None
        if values.dtype.kind not in "biuf" or not np.isfinite(values.astype(np.float64)).all():
            return None
        return values.reshape(-1, 1) if values.ndim == 1 else values

    return Case(f"array, {ending}{', damaged' * damaged}", path, expected)


def _read_h5(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["x"][()]


WRITERS: dict[str, tuple[Callable, Callable[[Path], np.ndarray]]] = {
    "npy": (np.save, lambda p: np.load(p)),
    "npz": (lambda p, x: np.savez_compressed(p, x=x), lambda p: np.load(p)["x"]),
    "h5": (lambda p, x: h5py.File(p, "w").create_dataset("x", data=x).file.close(), _read_h5),
    "mat": (lambda p, x: scipy.io.savemat(p, {"x": x}), lambda p: scipy.io.loadmat(p)["x"]),
    "pt": (
        lambda p, x: torch.save(torch.from_numpy(x), p),
        lambda p: torch.load(p, weights_only=True).numpy(),
    ),
    "safetensors": (
        lambda p, x: save_file({"x": torch.from_numpy(x)}, p),
        lambda p: load_file(p)["x"].numpy(),
    ),
    "parquet": (
        lambda p, x: pd.DataFrame(x).rename(columns=lambda j: f"c{j}").to_parquet(p),
        lambda p: parquet.read_table(p).to_pandas(ignore_metadata=True).to_numpy(np.float64),
    ),
}


# Folders of pictures

ORIENTED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a),
}  # fmt: skip


def folder_of_pictures(rng: np.random.Generator, folder: Path, i: int) -> Case:
    """PNG of all kinds, with pixels computed by hand, and files that are no pictures."""
    place = folder / f"pictures{i}"
    place.mkdir()
    kind = str(rng.choice(["gray", "16 bits", "few bits", "colour", "palette", "alpha", "other"]))
    size = int(rng.integers(1, 9))
    channels = [None, 1, 3][rng.integers(3)]
    pictures = []
    for k in range(int(rng.integers(2, 6))):
        orientation = int(rng.integers(1, 9))
        file = place / f"{k}.png"
        seen = _picture(rng, file, kind, size, orientation)
        pictures.append(ORIENTED[orientation](seen) if kind != "other" else seen)
    stray = str(rng.choice(["none", "none", "Thumbs.db", "._0.png", "0.csv", "z.png", "cut.png"]))
    if stray != "none":
        data = b"\0\5\x16\7" if stray != "cut.png" else (place / "0.png").read_bytes()[:-20]
        (place / stray).write_bytes(data)
    bad = stray in ("z.png", "cut.png") or (kind == "alpha" and channels is None)

    def expected() -> np.ndarray | None:
        if bad and stray != "cut.png":
            return None
        # A picture without its last bytes may be read, as a viewer does, but not otherwise.
        every = [*pictures, pictures[0]] if stray == "cut.png" else pictures
        return np.stack([_channels(seen, channels) for seen in every])

    clean = not bad and kind != "other"
    return Case(f"picture, {kind}", place, expected, clean, {"channels": channels})


def _exif(orientation: int) -> bytes:
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"II*\0\x08\0\0\0\x01\0" + entry + bytes(4)


def _picture(
    rng: np.random.Generator, file: Path, kind: str, size: int, orientation: int
) -> np.ndarray:
    """Writes one; returns its pixels as seen before rotation, (h, w) or (h, w, 3)."""
    gray = rng.integers(0, 256, (size, size), dtype=np.uint8)
    colour = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    exif = {"eXIf": _exif(orientation)}
    match kind:
        case "gray":
            png(file, gray, 0, **exif)
            return gray
        case "16 bits":
            deep = rng.integers(0, 65536, (size, size)).astype(np.uint16)
            png(file, deep, 0, 16, **exif)
            return np.round(deep / 257)
        case "few bits":
            bits = int(rng.choice([1, 2, 4]))
            few = (gray >> (8 - bits)).astype(np.uint8)
            png(file, few, 0, bits, **exif)
            return few * (255 // (2**bits - 1))
        case "colour":
            png(file, colour, 2, **exif)
            return colour
        case "palette":
            palette = rng.integers(0, 256, (16, 3), dtype=np.uint8)
            png(file, gray >> 4, 3, 8, **exif, PLTE=palette.tobytes())
            return palette[gray >> 4]
        case "alpha":
            alpha = rng.choice([0, 255], (size, size, 1)).astype(np.uint8)
            alpha[0, 0] = 0
            png(file, np.concatenate([colour, alpha], 2), 6, **exif)
            return np.where(alpha == 255, colour, 255)
        case _:
            form = str(rng.choice(["JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
            Image.fromarray(colour).save(file, form)
            with Image.open(file) as picture:
                return np.asarray(picture.convert("RGB"))


def _channels(seen: np.ndarray, channels: int | None) -> np.ndarray:
    """In the layout of the data set."""
    if channels == 3 and seen.ndim == 2:
        seen = np.repeat(seen[..., None], 3, 2)
    if channels == 1 and seen.ndim == 3:
        weights = np.array([19595, 38470, 7471])  # ITU-R BT.601, in multiples of 2^-16
        return (seen.astype(np.int64) @ weights + 2**15) >> 16
    return seen if seen.ndim == 2 else seen.transpose(2, 0, 1)


# Paths

NAMES = ("a b", "größe", "x'y", 'x"y', "[x]", "#x", "-x", "~x", "x=y", "x,y", "${x}", "a\nb",
         "a\tb", "\x1b[31m", "\udcff", "x" * 200, "...", "%s", "{x}",
         "*")  # fmt: skip


def odd_path(rng: np.random.Generator, folder: Path, i: int) -> Case:
    """A valid file of an odd name, or something that is no file."""
    place = folder / f"path{i}"
    place.mkdir()
    what = str(
        rng.choice(["file", "picture", "link", "loop", "pipe", "folder", "nothing", "empty"])
    )
    name = NAMES[rng.integers(len(NAMES))]
    x = rng.normal(size=(10, 2))
    if what == "picture":
        for k in range(3):
            png(place / f"{name}{k}.png", np.full((2, 2), 50 * k, np.uint8), 0)
        seen = np.arange(3)[:, None, None] * 50 * np.ones((2, 2))
        hidden = name.startswith(".")
        return Case(f"path, {what}", place, lambda: None if hidden else seen, not hidden)
    path = place / f"{name}.npy"
    if what == "file":
        np.save(path, x)
    elif what == "link":
        np.save(place / "target.npy", x)
        path.symlink_to(place / "target.npy")
    elif what == "loop":
        path.symlink_to(path)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "empty":
        path.write_bytes(b"")
    clean = what in ("file", "link")
    return Case(f"path, {what}", path, lambda: x if clean else None, clean)


# Settings of other programs

SETTINGS = "settings"
_RC_LINES = (
    b"text.usetex: True", b"font.family: nonsense", b"axes.prop_cycle: cycler(", b"backend: none",
    b"figure.facecolor: red", b"text.color: \xff", b"axes.unicode_minus: perhaps", b"no.such: 1",
    b"path.sketch: 1, 100, 2", b"figure.dpi: 3", b"interactive: True", b"savefig.format: nothing",
    b"axes.xmargin: -3", b"lines.linewidth: wide", b"\0\1", b": : :", b"font.size: 400",
)  # fmt: skip
_YAML = (
    b"defaults: [nothing]\n", b"hydra: {run: {dir: elsewhere}}\n", b"seed: 5\n", b"\xff",
    b"{", b"- 1\n", b"defaults:\n  - override hydra/launcher: none\n",
)  # fmt: skip
_RC_PLACES = ("matplotlibrc", ".config/matplotlib/matplotlibrc", ".matplotlib/matplotlibrc")
_YAML_PLACES = (
    "config.yaml", ".hydra/config.yaml", "conf/config.yaml", "configs/config.yaml", "hydra.yaml",
    "configs/method/pcd.yaml", ".config/ebmtrain/config.yaml",
)  # fmt: skip
_DRAW = """
import hashlib, os
os.environ["MPLBACKEND"] = "agg"
import torch
from ebmtrain.config.presets import compose_config, to_plain
from ebmtrain.plots.attempt import attempt
config = to_plain(compose_config())
with attempt("x.png", lambda _, why: print("refused:", why)):
    from ebmtrain.plots.encode import encode_png
    from ebmtrain.plots.energies import energy_histograms
    picture = encode_png(energy_histograms({"data": torch.linspace(-1, 1, 50)}, "title"))
    print(hashlib.sha256(picture + repr(config).encode()).hexdigest())
"""


def settings(rng: np.random.Generator, folder: Path, i: int) -> Case:
    """Settings of matplotlib and of Hydra in a folder that is the current one and the home."""
    place = folder / f"settings{i}"
    place.mkdir()
    for places, lines in ((_RC_PLACES, _RC_LINES), (_YAML_PLACES, _YAML)):
        for name in rng.choice(places, int(rng.integers(3)), replace=False):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(b"\n".join(rng.choice(lines, int(rng.integers(1, 3)))))
    return Case(SETTINGS, place, lambda: None)


def run_settings(case: Case) -> Finding:
    """A figure and the default configuration are those of an empty folder, or the figure is refused
    with its reason."""
    done = _draw(case.path)
    line = done.stdout.strip()
    if done.returncode or len(line.splitlines()) != 1:
        return Finding(case, "unexpected", done.stdout + done.stderr)
    if line.startswith("refused: "):
        return Finding(case, "refused", line)
    with tempfile.TemporaryDirectory() as empty:
        same = line == _draw(Path(empty)).stdout.strip()
    return Finding(case, "read" if same else "wrong", line)


def _draw(folder: Path) -> subprocess.CompletedProcess[str]:
    source = str(Path(__file__).resolve().parents[2])
    own = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / ".config"), "PYTHONPATH": source}
    return subprocess.run(
        [sys.executable, "-c", _DRAW], cwd=folder, env={**os.environ, **own},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


KINDS = (table, table, array, folder_of_pictures, odd_path)
_SETTINGS_EVERY = 100  # files: each starts two processes
FAILURES = ("unexpected", "wrong", "refused though clean")


def fuzz(n_files: int, seed: int) -> list[Finding]:
    """Findings for `n_files` cases."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        for i in range(n_files):
            rng = np.random.default_rng([seed, i])
            make = settings if i % _SETTINGS_EVERY == 99 else KINDS[i % len(KINDS)]
            found.append(run_case(make(rng, Path(place), i)))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = fuzz(options.files, options.seed)
    for i, (case, verdict, detail) in enumerate(found):
        if verdict in FAILURES:
            print(f"{verdict}: file {i}, {case.kind}: {detail!r}")
    counts = Counter(verdict for _, verdict, _ in found)
    print(", ".join(f"{counts[v]} {v}" for v in ("read", "noted", "refused", *FAILURES)))
    return int(any(counts[v] for v in FAILURES))


if __name__ == "__main__":
    sys.exit(main())
