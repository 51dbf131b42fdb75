"""`ebmtrain score RUN --data FILE --out FILE`: the energy of each row, an anomaly score."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ebmtrain.cli.arguments import check_options, parse_run_and_options, split_flags
from ebmtrain.errors import ConfigError

USAGE = "ebmtrain score RUN --data FILE --out FILE.csv|npy|npz [array=NAME] [checkpoint=best] ..."


def main(arguments: list[str]) -> int:
    rest, files = split_flags(arguments, ("--data", "--out"), others=True)
    path, options, trust = parse_run_and_options(rest, USAGE)
    check_options(options, ("array", "checkpoint", "device.*", "dataset.path"))
    for flag in ("--data", "--out"):
        if flag not in files:
            raise ConfigError(f"{flag} FILE is missing; usage: {USAGE}")
    data, out = files["--data"], Path(files["--out"]).expanduser()
    if out.suffix not in (".csv", ".npy", ".npz"):
        raise ConfigError(f"--out must end in .csv, .npy or .npz, got {out}")
    if _same_file(data, out):
        raise ConfigError(f"--out {out} is the data: it would be overwritten; name another file")
    array, checkpoint = options.pop("array", None), options.pop("checkpoint", None)

    from ebmtrain.cli.run_files import encode_arrays, open_with_options
    from ebmtrain.score import energies

    run = open_with_options(path, options, checkpoint, trust)
    x = run.read(data, None if array is None else str(array))
    scores = {"energy": energies(run.energy, x).double().cpu().numpy()}
    log_z = run.log_z
    if run.experiment.data_spec.ragged:
        print("energies compare sequences of one length: between lengths a constant is free")
    elif log_z is None:
        print(f"log Z of step {run.step} is not known, so -log p is left out: ebmtrain evaluate")
    else:
        scores["neg_log_p"] = scores["energy"] / run.temperature + log_z
    table = np.stack(list(scores.values()), 1)
    run.directory.write_output(out, encode_arrays(out.suffix, scores, table, list(scores), "%.9g"))
    print(f"{len(x)} rows, {' and '.join(scores)}: {out}")
    return 0


def _same_file(data: str, out: Path) -> bool:
    try:
        return Path(data).expanduser().samefile(out)
    except (OSError, RuntimeError, ValueError):  # one of them does not exist
        return False
