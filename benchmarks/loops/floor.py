"""A lower bound: the operations of an epoch as B x width x width matrix products alone, with the
faster of torch's two libraries."""

from __future__ import annotations

import time

import torch

from loops.setting import Epoch, Setting


def floor(s: Setting) -> Epoch:
    a, w = torch.randn(s.batch, s.width), torch.randn(s.width, s.width)
    out = torch.empty(s.batch, s.width)
    count = max(1, round(s.steps * s.flops / (2 * s.batch * s.width**2)))

    def products(n: int) -> float:
        began = time.perf_counter()
        for _ in range(n):
            torch.mm(a, w, out=out)
        return time.perf_counter() - began

    seconds = {}
    for precision in ("ieee", "bf16"):  # MKL; oneDNN, if it keeps float32 on this processor
        _set_precision(precision)
        if _is_exact():
            products(10)
            seconds[precision] = min(products(20) for _ in range(5))
    _set_precision(min(seconds, key=lambda precision: seconds[precision]))
    return lambda: products(count)


def _set_precision(precision: str) -> None:
    """torch hands float32 products to oneDNN only if it may round their factors to bfloat16."""
    if torch.backends.mkldnn.is_available():
        torch.backends.mkldnn.matmul.fp32_precision = precision  # type: ignore[attr-defined]


def _is_exact() -> bool:
    """Whether products keep the 24 bits of float32 factors: 1 + 2^-20 is 1 in bfloat16."""
    x = torch.full((64, 64), 1 + 2**-20)
    return torch.equal(x @ torch.eye(64), x)
