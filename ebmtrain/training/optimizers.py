"""Optimizers with their learning-rate schedule and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from ebmtrain.training.torch_optimizers import fused_adam, without_dynamo
from ebmtrain.types import Decay, NonNegative, Positive, WholeNumber


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """lr(t) = lr * warm-up * decay, a pure function of the step, so nothing of it is saved.

    Warm-up: min(1, (t + 1) / warmup_steps). Decay over the whole length n: cosine is
    floor + (1 - floor) * (1 + cos(pi * t / n)) / 2, linear is 1 - (1 - floor) * t / n.

    Args:
        shape: constant, cosine or linear.
        warmup_steps: updates until the full rate.
        floor: what is left of the rate at the end, as a fraction of it.
    """

    shape: Literal["constant", "cosine", "linear"] = "cosine"
    warmup_steps: WholeNumber = 100
    floor: Decay = 0.0

    def factor(self, step: int, n_steps: int) -> float:
        """lr(step) / lr, for step = 0 ... n_steps - 1."""
        done = step / max(n_steps, 1)
        match self.shape:
            case "constant":
                left = 1.0
            case "cosine":
                left = (1 + math.cos(math.pi * done)) / 2
            case "linear":
                left = 1 - done
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        return (self.floor + (1 - self.floor) * left) * warm


class OptimizerSpec(Protocol):
    """What a preset of the group `optimizer` describes."""

    lr: float
    schedule: Schedule
    clip_norm: float | None

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer: ...


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam (Kingma & Ba, ICLR 2015); weight decay enters the gradient.

    Args:
        lr: learning rate before the schedule.
        beta1, beta2: decays of the first and second moment.
        eps: added to the root of the second moment.
        weight_decay: factor of the parameters in their gradient.
        clip_norm: largest norm of the whole gradient; null: no clipping.
        schedule: of the learning rate.
    """

    lr: Positive
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    clip_norm: Positive | None = None
    schedule: Schedule = Schedule()

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return fused_adam(
            parameters,
            decoupled=False,
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
        )


@dataclass(frozen=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019).

    Args: as `Adam`; weight_decay shrinks the parameters by lr * weight_decay per update.
    """

    lr: Positive
    beta1: Decay = 0.9
    beta2: Decay = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01
    clip_norm: Positive | None = None
    schedule: Schedule = Schedule()

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return fused_adam(
            parameters,
            decoupled=True,
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
        )


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """Stochastic gradient descent.

    Args:
        lr: learning rate before the schedule.
        momentum: in [0, 1).
        nesterov: look-ahead form of the momentum; needs momentum > 0.
        weight_decay: factor of the parameters in their gradient.
        clip_norm: largest norm of the whole gradient; null: no clipping.
        schedule: of the learning rate.
    """

    lr: Positive
    momentum: Decay = 0.9
    nesterov: bool = False
    weight_decay: NonNegative = 0.0
    clip_norm: Positive | None = None
    schedule: Schedule = Schedule()

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum > 0, got 0: raise it, or nesterov=false")

    def build(self, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
        return without_dynamo(torch.optim.SGD)(
            parameters,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=True,
        )
