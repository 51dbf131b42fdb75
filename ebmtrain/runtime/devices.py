"""Where and how the arithmetic is done."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le

from ebmtrain.errors import ConfigError
from ebmtrain.runtime import native

LOG = logging.getLogger("ebmtrain")
CompileOption = bool | Literal["auto", "cuda_graph"]
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Device:
    """An accelerator, threads and a number type.

    Args:
        accelerator: auto takes cuda where there is one, else cpu. (Not mps by itself: for networks
            of this size its launches cost more than the CPU's arithmetic.)
        threads: of the CPU; null leaves torch's own choice. The presets say 1: where the cores are
            shared, threads wait for each other and lose a factor of ten. Where they are idle, a
            second one helps perceptrons (docs/performance.md).
        dtype: of parameters, data and chains.
        deterministic: refuse operations that may give other bits from run to run.
        compile: compile each update into one graph; auto: only in runs long enough to repay the
            compilation; cuda_graph: also record it as a CUDA graph on an NVIDIA GPU. On the CPU
            the compilation needs a C++ compiler.
        native: compute perceptrons in float32 on the CPU by C++ (see `native`), if the machine has
            a compiler; triton: also run chains on them by a Triton kernel on an NVIDIA GPU; false:
            use torch's operations only.
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Annotated[int, Gt(0), Le(4096)] | None = None
    dtype: Literal["float32", "float64"] = "float32"
    deterministic: bool = False
    compile: CompileOption = False
    native: bool | Literal["triton"] = True

    def problems(self) -> list[str]:
        """Why this machine cannot do it; empty if it can."""
        found = []
        if self.accelerator == "cuda" and not torch.cuda.is_available():
            found.append("device.accelerator is cuda, but torch finds no CUDA device: device=cpu")
        if self.accelerator == "mps":
            if not torch.backends.mps.is_available():
                found.append("device.accelerator is mps, but torch finds none: device=cpu")
            if self.dtype == "float64":
                found.append(
                    "device.dtype is float64, which mps does not have: device.dtype=float32"
                )
        return found

    def select(self) -> tuple[torch.device, torch.dtype]:
        """The torch device and the floating-point type. Changes nothing in the process.

        Raises:
            ConfigError: this machine has no such accelerator.
        """
        if problems := self.problems():
            raise ConfigError("; ".join(problems))
        name = self.accelerator
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(name), _DTYPES[self.dtype]

    def set_up_process(self) -> None:
        """Sets threads, determinism, native code and the precision of float32 products, all of
        which hold for the whole process: for a program that owns its process.

        Raises:
            ConfigError: this machine has no such accelerator.
        """
        device, _ = self.select()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
            cores = os.cpu_count() or self.threads
            if self.threads > cores:
                LOG.warning(
                    "warning: device.threads is %d, and there are %d cores: threads that share one "
                    "wait for each other", self.threads, cores,
                )  # fmt: skip
        native.set_enabled(self.native is not False, triton=self.native == "triton")
        # Not by use_deterministic_algorithms, which imports torch's compiler: 1.5 s.
        torch.set_deterministic_debug_mode("error" if self.deterministic else "default")
        if device.type == "cuda":
            _disable_tf32()


def _disable_tf32() -> None:
    """Keeps products and convolutions on an NVIDIA GPU in float32, for the whole process.

    torch rounds the factors of convolutions to TF32 by default, and those of products where the
    environment asks for it. TF32 has 11 bits: an energy of 100 nats is then uncertain by 0.05, and
    a chain accepts by differences of energies.
    """
    with warnings.catch_warnings():
        # Some versions of torch call these names deprecated. With the new names set, reading the
        # old ones fails, and torch's compiler reads them.
        warnings.simplefilter("ignore")
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
