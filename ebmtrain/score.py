"""Derivatives of an energy with respect to its input. No other module computes them.

Energies act on each point of a batch alone, so the gradient of sum_i E(x_i) holds the gradient of
every E(x_i). (A sum and not a mean: a mean would make a chain depend on the size of its batch.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from ebmtrain.types import (
    ChainKernels,
    Energy,
    LossDerivatives,
    QuadraticLoss,
    Tensors,
    TimeConditional,
)

CHUNK_POINTS = 8192
"""Default number of points per call of an energy in chunked evaluations."""


def energy_and_gradient(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """E(x), shape (batch,), and dE/dx, the shape of x; both detached. For chains.

    Uses the energy's closed form `energy_and_gradient` if it has one, else autograd.
    """
    # Optional methods are found by `getattr`, here and below: it takes 0.1 us per chain step, an
    # `isinstance` of a Protocol 22 us (Python 3.11). A cache by type would miss methods that are
    # set on the instance.
    closed_form = getattr(energy, "energy_and_gradient", None)
    if closed_form is not None:
        with torch.no_grad():
            return closed_form(x)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        e = energy(x)
        (gradient,) = torch.autograd.grad(e.sum(), x)
    return e.detach(), gradient


def flip_differences(energy: Energy, x: Tensor, sites: Tensor) -> Tensor:
    """E(x with site i flipped) - E(x) for each of the sites, (batch, sites), of binary states.

    Uses the energy's closed form `flip_differences` if it has one, else evaluates it at each of the
    flipped points. Differentiable in the parameters.

    Args:
        x: (batch, *event), 0 and 1.
        sites: int64 indices into a flattened point.
    """
    closed_form = getattr(energy, "flip_differences", None)
    if closed_form is not None:
        return closed_form(x, sites)
    flat = x.flatten(1)
    signs = torch.zeros(len(sites), flat.shape[1], dtype=x.dtype, device=x.device)
    signs = signs.scatter(1, sites[:, None], 1.0)
    flipped = flat[:, None] + signs * (1 - 2 * flat[:, None])  # (batch, sites, d)
    values = energy(torch.cat([x, flipped.reshape(-1, *x.shape[1:])]))
    return values[len(x) :].view(len(x), -1) - values[: len(x), None]


def conditional_nll(energy: Energy, x: Tensor, sites: Tensor, temperature: float = 1.0) -> Tensor:
    """-log p(x_i | all other x) of exp(-E / T), (batch, sites): of binary states by
    `flip_differences`, of others by the energy's own `conditional_nll`."""
    closed_form = getattr(energy, "conditional_nll", None)
    if closed_form is not None:
        return closed_form(x, sites, temperature)
    return softplus(-flip_differences(energy, x, sites) / temperature)


def gradients(energy: Energy, x: Tensor, size: int = CHUNK_POINTS) -> Tensor:
    """dE/dx, the shape of x, detached, computed in chunks of `size` points."""
    return in_chunks(lambda part: energy_and_gradient(energy, part)[1], x, size)


def in_chunks(function: Callable[[Tensor], Tensor], x: Tensor, size: int = CHUNK_POINTS) -> Tensor:
    """function(x), (n, ...) -> (n, ...), computed for `size` rows of x at a time.

    This bounds the memory that a wide network takes for many points.
    """
    return torch.cat([function(part) for part in x.split(size)])


@torch.no_grad()
def energies(energy: Energy, x: Tensor, size: int = CHUNK_POINTS) -> Tensor:
    """E(x), (n,), computed in chunks of `size` points and in eval mode: an evaluation must not
    change the statistics of a layer."""
    with freeze(energy):
        return in_chunks(energy, x, size)


def chain_kernels(energy: Energy, x: Tensor) -> ChainKernels | None:
    """The energy, if it implements chain steps itself for points like these; else None."""
    supports: Any = getattr(energy, "supports_chains", None)
    return cast(ChainKernels, energy) if supports is not None and supports(x) else None


def score(energy: Energy, x: Tensor) -> Tensor:
    """s(x) = -dE/dx, the shape of x, differentiable in the parameters. For losses.

    Differentiable in x as well if x already requires a gradient. Otherwise the energy's closed form
    `differentiable_gradient` is used if it has one and supports x; the result is then
    differentiable only once.
    """
    if not x.requires_grad:
        closed_form = getattr(energy, "differentiable_gradient", None)
        found = None if closed_form is None else closed_form(x.detach())
        if found is not None:
            return -found
        x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(energy(x).sum(), x, create_graph=True)
    return -gradient


def score_and_divergence(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """s(x) and its exact divergence tr(ds/dx), (batch,): one backward pass per dimension."""
    x = x.detach().requires_grad_()
    s = score(energy, x)
    flat = s.flatten(1)
    columns = (
        torch.autograd.grad(flat[:, i].sum(), x, create_graph=True)[0].flatten(1)[:, i]
        for i in range(flat.shape[1])
    )
    return s, torch.stack(list(columns)).sum(0)


def score_and_products(energy: Energy, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """s(x) and the quadratic forms v' (ds/dx) v for each direction v.

    Takes one backward pass per direction, or the energy's closed form
    `differentiable_gradient_and_curvatures` if it has one and supports x.

    Args:
        directions: (n, batch, *event).

    Returns:
        Shapes (batch, *event) and (n, batch).
    """
    closed_form = getattr(energy, "differentiable_gradient_and_curvatures", None)
    found = None if closed_form is None else closed_form(x.detach(), directions)
    if found is not None:
        gradient, curvatures = found
        return -gradient, -curvatures
    x = x.detach().requires_grad_()
    s = score(energy, x)
    products = (
        (torch.autograd.grad((s * v).sum(), x, create_graph=True)[0] * v).flatten(1).sum(1)
        for v in directions
    )
    return s, torch.stack(list(products))


def gradients_in_point_and_time(
    energy: TimeConditional, y: Tensor, log_t: Tensor
) -> tuple[Tensor, Tensor]:
    """dU/dy, the shape of y, and dU/dlog t, (batch,), differentiable in the parameters. For losses.

    Args:
        log_t: (batch,).
    """
    y, log_t = y.detach().requires_grad_(), log_t.detach().requires_grad_()
    by_point, by_time = torch.autograd.grad(energy(y, log_t).sum(), (y, log_t), create_graph=True)
    return by_point, by_time


def quadratic_loss(
    energy: Energy, x: Tensor, loss: QuadraticLoss, derivatives: LossDerivatives
) -> tuple[Tensor, Tensors]:
    """Value and metrics of a loss that is quadratic, elementwise, in E(x), or in dE/dx and
    curvatures. The value is differentiable once in the parameters.

    An energy with a method `quadratic_loss` computes each block of points forward and backward
    before the next block, since the derivatives at a point do not depend on the other points. Any
    other energy takes autograd, which uses only `loss`.

    Args:
        loss: function of E(x), (batch,); of dE/dx, (batch, *event), if `derivatives.gradient` is
            given; or of this and v' (d2E/dx2) v, (n, batch), if there are directions v.
        derivatives: derivatives of the same loss.
    """
    closed_form = getattr(energy, "quadratic_loss", None)
    found = None if closed_form is None else closed_form(x, loss, derivatives)
    if found is not None:
        return found
    if derivatives.directions is not None:
        s, products = score_and_products(energy, x, derivatives.directions)
        return loss(-s, -products)
    return loss(energy(x) if derivatives.gradient is None else -score(energy, x))


def attach_gradient(loss: Tensor, flat: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """The loss, shape (), differentiable once in the tensors.

    Args:
        flat: its gradient in the tensors, flattened and concatenated in their order.
    """
    return _AttachGradient.apply(loss, flat, *tensors)  # type: ignore[return]


def attached_gradient(loss: Tensor, tensors: Sequence[Tensor]) -> Tensor | None:
    """The `flat` of `attach_gradient`, if the loss is its result for the same tensors; else None.

    It replaces a call of `torch.autograd.grad`, 0.15 ms.
    """
    flat, known = getattr(loss.grad_fn, "attached_gradient", (None, ()))
    same = len(known) == len(tensors) and all(a is b for a, b in zip(known, tensors, strict=True))
    return flat if same else None


class _AttachGradient(torch.autograd.Function):
    """The identity of the loss, with a gradient in the tensors that is known."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, flat: Tensor, *tensors: Tensor) -> Tensor:
        ctx.attached_gradient = flat, tensors
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        flat, tensors = ctx.attached_gradient
        parts = (gradients[0] * flat).split([t.numel() for t in tensors])
        return None, None, *(part.view_as(t) for part, t in zip(parts, tensors, strict=True))


@contextmanager
def freeze(energy: Energy) -> Iterator[None]:
    """Within this context the energy is in eval mode and its parameters require no gradient.

    A chain then neither adds to `.grad`, nor builds a graph to the parameters, nor changes the
    statistics of a layer.
    """
    if not isinstance(energy, nn.Module):
        yield
        return
    # `eval` and `parameters` would take four times as long, at every update.
    tree = list(energy.modules())
    modules = [module for module in tree if module.training]  # the others stay in eval mode
    parameters = [p for module in tree for p in vars(module)["_parameters"].values()]
    parameters = [p for p in parameters if p is not None and p.requires_grad]
    for module in modules:
        object.__setattr__(module, "training", False)
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
        for module in modules:
            object.__setattr__(module, "training", True)


@dataclass
class EvaluationCount:
    """Number of points at which an energy was evaluated."""

    points: int = 0


_PASSES: dict[str, Callable[..., int]] = {  # method -> passes per point, from other arguments
    "energy_and_gradient": lambda: 1,
    "differentiable_gradient": lambda: 1,
    "differentiable_gradient_and_curvatures": lambda directions: 1,
    "joint": lambda: 1,
    "quadratic_loss": lambda loss, derivatives: 1,
    "langevin": lambda noise, sizes, scales: len(sizes),
    "leapfrog": lambda momentum, gradient, eps, temperature, steps: steps,
}


@contextmanager
def count_evaluations(energy: nn.Module) -> Iterator[EvaluationCount]:
    """Counts the energy evaluations within this context.

    A point counts once for each pass through the energy, with or without its gradient. Further
    derivatives of the same pass are not counted.
    """
    count = EvaluationCount()

    def count_forward(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        count.points += len(inputs[0])

    def counting(method: Callable[..., Any], passes: Callable[..., int]) -> Callable[..., Any]:
        def call(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            before = count.points
            result = method(x, *args, **kwargs)
            if result is not None:  # replaces what `count_forward` added during the call
                count.points = before + len(x) * passes(*args, **kwargs)
            return result

        return call

    hook = energy.register_forward_pre_hook(count_forward)
    names = [name for name in _PASSES if hasattr(energy, name)]
    energy.__dict__.update({name: counting(getattr(energy, name), _PASSES[name]) for name in names})
    try:
        yield count
    finally:
        hook.remove()
        for name in names:
            energy.__dict__.pop(name, None)


def stein_kernel(x: Tensor, s: Tensor, y: Tensor, t: Tensor, scale: float) -> Tensor:
    """Stein kernel u(x_i, y_j) of the inverse multiquadric kernel, (n, m).

    The formula is in methods/kernel_stein_discrepancy.py.

    Args:
        x, s: points and their scores, (n, d).
        y, t: points and their scores, (m, d).
        scale: length of the kernel, in units of x.
    """
    square = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
    inverse = 1 / (scale**2 + square)
    # (s_i - t_j)'(x_i - y_j) without the (n, m, d) tensor of differences. The origin is moved to
    # one of the points: far from it the terms would cancel.
    x, y = x - y[0].detach(), y - y[0].detach()
    along = (s * x).sum(1)[:, None] + (t * y).sum(1) - s @ y.T - x @ t.T
    k = inverse.sqrt()
    trace = k * inverse * (x.shape[1] - 3 * square * inverse)
    return s @ t.T * k + along * k * inverse + trace
