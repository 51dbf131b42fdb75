"""Step sizes learnt from the acceptance rate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebmtrain.types import (
    NonNegative,
    OpenUnit,
    Placement,
    Positive,
    Sampler,
    StateSchema,
    Tensors,
)


@dataclass(frozen=True, kw_only=True)
class StepSizeAdaptation:
    """log eta += rate * (acceptance - target) * (1 + t)^-decay after every run of chains.

    Robbins-Monro in the manner of Andrieu & Thoms (Statistics and Computing 18, 2008). With
    1/2 < decay <= 1 the adaptation vanishes and eta still gets to its limit, so that the chain's
    limit is its target; with decay = 0 it follows an energy that moves under training for as long
    as it moves, and a chain whose eta depends on its own past is exact only approximately.

    Args:
        target: acceptance probability to reach, in (0, 1): 0.574 for MALA (Roberts & Rosenthal,
            1998), 0.65 to 0.8 for HMC.
        rate: step of log eta.
        decay: exponent, >= 0.
    """

    state_schema: ClassVar[StateSchema] = {
        "step_size": Placement.REPLICATED,
        "updates": Placement.REPLICATED,
    }

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
        # A NaN energy must not make the step size NaN: it counts as a rejection.
        error = acceptance.to(adaptation_state["step_size"]).nan_to_num(0.0) - self.target
        gain = self.rate * (1 + adaptation_state["updates"]) ** -self.decay
        return {
            "step_size": adaptation_state["step_size"] * (gain * error).exp(),
            "updates": adaptation_state["updates"] + 1,
        }
