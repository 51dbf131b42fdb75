"""Trains four methods on three data sets and makes docs/images/gallery.webp.

    python benchmarks/gallery.py

Some ten minutes on one core. The runs stay in outputs/gallery, with their report.html.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SWEEP = Path("outputs/gallery")
WORDS = (
    "dataset=moons,8gaussians,rings", "method=pcd,ed,nce,dsm",
    "train.steps=2000", "plots.every=2000", "plots.gif=false", "diagnostics.every=0",
    "quality.every=0", "evaluation.every=1000",
)  # fmt: skip


def main() -> None:
    command = [sys.executable, "-m", "ebmtrain", "-m", *WORDS, f"hydra.sweep.dir={SWEEP}"]
    subprocess.run(command, check=True)
    with Image.open(SWEEP / "landscapes.png") as picture:
        picture.convert("RGB").save(ROOT / "docs/images/gallery.webp", quality=80, method=6)


if __name__ == "__main__":
    main()
