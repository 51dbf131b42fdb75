"""`ebmtrain score RUN --data FILE --out FILE`: the energy of each row, an anomaly score, and
whether it is above the threshold of a false-positive rate; without --data of the held-out rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ebmtrain.cli.arguments import check_options, parse_run_and_options, split_flags
from ebmtrain.errors import ConfigError, DataError, counted

if TYPE_CHECKING:
    from torch import Tensor

    from ebmtrain.runs.trained_run import Run

USAGE = (
    "ebmtrain score RUN [--data FILE] [--features | --contacts] --out FILE.csv|npy|npz "
    "[fpr=0.05] [array=NAME] [checkpoint=best] [dataset.path=MOVED] ..."
)
_FPR = 0.05


def main(arguments: list[str]) -> int:
    contacts, features = ("--contacts" in arguments), ("--features" in arguments)
    arguments = [word for word in arguments if word not in ("--contacts", "--features")]
    rest, files = split_flags(arguments, ("--data", "--out"), others=True)
    path, options, trust = parse_run_and_options(rest, USAGE)
    check_options(options, ("array", "checkpoint", "fpr", "device.*", "dataset.path"))
    if "--out" not in files:
        raise ConfigError(f"--out FILE is missing; usage: {USAGE}")
    data, out = files.get("--data"), Path(files["--out"]).expanduser()
    if out.suffix not in (".csv", ".npy", ".npz"):
        raise ConfigError(f"--out must end in .csv, .npy or .npz, got {out}")
    if data is not None and _same_file(data, out):
        raise ConfigError(f"--out {out} is the data: it would be overwritten; name another file")
    fpr = options.pop("fpr", _FPR)
    if fpr is not None and not (isinstance(fpr, int | float) and 0 < fpr < 1):
        raise ConfigError(f"fpr must be between 0 and 1, or null for no threshold, got {fpr!r}")
    array, checkpoint = options.pop("array", None), options.pop("checkpoint", None)

    from ebmtrain.cli.run_files import encode_arrays, open_with_options
    from ebmtrain.score import energies
    from ebmtrain.types import HasRowNumbers

    run = open_with_options(path, options, checkpoint, trust)
    if contacts:
        return _write_contacts(run, data, out)
    scores: dict[str, np.ndarray] = {}
    if data is not None:
        x = run.read(data, None if array is None else str(array))
    elif (dataset := run.experiment.dataset) is not None:
        x = dataset.holdout
        if isinstance(dataset, HasRowNumbers) and dataset.row_numbers is not None:
            scores["row"] = dataset.row_numbers[len(dataset.train) :].numpy()
    else:
        raise ConfigError("a landscape has no held-out rows: give --data FILE")
    if features:
        return _write_features(run, x, out)
    energy = energies(run.energy, x).double().cpu()
    scores = {"energy": energy.numpy(), **scores}
    log_z = run.log_z
    if run.experiment.data_spec.ragged:
        print("energies compare sequences of one length: between lengths a constant is free")
    elif log_z is None:
        print(f"log Z of step {run.step} is not known, so -log p is left out: ebmtrain evaluate")
    else:
        scores["neg_log_p"] = scores["energy"] / run.temperature + log_z
    arrays = dict(scores)
    if fpr is not None and (limit := _threshold(run, fpr)) is not None:
        scores["anomaly"] = (energy > limit).numpy().astype(np.int64)
        arrays = {**scores, "threshold": np.array(limit), "fpr": np.array(fpr)}
        print(f"{scores['anomaly'].sum()} of {counted(len(x), 'row')} above it")
    table = np.stack([value.astype(np.float64) for value in scores.values()], 1)
    run.directory.write_output(out, encode_arrays(out.suffix, arrays, table, list(scores)))
    written = ["energy"] if out.suffix == ".npy" else [*scores]
    print(f"{counted(len(x), 'row')}, {' and '.join(written)}: {out}")
    return 0


def _write_contacts(run: Run, data: str | None, out: Path) -> int:
    """Scores of contact of all pairs of sites, counted from 1, the highest first.

    Raises:
        ConfigError: the model has no couplings of symbols, or there are data, which it needs not.
    """
    import torch

    from ebmtrain.cli.run_files import encode_arrays
    from ebmtrain.models.potts import Potts

    model = run.standard_energy
    if not isinstance(model, Potts):
        raise ConfigError("--contacts are of the couplings of symbols: train with model=potts")
    if data is not None:
        raise ConfigError("--contacts are of the couplings and need no data: leave --data out")
    matrix = model.contacts().cpu()
    i, j = torch.triu_indices(len(matrix), len(matrix), 1)
    order = matrix[i, j].argsort(descending=True)
    i, j = i[order], j[order]
    arrays = {"contacts": matrix.numpy()}
    table = torch.stack([i + 1.0, j + 1.0, matrix[i, j]], 1).numpy()
    run.directory.write_output(out, encode_arrays(out.suffix, arrays, table, ("i", "j", "score")))
    print(f"{counted(len(i), 'pair')}, i, j and score: {out}")
    return 0


def _write_features(run: Run, x: Tensor, out: Path) -> int:
    """p(h = 1 | v) of the hidden units of each row.

    Raises:
        ConfigError: the model has no hidden units.
        DataError: a row holds no states.
    """
    import torch

    from ebmtrain.cli.run_files import encode_arrays
    from ebmtrain.types import Bipartite

    model = run.standard_energy
    if not isinstance(model, Bipartite):
        raise ConfigError("--features are of hidden units: train with model=rbm")
    run.experiment.data_spec.support.check(x, "points")
    with torch.no_grad():
        hidden = model.hidden(x.to(run.experiment.device, run.experiment.dtype))
    table = hidden.double().cpu().numpy()
    names = [f"hidden_{i + 1}" for i in range(table.shape[1])]
    run.directory.write_output(out, encode_arrays(out.suffix, {"hidden": table}, table, names))
    print(f"{counted(len(x), 'row')}, p(h = 1 | v) of {counted(len(names), 'hidden unit')}: {out}")
    return 0


def _threshold(run: Run, fpr: float) -> float | None:
    """The energy that a point of the data exceeds with probability `fpr`, from the held-out rows;
    None, and a line that says why, if they do not give it."""
    from ebmtrain.evaluation.estimators.threshold import fewest_inliers, threshold
    from ebmtrain.score import energies

    try:
        dataset = run.experiment.dataset
    except DataError as error:
        print(f"no threshold: {error}")
        return None
    if dataset is None or run.experiment.data_spec.ragged:
        return None
    n = len(dataset.holdout)
    if n < fewest_inliers(fpr):
        print(
            f"no threshold: a false-positive rate of {fpr:g} needs {fewest_inliers(fpr)} held-out "
            f"rows, and there are {n}: raise fpr to {1 / (n + 1):.2g}, say"
        )
        return None
    limit = threshold(energies(run.energy, dataset.holdout), fpr)
    print(f"threshold {limit:.9g}: at most {fpr:.2%} false positives, from {n} held-out rows")
    return limit


def _same_file(data: str, out: Path) -> bool:
    try:
        return Path(data).expanduser().samefile(out)
    except (OSError, RuntimeError, ValueError):  # one of them does not exist
        return False
