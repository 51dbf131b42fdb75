"""Anomaly scores of tables by `experiment=anomaly`, beside kNN-5, LOF and IsolationForest.

    python benchmarks/adbench.py DIR              all DIR/*.npz, arrays X and y of 0 and 1
    python benchmarks/adbench.py DIR --seed 1     another split and other weights

Half of the normal rows are trained on; the other half and all anomalies are scored. The detectors
of scikit-learn get the same rows in the same standardized units. Prints a Markdown table of AUROC
and the CPU seconds of the run, evaluation included.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from torch import Tensor

import ebmtrain
from ebmtrain.evaluation.estimators.auroc import auroc
from ebmtrain.types import HasAnomalies

NAMES = ("energy", "kNN-5", "LOF", "IsolationForest")


def detector_scores(train: np.ndarray, points: np.ndarray) -> list[Tensor]:
    """Scores, (m,) each and high for anomalies, of points (m, d), by each detector."""
    neighbours: Any = NearestNeighbors(n_neighbors=5).fit(train)
    nearest = neighbours.kneighbors(points)[0][:, -1]
    fitted = (LocalOutlierFactor(novelty=True), IsolationForest(n_estimators=300, random_state=0))
    others = [-detector.fit(train).score_samples(points) for detector in fitted]
    return [torch.from_numpy(scores) for scores in (nearest, *others)]


def compare(path: Path, seed: int, arguments: list[str]) -> tuple[list[float], float]:
    """AUROC of the energy and of each detector, and the CPU seconds of the run."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["experiment=anomaly", f"dataset.path={path.absolute()}", "dataset.array=X"]
        words += ["dataset.label=y", f"seed={seed}", "device.threads=1"]
        words += [f"hydra.run.dir={folder}/run", *arguments]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "ebmtrain.cli.main", *words]
        subprocess.run(command, check=True, capture_output=True, env=os.environ, cwd=folder)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = ebmtrain.load(f"{folder}/run")
        dataset, own = run.experiment.dataset, run.result["metrics"]["auroc"]
    assert isinstance(dataset, HasAnomalies)
    assert dataset.anomalies is not None
    to_standard = dataset.standardization.to_standard
    train, normal, anomalies = map(to_standard, (dataset.train, dataset.holdout, dataset.anomalies))
    points = torch.cat([normal, anomalies])
    found = detector_scores(train.numpy(), points.numpy())
    aurocs = [auroc(s[: len(normal)], s[len(normal) :])[0] for s in found]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return [float(own), *aurocs], seconds


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options, arguments = parser.parse_known_args(words)
    if not (paths := sorted(options.folder.glob("*.npz"))):
        parser.error(f"{options.folder} holds no .npz files: give a folder of tables")
    rows = []
    print(f"| table | {' | '.join(NAMES)} | CPU s |\n|---|{'---|' * (len(NAMES) + 1)}")
    for path in paths:
        values, seconds = compare(path, options.seed, arguments)
        rows.append(values)
        shown = " | ".join(f"{v:.3f}" for v in values)
        print(f"| {path.stem} | {shown} | {seconds:.0f} |", flush=True)
    table = torch.tensor(rows)
    print(f"| mean | {' | '.join(f'{v:.3f}' for v in table.mean(0).tolist())} | |")
    print(f"\nabove kNN-5 on {int((table[:, 0] > table[:, 1]).sum())} of {len(table)} tables")


if __name__ == "__main__":
    main()
