"""The operation `torch.ops.ebmtrain.pair_sweep`, a Gibbs sweep of sites that interact in pairs."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebmtrain.runtime import native

_SOURCE = Path(__file__).with_name("sweep.cpp")
_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int64


_LIBRARY = torch.library.Library("ebmtrain", "FRAGMENT")
_LIBRARY.define("pair_sweep(Tensor x, Tensor uniform, Tensor couplings, Tensor fields) -> Tensor")
_SUFFIX = {torch.float32: "float", torch.float64: "double"}


def pair_sweep(x: Tensor, uniform: Tensor, couplings: Tensor, fields: Tensor) -> Tensor:
    """x after one sweep: x_i is drawn with weights exp(fields[i, a] + sum_j couplings[i, j, x_j,
    a]), for each site i in turn, as the state whose share of their cumulative sum holds uniform_i.

    Args:
        x: (chains, sites), codes of states, float32 or float64, as all the others.
        uniform: (chains, sites), in [0, 1).
        couplings: (sites, sites, states, states), 0 where the sites are equal.
        fields: (sites, states).
    """
    return torch.ops.ebmtrain.pair_sweep(x, uniform, couplings, fields)


def _native_sweep(x: Tensor, uniform: Tensor, couplings: Tensor, fields: Tensor) -> Tensor:
    library = native.library(_SOURCE) if native.enabled() else None
    if library is None or x.dtype not in _SUFFIX:
        return _sweep(x, uniform, couplings, fields)
    function = getattr(library, f"sweep_{_SUFFIX[x.dtype]}")
    function.argtypes = [_INTEGER] * 4 + [_POINTER] * 4
    result = x.clone(memory_format=torch.contiguous_format)
    others = [t.contiguous() for t in (uniform, couplings, fields)]
    pointers = (t.data_ptr() for t in (result, *others))
    too_many_states = function(torch.get_num_threads(), *x.shape, fields.shape[1], *pointers)
    return _sweep(x, uniform, couplings, fields) if too_many_states else result


def _sweep(x: Tensor, uniform: Tensor, couplings: Tensor, fields: Tensor) -> Tensor:
    """The same by torch's operations."""
    states = torch.arange(fields.shape[1], device=x.device).to(x)
    one_hot = (x[..., None] == states).to(x)
    for i in range(x.shape[1]):
        logits = fields[i] + one_hot.flatten(1) @ couplings[i].flatten(0, 1)
        share = torch.softmax(logits, 1).cumsum(1)[:, :-1]
        state = (uniform[:, i : i + 1] >= share).sum(1, keepdim=True)
        one_hot[:, i] = (states == state).to(x)
    return one_hot @ states


def _batched(info: Any, dims: Any, *arguments: Tensor) -> tuple[Tensor, int]:
    members = [
        t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
        for t, dim in zip(arguments, dims, strict=True)
    ]
    return torch.stack([pair_sweep(*each) for each in zip(*members, strict=True)]), 0


_LIBRARY.impl("pair_sweep", _native_sweep, "CPU")
_LIBRARY.impl("pair_sweep", _sweep, "CUDA")
torch.library.register_fake("ebmtrain::pair_sweep", lambda x, *_: torch.empty_like(x), lib=_LIBRARY)
torch.library.register_vmap("ebmtrain::pair_sweep", _batched, lib=_LIBRARY)
