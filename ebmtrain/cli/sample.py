"""`ebmtrain sample RUN count=1000`: points from the model, in the data's own units; with
`--inpaint MASK` what it makes of points of which a part is known, with `--denoise FILE noise=0.3`
of noisy ones."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ebmtrain.cli.arguments import (
    apply_options,
    check_options,
    parse_run_and_options,
    split_flags,
    warn,
)
from ebmtrain.errors import ConfigError

USAGE = (
    "ebmtrain sample RUN [count=N] [start=chains|noise|data] [label=CLASS] [out=FILE.npz] "
    "[--inpaint MASK [--data FILE] | --denoise FILE noise=SIGMA] ..."
)
# Options and the least of each.
_NUMBERS = {"count": 1, "burn_in": 0, "thin": 1, "chains": 1, "seed": 0, "label": 0}


def main(arguments: list[str]) -> int:
    rest, files = split_flags(arguments, ("--inpaint", "--data", "--denoise"), others=True)
    path, options, trust = parse_run_and_options(rest, USAGE)
    mask, noisy = files.get("--inpaint"), files.get("--denoise")
    if mask is not None and noisy is not None:
        raise ConfigError("--inpaint and --denoise are two questions: ask one at a time")
    own = ("array",) if mask else ("array", "noise") if noisy else ("start", "label")
    shared = [name for name in _NUMBERS if name != "label"]
    check_options(options, (*shared, *own, "out", "checkpoint", "device.*"))
    for name, least in _NUMBERS.items():
        value = options.get(name, least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if options.get("start", "noise") not in ("chains", "noise", "data"):
        raise ConfigError(f"start must be chains, noise or data, got {options['start']!r}")
    if "--data" in files and mask is None:
        raise ConfigError("--data is read by --inpaint MASK alone: add it, or leave --data out")
    out = options.pop("out", None)
    if out is not None and Path(str(out)).suffix not in (".npz", ".npy", ".csv"):
        raise ConfigError(f"out must end in .npz, .npy or .csv, got {out}")

    from ebmtrain.cli.sample_posterior import SampleOutput, denoise, inpaint
    from ebmtrain.masks import lengths
    from ebmtrain.runs.loading import open_run
    from ebmtrain.runs.storage.rundir import RunDir
    from ebmtrain.score import energies

    opened = RunDir.open(path)
    device = {name: options.pop(name) for name in list(options) if name.split(".")[0] == "device"}
    config = apply_options(opened.config(), device)
    run = open_run(
        opened, config, options.pop("checkpoint", None), trust, warn, set_up_process=True
    )
    if mask is not None:
        answer, name = inpaint(run, mask, files.get("--data"), options), "inpainted.npz"
    elif noisy is not None:
        answer, name = denoise(run, noisy, options), "denoised.npz"
    else:
        count = options.pop("count", 1000)
        x, name = run.sample(count, **options), f"sample_{count}.npz"
        answer = SampleOutput(x, f"{len(x)} points of shape {tuple(x.shape[1:])}")
    target = Path(out) if out else path / "samples" / name
    x = answer.x
    points = x.reshape(-1, *run.experiment.standardization.shift.shape)
    energy = energies(run.energy, points).view(x.shape[: x.dim() - points.dim() + 1])
    arrays = {
        k: v.cpu().numpy() for k, v in {"x": x, "energy": energy, **answer.extra_arrays}.items()
    }
    if run.experiment.data_spec.ragged:
        arrays["lengths"] = lengths(x).cpu().numpy()
    opened.write_output(target, _as_file(target.suffix, arrays, run.experiment.data_spec.names))
    print(f"{answer.description}: {target}")
    if answer.picture is not None:
        opened.write_output(target.with_suffix(".png"), answer.picture)
        print(f"picture: {target.with_suffix('.png')}")
    return 0


def _as_file(suffix: str, arrays: Mapping[str, np.ndarray], names: tuple[str, ...] | None) -> bytes:
    """npz holds all arrays, npy and csv hold x; csv below the names of its columns, if any, a point
    a line."""
    buffer, x = io.BytesIO(), arrays["x"]
    if suffix == ".npz":
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # no array is its allow_pickle
    elif suffix == ".npy":
        np.save(buffer, x)
    else:
        if names is not None:
            header = io.StringIO()
            csv.writer(header, lineterminator="\n").writerow(names)
            buffer.write(header.getvalue().encode())
        np.savetxt(buffer, x.reshape(arrays["energy"].size, -1), delimiter=",")
    return buffer.getvalue()
