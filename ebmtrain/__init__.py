"""ebmtrain trains energy-based models from YAML and says how good they are.

import ebmtrain
run = ebmtrain.load("outputs/...")
run.energy(x), run.sample(1000), run.config
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebmtrain.loading import Run, load

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "load"]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import, and `ebmtrain --help` does not need it.
    if name in ("Run", "load"):
        from ebmtrain import loading

        return getattr(loading, name)
    raise AttributeError(f"module 'ebmtrain' has no attribute {name!r}")
