"""Device, number type, threads and determinism."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from annotated_types import Gt, Le

from ebmtrain.errors import ConfigError
from ebmtrain.runtime import native
from ebmtrain.runtime.processes import current_rank

LOG = logging.getLogger("ebmtrain")
CompileOption = bool | Literal["auto", "cuda_graph"]
_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Device:
    """An accelerator, threads and a number type.

    Args:
        accelerator: auto selects cuda if there is one, else cpu. (Not mps: for networks of this
            size its launches cost more than the CPU's arithmetic.)
        threads: of the CPU; null: torch's choice. The presets set 1: on shared cores threads wait
            for each other and lose a factor of ten. On idle cores a second one helps perceptrons
            (docs/performance.md).
        dtype: of parameters, data and chains.
        deterministic: refuse operations whose results may differ from run to run.
        compile: compile each update into one graph; auto: only in runs long enough to repay the
            compilation; cuda_graph: also record it as a CUDA graph on an NVIDIA GPU. On the CPU
            the compilation needs a C++ compiler.
        native: compute perceptrons in float32 on the CPU by C++ (see `native`), if the machine has
            a compiler; triton: also run chains on them by a Triton kernel on an NVIDIA GPU; false:
            use torch's operations only.
        patience: longest time that one process waits for another (torchrun), in s. Runs of earlier
            versions do not have it.
    """

    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Annotated[int, Gt(0), Le(4096)] | None = None
    dtype: Literal["float32", "float64"] = "float32"
    deterministic: bool = False
    compile: CompileOption = False
    native: bool | Literal["triton"] = True
    patience: Annotated[float, Gt(0), Le(1_000_000)] = 1800.0

    def select(self) -> tuple[torch.device, torch.dtype]:
        """The torch device and the floating-point type. Changes nothing in the process.

        Raises:
            ConfigError: this machine has no such accelerator.
        """
        problems = []
        if self.accelerator == "cuda" and not torch.cuda.is_available():
            problems.append(
                "device.accelerator is cuda, but torch finds no CUDA device: device=cpu"
            )
        if self.accelerator == "mps" and not torch.backends.mps.is_available():
            problems.append("device.accelerator is mps, but torch finds none: device=cpu")
        if self.accelerator == "mps" and self.dtype == "float64":
            problems.append(
                "device.dtype is float64, which mps does not have: device.dtype=float32"
            )
        if problems:
            raise ConfigError("; ".join(problems))
        name = self.accelerator
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        place = current_rank()
        if name == "cuda" and place is not None:
            name = f"cuda:{place.local}"
        return torch.device(name), _DTYPES[self.dtype]

    def set_up_process(self) -> None:
        """Sets threads, determinism, native code and the precision of float32 products of the whole
        process, for a program that owns its process. Raises as `select` does."""
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
            _set_tf32(False, False)


@contextmanager
def keep_process_settings() -> Iterator[None]:
    """At the end of this context, what `set_up_process` sets is as at its start."""
    threads, determinism = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    enabled, triton = native.enabled(), native.triton_enabled()
    tf32 = _tf32()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(determinism)
        native.set_enabled(enabled, triton=triton)
        _set_tf32(*tf32)


def _tf32() -> tuple[bool, bool]:
    """Whether convolutions and matrix products on an NVIDIA GPU may round to TF32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of torch call these names deprecated
        cudnn, cuda = torch.backends.cudnn, torch.backends.cuda
        return bool(cudnn.allow_tf32), bool(cuda.matmul.allow_tf32)


def _set_tf32(convolutions: bool, products: bool) -> None:
    """Allows or forbids TF32 in convolutions and products on an NVIDIA GPU, for the whole process.

    torch rounds the factors of convolutions to TF32 by default, and those of products where the
    environment asks for it. TF32 has 11 bits: an energy of 100 nats is then uncertain by 0.05, and
    a chain accepts by differences of energies.
    """
    with warnings.catch_warnings():
        # With the new names set, reading the old ones fails, and torch's compiler reads them.
        warnings.simplefilter("ignore")
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products
