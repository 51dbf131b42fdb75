"""`ebmtrain sample RUN count=1000`: points from the model, in the data's own units; with `--inpaint
MASK` missing values given known ones, with `--denoise FILE noise=0.3` clean points given noisy
ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ebmtrain.cli.arguments import check_options, parse_run_and_options, split_flags, warn
from ebmtrain.errors import ConfigError, DataError, counted

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ebmtrain.runs.trained_run import Run

FASTA_SUFFIXES = (".fasta", ".fa")
USAGE = (
    "ebmtrain sample RUN [count=N] [start=chains|noise|data] [label=CLASS] "
    "[--out FILE.npz|FILE.fasta] [--inpaint MASK [--data FILE] | --denoise FILE noise=SIGMA] ..."
)
_MINIMA = {"count": 1, "burn_in": 0, "thin": 1, "chains": 1, "seed": 0}
_N_HOLDOUT_ROWS = 16  # held-out points that --inpaint takes without --data


class _Output(NamedTuple):
    """Draws and their description."""

    x: Tensor
    """(points, *event), or (points, draws of each, *event)."""
    description: str
    default_name: str
    """Name of the file in the folder samples."""
    extra_arrays: Mapping[str, Tensor] = {}
    """Further arrays of an npz file."""
    draw: Callable[[Path], None] | None = None
    """Draws a picture into a file, if there is one of such points."""


def main(arguments: list[str]) -> int:
    rest, files = split_flags(arguments, ("--inpaint", "--data", "--denoise", "--out"), others=True)
    path, options, trust = parse_run_and_options(rest, USAGE)
    if "--out" in files:
        options["out"] = files.pop("--out")
    out = _check_arguments(options, files)

    from ebmtrain.cli.run_files import encode_arrays, open_with_options
    from ebmtrain.masks import lengths
    from ebmtrain.score import energies

    of_run = {n: options.pop(n) for n in list(options) if n.split(".")[0] in ("device", "dataset")}
    run = open_with_options(path, of_run, options.pop("checkpoint", None), trust)
    if "--inpaint" in files:
        output = _inpaint(run, files["--inpaint"], files.get("--data"), options)
    elif "--denoise" in files:
        output = _denoise(run, files["--denoise"], options)
    else:
        count = options.pop("count", 1000)
        x = run.sample(count, **options)
        text = f"{counted(len(x), 'point')} of shape {tuple(x.shape[1:])}"
        output = _Output(x, text, f"sample_{count}.npz")
    x, spec = output.x, run.experiment.data_spec
    points = x.reshape(-1, *spec.standardization.shift.shape)
    energy = energies(run.energy, points)
    shape = x.shape[: x.dim() - points.dim() + 1]
    tensors = {"x": x, "energy": energy.view(shape), **output.extra_arrays}
    if spec.ragged:
        tensors["lengths"] = lengths(x)
    arrays = {k: v.cpu().numpy() for k, v in tensors.items()}
    target = Path(out) if out else path / "samples" / output.default_name
    table = arrays["x"].reshape(len(points), -1)
    if target.suffix in FASTA_SUFFIXES:
        content = _encode_fasta(run, table, arrays["energy"].reshape(-1))
    else:
        content = encode_arrays(target.suffix, arrays, table, spec.names)
    run.directory.write_output(target, content)
    print(f"{output.description}: {target}")
    if output.draw is not None:
        output.draw(target.with_suffix(".png"))
    return 0


def _encode_fasta(run: Run, codes: np.ndarray, energy: np.ndarray) -> bytes:
    """FASTA records of samples, named by number and energy.

    Raises:
        ConfigError: the points are no symbols.
    """
    from ebmtrain.datasets.io.read_fasta import to_fasta

    alphabet = getattr(run.experiment.data_spec.support, "alphabet", None)
    if alphabet is None:
        raise ConfigError("FASTA is for symbols, and these points are numbers: out=FILE.npz")
    return to_fasta(codes, alphabet, [f"{i} energy={e:.6g}" for i, e in enumerate(energy, 1)])


def _check_arguments(options: dict[str, Any], files: Mapping[str, str]) -> str | None:
    """Checks options and flags; removes and returns the option `out`."""
    mask, noisy = "--inpaint" in files, "--denoise" in files
    if mask and noisy:
        raise ConfigError("--inpaint and --denoise exclude each other: give one of them")
    own = ("array",) if mask else ("array", "noise") if noisy else ("start", "label")
    check_options(options, (*_MINIMA, *own, "out", "checkpoint", "device.*", "dataset.path"))
    for name, least in _MINIMA.items():
        value = options.get(name, least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if options.get("start", "noise") not in ("chains", "noise", "data"):
        raise ConfigError(f"start must be chains, noise or data, got {options['start']!r}")
    if "--data" in files and not mask:
        raise ConfigError("--data is read by --inpaint MASK alone: add it, or leave --data out")
    if noisy and options.get("noise") is None:
        raise ConfigError("give noise=SIGMA, its standard deviation in the units of the data")
    out = options.pop("out", None)
    if out is not None and Path(str(out)).suffix not in (".npz", ".npy", ".csv", *FASTA_SUFFIXES):
        raise ConfigError(f"out must end in .npz, .npy, .csv or .fasta, got {out}")
    return out


def _read_rows(run: Run, data: str, options: dict[str, Any]) -> Tensor:
    """The points of a file, (n, *event); removes `array` from the options."""
    array = options.pop("array", None)
    return run.read(data, None if array is None else str(array))


def _denoise(run: Run, data: str, options: dict[str, Any]) -> _Output:
    """Clean points for each row of the file, and their mean."""
    from ebmtrain.runs.figures import RunFigures

    noise, y = options.pop("noise"), _read_rows(run, data, options)
    found = run.denoise(y, noise, options.pop("count", 1), **options)
    each = f"{counted(found.draws.shape[1], 'time')} each"
    text = f"{counted(len(y), 'point')} ({data}), freed of noise {noise:g}, {each}"

    def draw(file: Path) -> None:
        figures = RunFigures(run.experiment, run.directory, warn=warn)
        try:
            if figures.draw_denoising(file, y, found, noise):
                print(f"picture: {file}")
        except DataError as error:  # the dataset, which is missing, knows if points are images
            warn(f"no picture: {error}")

    is_table = y.ndim <= 2
    mean = {"mean": found.mean}
    return _Output(found.draws, text, "denoised.npz", mean, None if is_table else draw)


def _inpaint(run: Run, mask: str, data: str | None, options: dict[str, Any]) -> _Output:
    """Missing values for each row of the file, or for some held-out points."""
    import torch

    from ebmtrain.datasets.io.read_points import read_points

    event = tuple(run.experiment.standardization.shift.shape)
    known = torch.from_numpy(read_points(mask, header=False).values)
    if known.numel() != math.prod(event) or not ((known == 0) | (known == 1)).all():
        raise DataError(
            f"{mask} must hold {math.prod(event)} zeros and ones, one for each number of a point: "
            "1 where it is known, 0 where it is to be filled in"
        )
    if data is not None:
        rows = _read_rows(run, data, options)
    elif run.experiment.dataset is not None:
        rows = run.experiment.dataset.holdout[:_N_HOLDOUT_ROWS]
    else:
        raise ConfigError("a landscape has no held-out points: give --data FILE")
    x = run.inpaint(rows, known.view(event) == 1, options.pop("count", 1), **options)
    missing = f"{int((known == 0).sum())} of {known.numel()} numbers"
    rows_shown = f"{counted(len(x), 'point')} ({data or 'held out'})"
    text = f"{rows_shown}, {missing} drawn, {counted(x.shape[1], 'time')} each"
    return _Output(x, text, "inpainted.npz")
