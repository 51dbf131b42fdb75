"""What came of trying a law."""

from __future__ import annotations

from typing import NamedTuple

import torch


class PropertyResult(NamedTuple):
    law: str
    holds: bool | None
    """None: the law does not apply; `measured` says why."""
    measured: str
    expected: str = ""


def seeded_generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def not_applicable(law: str, reason: object) -> PropertyResult:
    return PropertyResult(law, None, " ".join(str(reason).split())[:100])
