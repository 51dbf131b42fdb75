"""torch's optimizers without torch's compiler and without most of their cost per step.

Importing: each of their methods is wrapped to disable dynamo, and the wrapper imports dynamo: 1.5
to 2 s at the first update of a run that compiles nothing (torch/_compile.py and
torch/optim/optimizer.py of torch 2.13). `without_dynamo` calls the methods inside of that wrapper.

Stepping: `torch.optim.Adam.step` spends three quarters of its time on options that are not used
here. `fused_adam` calls the kernel that it ends in.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from ebmtrain.runtime.torch_private import foreach_add, fused_adam_kernel, fused_adamw_kernel

_Kind = TypeVar("_Kind", bound=type[Optimizer])


def without_dynamo(kind: _Kind) -> _Kind:
    """The optimizer class with unwrapped methods; it computes the same.

    If a version of torch wraps the methods in another way they stay wrapped: slower to start,
    otherwise the same.
    """
    for name in ("add_param_group", "state_dict", "load_state_dict", "zero_grad"):
        method = inspect.unwrap(getattr(Optimizer, name))
        setattr(method, "__dynamo_disable", method)
    # `step` is wrapped in the switch of gradients, of which only the differentiable kind of an
    # optimizer needs more than `no_grad`.
    step = torch.no_grad()(inspect.unwrap(kind.step))
    same: Any = type(kind.__name__, (kind,), {"step": step})
    return same


def fused_adam(parameters: Iterable[Tensor], *, decoupled: bool, **options: Any) -> Optimizer:
    """torch's fused Adam, or AdamW if `decoupled`, with the same state and the same updates.

    Hooks of an optimizer's step run in its first step alone.

    Args:
        options: of torch.optim.Adam; neither amsgrad nor maximize.
    """
    kind: Any = without_dynamo(torch.optim.AdamW if decoupled else torch.optim.Adam)
    kernel = fused_adamw_kernel if decoupled else fused_adam_kernel
    first_step = kind.step

    @torch.no_grad()
    def step(self: Any) -> None:
        groups = [[p for p in g["params"] if p.grad is not None] for g in self.param_groups]
        if not all(self.state.get(p) for moved in groups for p in moved):
            first_step(self)  # of one of them it is the first gradient: torch makes its moments
            return
        for group, moved in zip(self.param_groups, groups, strict=True):
            states = [self.state[p] for p in moved]
            counts = [s["step"] for s in states]
            foreach_add(counts, 1)
            kernel(
                moved, [p.grad for p in moved], [s["exp_avg"] for s in states],
                [s["exp_avg_sq"] for s in states], [], counts, lr=group["lr"],
                beta1=group["betas"][0], beta2=group["betas"][1], eps=group["eps"],
                weight_decay=group["weight_decay"], amsgrad=False, maximize=False,
            )  # fmt: skip

    vars(step)["hooked"] = True  # else torch wraps it in a profiler's mark
    return type(kind.__name__, (kind,), {"step": step})(parameters, fused=True, **options)
