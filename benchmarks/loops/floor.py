"""As many operations as an epoch has, in nothing but B x width x width products."""

from __future__ import annotations

import torch

from loops.setting import Epoch, Setting


def floor(s: Setting) -> Epoch:
    a, w = torch.randn(s.batch, s.width), torch.randn(s.width, s.width)
    out = torch.empty(s.batch, s.width)
    count = max(1, round(s.steps * s.flops / (2 * s.batch * s.width**2)))

    def epoch() -> None:
        for _ in range(count):
            torch.mm(a, w, out=out)

    return epoch
