"""Did you mean ...?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, or all of them."""
    names = sorted(name for name in known if not name.endswith("._target_"))
    near = nearest(name, names)
    if near:
        return near
    return f"; known: {', '.join(names)}" if 0 < len(names) <= 30 else ""


def nearest(name: str, names: Sequence[str]) -> str:
    """The same, but nothing where none is near.

    Of dotted names, one in the same section that ends like it is the nearest: sampler.target is
    sampler.adaptation.target.
    """
    section, _, end = name.rpartition(".")
    if section:
        head = section.split(".")[0]
        deeper = [n for n in names if n.split(".")[0] == head and n.rpartition(".")[2] == end]
        if deeper:
            return f"; did you mean {min(deeper, key=len)}?"
    # The last part weighs most: train.stps is train.steps and not train.
    close = difflib.get_close_matches(name, names, 1, 0.6)
    return f"; did you mean {close[0]}?" if close else ""
