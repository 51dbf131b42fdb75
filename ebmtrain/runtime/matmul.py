"""How matrices of float32 are multiplied: by which library on the CPU, how exactly on a GPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

CPUINFO = Path("/proc/cpuinfo")
_FEWEST_ROWS = 256  # where the time that oneDNN takes to begin with is made good


def onednn_is_faster(cpuinfo: str) -> bool:
    """Whether oneDNN makes products of float32 faster than MKL, and as exactly.

    MKL leaves AVX-512 to Intel's processors; on AMD's it has half of the rate that oneDNN has.
    torch hands such products to oneDNN only where it is permitted to round their factors to
    bfloat16. oneDNN makes use of that with AMX alone: a processor that has it is left to MKL.

    Args:
        cpuinfo: what Linux says of the processor; empty elsewhere.
    """
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    said: dict[str, str] = {}
    for name, _, value in lines:
        said.setdefault(name.strip(), value.strip())
    flags = said.get("flags", "").split()
    amd = said.get("vendor_id") == "AuthenticAMD"
    return amd and "avx512f" in flags and not any(flag.startswith("amx") for flag in flags)


def choose_library(rows: int) -> None:
    """For the whole process. Products of float64 and convolutions stay as they are.

    Args:
        rows: of most of the matrices. It is a number of the configuration, so that a run and its
            resumption choose alike.
    """
    if not CPUINFO.exists() or not torch.backends.mkldnn.is_available():
        return
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    matmul.fp32_precision = "ieee"
    if rows >= _FEWEST_ROWS and onednn_is_faster(CPUINFO.read_text()):
        matmul.fp32_precision = "bf16"
        if not exact():
            matmul.fp32_precision = "ieee"


def keep_float32() -> None:
    """For the whole process: no product or convolution on an NVIDIA GPU rounds its factors to TF32.

    torch has cuDNN do so in convolutions unless it is told not to, and products where the
    environment asks for it. Of an energy of 100 nats the 11 bits of TF32 leave 0.05 uncertain, and
    a chain accepts by differences of energies.
    """
    with warnings.catch_warnings():
        # Some versions call these names old. Were the new ones set, reading these would fail, and
        # torch's compiler reads them.
        warnings.simplefilter("ignore")
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False


def exact(product: Callable[[Tensor, Tensor], Tensor] = torch.matmul) -> bool:
    """Whether factors keep the 24 bits of a float32: 1 + 2^-20 is 1 in bfloat16."""
    x = torch.full((64, 64), 1 + 2**-20)
    return bool((product(x, torch.eye(64)) == x).all())
