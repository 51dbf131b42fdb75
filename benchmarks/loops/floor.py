"""A lower bound: the operations of an epoch as B x width x width matrix products alone, with the
faster of torch's two libraries."""

from __future__ import annotations

import time

import torch

from ebmtrain.runtime.matmul import choose_library
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
    for rows in (1, 1024):  # MKL for few rows; oneDNN for many, if it is faster
        choose_library(rows)
        products(10)
        seconds[rows] = min(products(20) for _ in range(5))
    choose_library(min(seconds, key=lambda rows: seconds[rows]))
    return lambda: products(count)
