"""Decides when the native perceptron replaces torch's operations.

The C++ operations compute the energy, its derivatives and chain steps, in float32 on the CPU. They
are faster than `MLP` layer by layer, since activations stay in the cache and there is no overhead
per layer. On NVIDIA GPUs a kernel makes chain steps only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebmtrain.models.perceptron.functional import needs_parameter_gradient
from ebmtrain.models.perceptron.layout import Layout
from ebmtrain.models.perceptron.ops import ACTIVATIONS, Network
from ebmtrain.models.perceptron.selfcheck import self_check, self_check_on
from ebmtrain.runtime import native
from ebmtrain.runtime.torch_private import in_function_transform

# Multiply-adds of one forward pass, below which autograd's operations are faster than the C++.
MIN_MULTIPLY_ADDS = 500_000
# A larger matrix does not stay in the cache from one block of points to the next.
_MAX_MATRIX_ELEMENTS = 2**18


def supports(x: Tensor, network: Network) -> bool:
    """Whether the C++ operations are enabled and can compute this network at these points."""
    return (
        x.device.type == "cpu"
        and _is_eligible(x, network)
        and max(w.numel() for w in network.weights) <= _MAX_MATRIX_ELEMENTS
        and self_check()
    )


def supports_chains(x: Tensor, network: Network) -> bool:
    """Whether `langevin` and `leapfrog` are enabled and can step chains at these points."""
    if x.device.type != "cuda":
        return supports(x, network)
    layout = Layout.of(x, network)
    return (
        native.triton_enabled()
        and _is_eligible(x, network)
        and layout.fits(shared_memory_bytes(x.device))
        and self_check_on(x.device, layout)
    )


def shared_memory_bytes(device: torch.device) -> int:
    """Bytes of shared memory of a thread block; 0 if torch does not report it, as on AMD GPUs."""
    properties = torch.cuda.get_device_properties(device)
    return getattr(properties, "shared_memory_per_block_optin", 0)


def _is_eligible(x: Tensor, network: Network) -> bool:
    """Whether native code is enabled, the tensors are float32, the activation is implemented and no
    derivative in x can be requested."""
    return (
        native.enabled()
        and network.activation in ACTIVATIONS
        and all(t.dtype == torch.float32 for t in (x, network.frequencies, network.weights[0]))
        and not (x.requires_grad and torch.is_grad_enabled())
        and not in_function_transform()
    )


def is_faster(x: Tensor, network: Network) -> bool:
    """Whether `functional.derivatives` and its backward pass are faster than torch's operations."""
    return (
        not needs_parameter_gradient(network)
        or len(x) * sum(w.numel() for w in network.weights) >= MIN_MULTIPLY_ADDS
    )
