"""What came of trying a law."""

from __future__ import annotations

from typing import NamedTuple

import torch


class Finding(NamedTuple):
    law: str
    holds: bool | None
    """None: the law does not apply; `measured` says why."""
    measured: str
    expected: str = ""


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def not_to_be_tried(law: str, reason: object) -> Finding:
    return Finding(law, None, " ".join(str(reason).split())[:100])
