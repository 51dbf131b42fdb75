"""`ebmtrain score RUN --data FILE --out FILE`: the energy of each row, an anomaly score."""

from __future__ import annotations

import io
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

USAGE = "ebmtrain score RUN --data FILE --out FILE.csv|npy|npz [array=NAME] [checkpoint=best] ..."


def main(arguments: list[str]) -> int:
    rest, files = split_flags(arguments, ("--data", "--out"), others=True)
    path, options, trust = parse_run_and_options(rest, USAGE)
    check_options(options, ("array", "checkpoint", "device.*"))
    for flag in ("--data", "--out"):
        if flag not in files:
            raise ConfigError(f"{flag} FILE is missing; usage: {USAGE}")
    data, out = files["--data"], Path(files["--out"]).expanduser()
    if out.suffix not in (".csv", ".npy", ".npz"):
        raise ConfigError(f"--out must end in .csv, .npy or .npz, got {out}")
    if _same_file(data, out):
        raise ConfigError(f"--out {out} is the data: it would be overwritten; name another file")
    array = options.pop("array", None)

    from ebmtrain.runs.loading import open_run
    from ebmtrain.runs.storage.rundir import RunDir
    from ebmtrain.score import energies

    files_of_run = RunDir.open(path)
    checkpoint = options.pop("checkpoint", None)
    config = apply_options(files_of_run.config(), options)
    run = open_run(files_of_run, config, checkpoint, trust, warn, set_up_process=True)
    x = run.read(data, None if array is None else str(array))
    scores = {"energy": energies(run.energy, x).double().cpu().numpy()}
    log_z = run.log_z
    if run.experiment.data_spec.ragged:
        print("energies compare sequences of one length: between lengths a constant is free")
    elif log_z is None:
        print(f"log Z of step {run.step} is not known, so -log p is left out: ebmtrain evaluate")
    else:
        scores["neg_log_p"] = scores["energy"] / run.temperature + log_z
    files_of_run.write_output(out, _as_file(out.suffix, scores))
    print(f"{len(x)} rows, {' and '.join(scores)}: {out}")
    return 0


def _same_file(data: str, out: Path) -> bool:
    try:
        return Path(data).expanduser().samefile(out)
    except (OSError, RuntimeError, ValueError):  # one of them is not there
        return False


def _as_file(suffix: str, scores: dict[str, np.ndarray]) -> bytes:
    """csv and npz hold all columns by name, npy the energies alone."""
    buffer = io.BytesIO()
    if suffix == ".npz":
        np.savez(buffer, **scores)  # type: ignore[arg-type]  # no column is its allow_pickle
    elif suffix == ".npy":
        np.save(buffer, scores["energy"])
    else:
        columns = np.stack(list(scores.values()), 1)
        np.savetxt(buffer, columns, "%.9g", ",", header=",".join(scores), comments="")
    return buffer.getvalue()
