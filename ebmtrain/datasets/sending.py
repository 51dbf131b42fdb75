"""From the host to the device on which a model is trained."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(x: Tensor, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """x on a device, in a type (None: in its own), without waiting for the device.

    A copy from ordinary memory may wait until a GPU has done all that it was given before. One from
    pinned memory lines up behind it; torch keeps that memory until the copy is done.
    """
    x = x.to(dtype or x.dtype)
    if torch.device(device).type != "cuda":
        return x.to(device)
    return x.pin_memory().to(device, non_blocking=True)
