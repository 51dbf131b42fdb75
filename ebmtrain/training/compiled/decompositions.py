"""Decompositions of torch operations that inductor or vmap does not support or computes wrongly."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten


def _has_shared_step_count(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the step counts of all parameters are equal. They then stay equal, since a graph
    updates the same parameters each time."""
    counts = {float(s["step"]) for s in optimizer.state.values() if s.get("step") is not None}
    return len(counts) <= 1


def adam(
    parameters: list[Tensor], gradients: list[Tensor], firsts: list[Tensor], seconds: list[Tensor],
    maxima: list[Tensor], steps: list[Tensor], *, lr: Tensor, beta1: float, beta2: float,
    weight_decay: float, eps: float, amsgrad: bool, maximize: bool, decoupled: bool = False,
    shared_step: bool = False, **scaling: Any,
) -> None:  # fmt: skip
    """Adam's formula, in place of torch's fused operation.

    Args:
        decoupled: weight decay of AdamW.
        shared_step: the step counts of all parameters are equal, and the first one is used.

    Raises:
        ValueError: amsgrad or maximize is set.
    """
    if amsgrad or maximize:
        raise ValueError("amsgrad and maximize are not implemented in compiled updates")
    counts = steps[:1] if shared_step else steps
    # Stacked, so that the compiler stores them: otherwise it computes them again for each vector.
    factors = torch.stack([
        _one_minus_power(beta, t.to(parameters[0])) for t in counts for beta in (beta1, beta2)
    ]).unbind()  # fmt: skip
    corrections = [*zip(factors[::2], factors[1::2], strict=True)] * (len(steps) // len(counts))
    rows = zip(parameters, gradients, firsts, seconds, corrections, strict=True)
    for p, g, m, v, (correction1, correction2) in rows:
        if weight_decay and decoupled:
            p.mul_(1 - lr * weight_decay)
        elif weight_decay:
            g = g + weight_decay * p
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).add_((1 - beta2) * (g * g))
        denominator = (v.sqrt() / correction2.sqrt()).add_(eps)
        p.sub_(lr / correction1 * m / denominator)


def _one_minus_power(beta: float, t: Tensor) -> Tensor:
    """1 - beta^t, without cancellation if it is small."""
    return -torch.expm1(t * (math.log(beta) if beta else -math.inf))


def sgd(
    parameters: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], *, lr: Tensor,
    weight_decay: float, momentum: float, dampening: float, nesterov: bool, maximize: bool,
    is_first_step: bool, **scaling: Any,
) -> None:  # fmt: skip
    """SGD's formula, in place of torch's fused operation.

    Raises:
        ValueError: maximize is set.
    """
    if maximize:
        raise ValueError("maximize is not implemented in compiled updates")
    for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
        if weight_decay:
            g = g + weight_decay * p
        if momentum:
            b = momenta[i]
            b.copy_(g if is_first_step else momentum * b + (1 - dampening) * g)
            g = g + momentum * b if nesterov else b
        p.sub_(lr * g)


def _norms(tensors: list[Tensor], order: float = 2, dtype: torch.dtype | None = None) -> Any:
    """Single norms, which a compiler can fuse; torch's norm of a list is a separate launch."""
    return [torch.linalg.vector_norm(t, order, dtype=dtype) for t in tensors]


def _add(x: Tensor, y: Tensor, *, alpha: float = 1) -> Any:
    """x + alpha * y as two operations: torch 2.13's inductor drops alpha for a matrix product y."""
    return NotImplemented if alpha == 1 else x + y * alpha


def _add_(x: Tensor, y: Tensor, *, alpha: float = 1) -> Any:
    return NotImplemented if alpha == 1 else x.add_(y * alpha)


def optimizer_decompositions(optimizer: torch.optim.Optimizer) -> dict[Any, Callable[..., Any]]:
    """Decompositions for the graph of an update, for an optimizer that has made a step."""
    adam_step = partial(adam, shared_step=_has_shared_step_count(optimizer))
    return {
        _aten._fused_adam_.tensor_lr: adam_step,
        _aten._fused_adamw_.tensor_lr: partial(adam_step, decoupled=True),
        _aten._fused_sgd_.tensor_lr: sgd,
        _aten._foreach_norm.Scalar: _norms,
        _aten.add.Tensor: _add,
        _aten.add_.Tensor: _add_,
    }


def _foreach_mul(tensors: list[Tensor], factor: Tensor) -> None:
    for x in tensors:
        x.mul_(factor)


def _foreach_add(tensors: list[Tensor], by: float) -> None:
    for x in tensors:
        x.add_(by)


def _lerp(start: Tensor, end: Tensor, weight: Tensor | float) -> Tensor:
    return start.add_(weight * (end - start))


def _div_out(x: Tensor, y: Tensor, *, out: Tensor) -> Tensor:
    return out.copy_(x / y)


VMAP_DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    _aten._foreach_mul_.Tensor: _foreach_mul,
    _aten._foreach_add_.Scalar: _foreach_add,
    _aten.lerp_.Scalar: _lerp,
    _aten.lerp_.Tensor: _lerp,
    _aten.div.out: _div_out,
}
