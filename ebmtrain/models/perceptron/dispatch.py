"""The perceptron of mlp.py in C++, with its gradients and steps of chains: for float32 on the CPU.
On NVIDIA's GPUs steps of chains alone, in one kernel.

What `MLP` writes out layer by layer, in less time: what lies between the layers stays in the cache,
and nothing waits for the launch of one operation after the other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ebmtrain.models.perceptron.functional import learns
from ebmtrain.models.perceptron.layout import Layout
from ebmtrain.models.perceptron.ops import ACTIVATIONS, Network
from ebmtrain.models.perceptron.selfcheck import agrees, agrees_on
from ebmtrain.runtime import native

FEWEST = 500_000  # products of a weight and a number, below which autograd's own way is the shorter
_LARGEST = (
    2**18
)  # numbers of a matrix, beyond which it leaves the cache before the next points come


def knows(x: Tensor, network: Network) -> bool:
    """Whether C++ is to be used for these, and can be: no derivative in x will be asked for."""
    return (
        x.device.type == "cpu"
        and _plain(x, network)
        and max(w.numel() for w in network.weights) <= _LARGEST
        and agrees()
    )


def knows_steps(x: Tensor, network: Network) -> bool:
    """Whether `langevin` and `leapfrog` are to be used for these, and can be."""
    if x.device.type != "cuda":
        return knows(x, network)
    layout = Layout.of(x, network)
    return (
        _plain(x, network)
        and layout.fits(shared_memory_of(x.device))
        and agrees_on(x.device, layout)
    )


def shared_memory_of(device: torch.device) -> int:
    """Of a program on this GPU, in bytes; 0 where torch does not tell, as of those of AMD."""
    there = torch.cuda.get_device_properties(device)
    return getattr(there, "shared_memory_per_block_optin", 0)


def _plain(x: Tensor, network: Network) -> bool:
    """Whether it is wanted, and these are float32 that no derivative in x is asked of."""
    return (
        native.wanted()
        and network.activation in ACTIVATIONS
        and all(t.dtype == torch.float32 for t in (x, network.frequencies, network.weights[0]))
        and not (x.requires_grad and torch.is_grad_enabled())
        and torch.autograd.forward_ad._current_level < 0
        and torch._C._functorch.maybe_current_level() is None  # type: ignore[attr-defined]
    )


def pays(x: Tensor, network: Network) -> bool:
    """Whether `output` is the faster, also where its derivative is asked for."""
    return not learns(network) or len(x) * sum(w.numel() for w in network.weights) >= FEWEST
