"""One seed, many independent streams of random numbers."""

from __future__ import annotations

from zlib import crc32

import numpy as np
from torch import Generator


def stream(seed: int, purpose: str, index: int = 0) -> Generator:
    """A CPU generator that depends on its arguments only.

    SeedSequence hashes the three numbers, so neighbouring seeds give unrelated streams, and two
    purposes never share one.

    Args:
        seed: of the run, >= 0.
        purpose: what the numbers are for, such as "train".
        index: which one of several such streams, >= 0; the epoch, say.
    """
    entropy = np.random.SeedSequence([seed, crc32(purpose.encode()), index])
    return Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0]))
