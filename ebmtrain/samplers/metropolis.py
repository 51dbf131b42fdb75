"""The Metropolis-Hastings accept-reject step (Metropolis et al., J. Chem. Phys. 21, 1953; Hastings,
Biometrika 57, 1970)."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Generator, Tensor

from ebmtrain.samplers.bounds import clip_gradient, unsqueeze_like
from ebmtrain.score import energy_and_gradient
from ebmtrain.types import Energy

_S = TypeVar("_S", bound=tuple)


class MetropolisState(NamedTuple):
    """A chain of a sampler with gradients and rejection."""

    x: Tensor
    energy: Tensor
    gradient: Tensor
    """dE(x), clipped if the sampler has a `gradient_clip`."""
    clipped: Tensor | None
    """1 where the gradient was clipped, else 0."""
    index: int
    """Steps so far."""

    @classmethod
    def start(cls, energy: Energy, x: Tensor, gradient_clip: float | None) -> MetropolisState:
        e, gradient = _sanitize_start(*energy_and_gradient(energy, x))
        return cls(x, e, *clip_gradient(gradient, gradient_clip), 0)


def accept_or_reject(
    log_ratio: Tensor, proposal: _S, state: _S, generator: Generator
) -> tuple[_S, Tensor]:
    """The proposal for the chains that accept it, with probability min(1, exp(log_ratio)), and the
    state for the others, whose values that are no tensors stay; and these probabilities.

    Args:
        proposal, state: named tuples of tensors, (batch, ...), and other values.
    """
    accept = accept_mask(log_ratio, generator)
    chosen = (
        choose(accept, new, old) if isinstance(old, Tensor) else old
        for new, old in zip(proposal, state, strict=True)
    )
    return type(state)(*chosen), acceptance_probability(log_ratio)


def accept_mask(log_ratio: Tensor, generator: Generator) -> Tensor:
    """True with probability min(1, exp(log_ratio)), per chain, shape (batch,)."""
    # NaN compares false: a diverged proposal is rejected.
    return torch.empty_like(log_ratio).uniform_(generator=generator).log() < log_ratio


def acceptance_probability(log_ratio: Tensor) -> Tensor:
    """min(1, exp(log_ratio)), shape (batch,); 0 where log_ratio is NaN."""
    return log_ratio.nan_to_num(-torch.inf, posinf=0.0).clamp(max=0.0).exp()


def _sanitize_start(energy: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Energy and gradient at a chain's first point, with a NaN energy replaced by +inf and gradient
    elements that are not finite by 0.

    Such a chain makes a random walk until it accepts the first finite energy. (From a NaN energy no
    proposal would ever be accepted.)
    """
    return energy.nan_to_num(torch.inf, torch.inf, -torch.inf), gradient.nan_to_num(0.0, 0.0, 0.0)


def choose(accept: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """`yes` for the chains that accept, `no` for the others, (batch, ...)."""
    return torch.where(unsqueeze_like(accept, yes), yes, no)


def _choose_optional(accept: Tensor, yes: Tensor | None, no: Tensor | None) -> Tensor | None:
    """`choose` for values that are optional: both are tensors, or both None."""
    return None if yes is None or no is None else choose(accept, yes, no)


_FORMER_NAMES = {
    "accepted": "accept_mask",
    "choose_if": "_choose_optional",
    "escapable": "_sanitize_start",
    "probability": "acceptance_probability",
}


def __getattr__(name: str) -> Any:
    """The functions by their names in earlier versions, which users' samplers import."""
    if name not in _FORMER_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    pairs = ", ".join(f"{old} is now {new}" for old, new in _FORMER_NAMES.items())
    warnings.warn(f"{__name__}: {pairs}", FutureWarning, stacklevel=2)
    return globals()[_FORMER_NAMES[name]]
