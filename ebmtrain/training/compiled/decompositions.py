"""Operations of torch's, as others that compilers and vmap know, and get right."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

_aten = torch.ops.aten


def has_shared_step_count(optimizer: torch.optim.Optimizer) -> bool:
    """Whether all parameters have had as many updates, as they go on to have: a graph makes the
    same ones each time."""
    counts = {float(s["step"]) for s in optimizer.state.values() if s.get("step") is not None}
    return len(counts) <= 1


def adam(
    parameters: list[Tensor], gradients: list[Tensor], firsts: list[Tensor], seconds: list[Tensor],
    maxima: list[Tensor], steps: list[Tensor], *, lr: Tensor, beta1: float, beta2: float,
    weight_decay: float, eps: float, amsgrad: bool, maximize: bool, decoupled: bool = False,
    together: bool = False, **scaling: Any,
) -> None:  # fmt: skip
    """Adam's formula; torch offers it as one operation.

    Args:
        decoupled: that of AdamW.
        together: all parameters have had as many updates, and one count stands for all.
    """
    if amsgrad or maximize:
        raise ValueError("amsgrad and maximize are not written down")
    counts = steps[:1] if together else steps
    # Stacked, so that compilers keep them: else they compute each anew for each few numbers.
    known = torch.stack([
        one_minus_power(beta, t.to(parameters[0])) for t in counts for beta in (beta1, beta2)
    ]).unbind()  # fmt: skip
    corrections = [*zip(known[::2], known[1::2], strict=True)] * (len(steps) // len(counts))
    each = zip(parameters, gradients, firsts, seconds, corrections, strict=True)
    for p, g, m, v, (of_first, of_second) in each:
        if weight_decay and decoupled:
            p.mul_(1 - lr * weight_decay)
        elif weight_decay:
            g = g + weight_decay * p
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).add_((1 - beta2) * (g * g))
        unbiased = (v.sqrt() / of_second.sqrt()).add_(eps)
        p.sub_(lr / of_first * m / unbiased)


def one_minus_power(beta: float, t: Tensor) -> Tensor:
    """1 - beta^t, without cancellation where it is small."""
    return -torch.expm1(t * (math.log(beta) if beta else -math.inf))


def sgd(
    parameters: list[Tensor], gradients: list[Tensor], momenta: list[Tensor], *, lr: Tensor,
    weight_decay: float, momentum: float, dampening: float, nesterov: bool, maximize: bool,
    is_first_step: bool, **scaling: Any,
) -> None:  # fmt: skip
    if maximize:
        raise ValueError("maximize is not written down")
    for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
        if weight_decay:
            g = g + weight_decay * p
        if momentum:
            b = momenta[i]
            b.copy_(g if is_first_step else momentum * b + (1 - dampening) * g)
            g = g + momentum * b if nesterov else b
        p.sub_(lr * g)


def _norms(tensors: list[Tensor], order: float = 2, dtype: torch.dtype | None = None) -> Any:
    """One by one, for torch's operation for all of them has a launch of its own."""
    return [torch.linalg.vector_norm(t, order, dtype=dtype) for t in tensors]


def _add(x: Tensor, y: Tensor, *, alpha: float = 1) -> Any:
    """x + alpha * y in two operations: inductor of torch 2.13 drops alpha where y is a product of
    matrices."""
    return NotImplemented if alpha == 1 else x + y * alpha


def _add_(x: Tensor, y: Tensor, *, alpha: float = 1) -> Any:
    return NotImplemented if alpha == 1 else x.add_(y * alpha)


def optimizer_decompositions(optimizer: torch.optim.Optimizer) -> dict[Any, Callable[..., Any]]:
    """For the graph of an update by this optimizer, which has made some."""
    of_adam = partial(adam, together=has_shared_step_count(optimizer))
    return {
        _aten._fused_adam_.tensor_lr: of_adam,
        _aten._fused_adamw_.tensor_lr: partial(of_adam, decoupled=True),
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
