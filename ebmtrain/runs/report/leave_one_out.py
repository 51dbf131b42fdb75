"""The common result of runs that leave out one class each (`train.leave_one_out`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from ebmtrain.evaluation.ood_detection import DETECTORS
from ebmtrain.runs.report.tables import Table
from ebmtrain.runs.storage.atomic_io import write_file

_Result = Mapping[str, Any]


def write_leave_one_out(
    folder: Path, results: Sequence[_Result], seconds: float
) -> dict[str, Any] | None:
    """Writes result.json next to the runs, prints its numbers as a table and returns it. Returns
    None and writes nothing if no AUROC was measured.

    metrics.auroc_mean, auroc_per_class   of the energy; classes in their order
    metrics.auroc_kde_mean, ...           of each peer, see `OutlierBaselines`, with its setting of
                                          the largest mean over all classes
    metrics.auroc_best_peer_mean          the largest mean of a peer
    metrics.gain_over_best_peer           auroc_mean minus that

    Args:
        folder: the folder of the runs.
        results: of the runs, in the order of the classes. There are no means unless all runs have
            finished and measured an AUROC.
        seconds: duration of all runs.
    """
    if not any("auroc" in result["metrics"] for result in results):
        return None
    statuses = [result["status"] for result in results]
    finished = statuses.count("finished")
    numbers = (result["metrics"].get("auroc") for result in results)
    known = all(value is not None and isfinite(value) for value in numbers)
    metrics = _means(results) if finished == len(results) and known else {}
    status = "finished" if finished == len(results) else "failed"
    result = {
        "status": "interrupted" if "interrupted" in statuses else status,
        "seconds": round(seconds, 3),
        "metrics": metrics,
        "runs": len(results),
        "finished": finished,
    }
    write_file(folder, "result.json", (json.dumps(result, indent=2) + "\n").encode())
    if metrics:
        _table(metrics).show()
        print()
    return result


def _means(results: Sequence[_Result]) -> dict[str, Any]:
    """Means over the classes and the values per class."""
    each = [float(result["metrics"]["auroc"]) for result in results]
    found: dict[str, Any] = {"auroc_mean": fmean(each), "auroc_per_class": each}
    for name in (f"auroc_{peer}" for peer in DETECTORS):
        # A row for each setting, a column for each class.
        rows = zip(*(result["metrics"][name] for result in results), strict=True)
        best = max((list(row) for row in rows), key=fmean)
        found |= {f"{name}_mean": fmean(best), f"{name}_per_class": best}
    best_peer = max(found[f"auroc_{peer}_mean"] for peer in DETECTORS)
    gain = found["auroc_mean"] - best_peer
    return {**found, "auroc_best_peer_mean": best_peer, "gain_over_best_peer": gain}


def _table(metrics: Mapping[str, Any]) -> Table:
    """A row for the energy and for each peer, a column for each class."""
    names = {"auroc": "the energy", **{f"auroc_{key}": name for key, name in DETECTORS.items()}}
    rows = [
        [name, f"{metrics[f'{key}_mean']:.4f}", *(f"{v:.3f}" for v in metrics[f"{key}_per_class"])]
        for key, name in names.items()
    ]
    classes = [str(i) for i in range(len(metrics["auroc_per_class"]))]
    note = "Each peer has the setting that is best for these very points."
    return Table("AUROC of a class left out", ["", "mean", *classes], rows, 1, [note])
