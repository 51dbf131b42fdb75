"""Independent random streams derived from one seed."""

from __future__ import annotations

from zlib import crc32

import numpy as np
from torch import Generator


def stream(seed: int, purpose: str, index: int = 0) -> Generator:
    """A CPU generator that depends only on the arguments.

    SeedSequence hashes the three numbers, so neighbouring seeds give unrelated streams, and two
    purposes never share a stream.

    Args:
        seed: of the run, >= 0.
        purpose: what the numbers are used for, such as "train".
        index: number of the stream among those of one purpose, >= 0, such as the epoch.
    """
    entropy = np.random.SeedSequence([seed, crc32(purpose.encode()), index])
    return Generator().manual_seed(int(entropy.generate_state(1, np.uint64)[0]))
