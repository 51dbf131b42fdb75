"""torch's optimizers without torch's compiler.

Each of their methods asks the compiler to keep off, and imports it in order to ask: 1.5 to 2 s at
the first update of a run that compiles nothing (torch/_compile.py and torch/optim/optimizer.py of
torch 2.13). Here they are called beneath that. What they compute stays as it is.
"""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

import torch
from torch.optim import Optimizer

_Kind = TypeVar("_Kind", bound=type[Optimizer])


def without_dynamo(kind: _Kind) -> _Kind:
    """One of torch's optimizers that does the same. Where torch wraps the methods in another way
    than it does today, they stay wrapped: slower to start, otherwise as well."""
    for name in ("add_param_group", "state_dict", "load_state_dict", "zero_grad"):
        method = inspect.unwrap(getattr(Optimizer, name))
        setattr(method, "__dynamo_disable", method)
    # `step` is wrapped in the switch of gradients, of which only the differentiable kind of an
    # optimizer needs more than `no_grad`.
    step = torch.no_grad()(inspect.unwrap(kind.step))
    same: Any = type(kind.__name__, (kind,), {"step": step})
    return same
