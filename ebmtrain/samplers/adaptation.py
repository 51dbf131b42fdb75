"""Step-size adaptation to a target acceptance rate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebmtrain.types import (
    NonNegative,
    OpenUnit,
    Positive,
    Sampler,
    StateSchema,
    Tensors,
    replicated,
)


@dataclass(frozen=True, kw_only=True)
class StepSizeAdaptation:
    """log eta += rate * (acceptance - target) * (1 + t)^-decay after every run of chains.

    Robbins-Monro iteration as in Andrieu & Thoms (Statistics and Computing 18, 2008), t the number
    of runs. With 1/2 < decay <= 1 the adaptation vanishes, eta converges, and the chain converges
    to its target. With decay = 0 eta follows an energy that changes during training; a chain whose
    eta depends on its own past is then only approximately exact.

    Args:
        target: target acceptance probability, in (0, 1): 0.574 for MALA (Roberts & Rosenthal,
            1998), 0.65 to 0.8 for HMC.
        rate: > 0, gain of log eta.
        decay: >= 0, exponent of the gain.
    """

    state_schema: ClassVar[StateSchema] = replicated("step_size", "updates")

    target: OpenUnit
    rate: Positive = 0.1
    decay: NonNegative = 0.0

    def start(self, sampler: Sampler, like: Tensor) -> Tensors:
        step_size: float = sampler.step_size  # type: ignore[attr-defined]
        return {
            "step_size": torch.tensor(step_size, device=like.device),
            "updates": torch.zeros((), device=like.device),
        }

    def apply(self, sampler: Sampler, adaptation_state: Tensors) -> Sampler:
        return replace(sampler, step_size=adaptation_state["step_size"])  # type: ignore[type-var]

    def update(self, adaptation_state: Tensors, acceptance: Tensor | None, state: Any) -> Tensors:
        if acceptance is None:
            return adaptation_state
        # A NaN acceptance counts as a rejection; the step size must stay finite.
        error = acceptance.to(adaptation_state["step_size"]).nan_to_num(0.0) - self.target
        gain = self.rate * (1 + adaptation_state["updates"]) ** -self.decay
        return {
            "step_size": adaptation_state["step_size"] * (gain * error).exp(),
            "updates": adaptation_state["updates"] + 1,
        }
