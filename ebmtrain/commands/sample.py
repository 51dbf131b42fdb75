"""`ebmtrain sample RUN count=1000`: points from the model, in the data's own units."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from ebmtrain.commands.words import check_options, overridden, run_and_options, warn
from ebmtrain.errors import ConfigError

USAGE = "ebmtrain sample RUN [count=N] [start=chains|noise|data] [label=CLASS] [out=FILE.npz] ..."
# Options and the least of each.
NUMBERS = {"count": 1, "burn_in": 0, "thin": 1, "chains": 1, "seed": 0, "label": 0}


def main(words: list[str]) -> int:
    path, options, trust = run_and_options(words, USAGE)
    check_options(options, (*NUMBERS, "start", "out", "checkpoint", "device.*"))
    for name, least in NUMBERS.items():
        value = options.get(name, least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if options.get("start", "noise") not in ("chains", "noise", "data"):
        raise ConfigError(f"start must be chains, noise or data, got {options['start']!r}")
    out = options.pop("out", None)
    if out is not None and Path(str(out)).suffix not in (".npz", ".npy", ".csv"):
        raise ConfigError(f"out must end in .npz, .npy or .csv, got {out}")

    from ebmtrain.durable import write
    from ebmtrain.loading import load_with
    from ebmtrain.rundir import RunDir
    from ebmtrain.sampling import energies

    files = RunDir.open(path)
    device = {name: options.pop(name) for name in list(options) if name.split(".")[0] == "device"}
    config = overridden(files.config(), device)
    run = load_with(files, config, options.pop("checkpoint", None), trust, warn)
    count = options.pop("count", 1000)
    x = run.sample(count, **options)
    target = Path(out) if out else path / "samples" / f"sample_{count}.npz"
    energy = energies(run.energy, x).cpu().numpy()
    write(target, as_file(target.suffix, x.cpu().numpy(), energy, run.parts.frame.names))
    print(f"{len(x)} points of shape {tuple(x.shape[1:])}: {target}")
    return 0


def as_file(suffix: str, x: np.ndarray, energy: np.ndarray, names: tuple[str, ...] | None) -> bytes:
    """npz holds x and energy, npy and csv hold x; csv below the names of its columns, if any."""
    buffer = io.BytesIO()
    if suffix == ".npz":
        np.savez(buffer, x=x, energy=energy)
    elif suffix == ".npy":
        np.save(buffer, x)
    else:
        if names is not None:
            header = io.StringIO()
            csv.writer(header, lineterminator="\n").writerow(names)
            buffer.write(header.getvalue().encode())
        np.savetxt(buffer, x.reshape(len(x), -1), delimiter=",")
    return buffer.getvalue()
