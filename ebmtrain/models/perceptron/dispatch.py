"""The perceptron of mlp.py in C++, with its gradients and steps of chains: for float32 on the CPU.
On NVIDIA's GPUs steps of chains alone, in one kernel.

What `MLP` writes out layer by layer, in less time: what lies between the layers stays in the cache,
and nothing waits for the launch of one operation after the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebmtrain.models.perceptron.functional import needs_parameter_gradient
from ebmtrain.models.perceptron.layout import Layout
from ebmtrain.models.perceptron.ops import ACTIVATIONS, Network
from ebmtrain.models.perceptron.selfcheck import self_check, self_check_on
from ebmtrain.runtime import native

# In one pass; below it autograd's operations are faster than the C++.
MIN_MULTIPLY_ADDS = 500_000
# Of one layer; a larger matrix does not stay in the cache from one block of points to the next.
_MAX_MATRIX_ELEMENTS = 2**18


def supports(x: Tensor, network: Network) -> bool:
    """Whether C++ is to be used for these, and can be: no derivative in x will be asked for."""
    return (
        x.device.type == "cpu"
        and _is_eligible(x, network)
        and max(w.numel() for w in network.weights) <= _MAX_MATRIX_ELEMENTS
        and self_check()
    )


def supports_chains(x: Tensor, network: Network) -> bool:
    """Whether `langevin` and `leapfrog` are to be used for these, and can be."""
    if x.device.type != "cuda":
        return supports(x, network)
    layout = Layout.of(x, network)
    return (
        _is_eligible(x, network)
        and layout.fits(shared_memory_bytes(x.device))
        and self_check_on(x.device, layout)
    )


def shared_memory_bytes(device: torch.device) -> int:
    """Of a program on this GPU, in bytes; 0 where torch does not tell, as of those of AMD."""
    there = torch.cuda.get_device_properties(device)
    return getattr(there, "shared_memory_per_block_optin", 0)


def _is_eligible(x: Tensor, network: Network) -> bool:
    """Whether it is wanted, and these are float32 that no derivative in x is asked of."""
    return (
        native.enabled()
        and network.activation in ACTIVATIONS
        and all(t.dtype == torch.float32 for t in (x, network.frequencies, network.weights[0]))
        and not (x.requires_grad and torch.is_grad_enabled())
        and torch.autograd.forward_ad._current_level < 0
        and torch._C._functorch.maybe_current_level() is None  # type: ignore[attr-defined]
    )


def is_faster(x: Tensor, network: Network) -> bool:
    """Whether `output` is the faster, also where its derivative is asked for."""
    return (
        not needs_parameter_gradient(network)
        or len(x) * sum(w.numel() for w in network.weights) >= MIN_MULTIPLY_ADDS
    )
