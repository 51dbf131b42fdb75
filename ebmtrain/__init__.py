"""ebmtrain trains energy-based models from YAML and says how good they are.

import ebmtrain
run = ebmtrain.train("method=pcd", "seed=0")    # or of the command: ebmtrain.load("outputs/...")
run.energy(x), run.score_samples(x), run.sample(1000), run.config
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebmtrain.cli.in_process import train
    from ebmtrain.runs.loading import load
    from ebmtrain.runs.trained_run import Run

    __version__: str

__all__ = ["Run", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and `ebmtrain --help` does not need it.
    if name == "Run":
        from ebmtrain.runs.trained_run import Run

        return Run
    if name == "load":
        from ebmtrain.runs.loading import load

        return load
    if name == "train":
        from ebmtrain.cli.in_process import train

        return train
    if name == "__version__":
        from importlib.metadata import version

        return version("ebmtrain")
    raise AttributeError(f"module 'ebmtrain' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
