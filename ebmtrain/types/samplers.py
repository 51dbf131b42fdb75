"""Markov kernels and their optional capabilities."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import Generator, Tensor

from ebmtrain.types.energies import Energy
from ebmtrain.types.state import Tensors


class StepInfo(NamedTuple):
    """What one step of a chain reports, per chain, shape (batch,)."""

    acceptance: Tensor | None = None
    """Probability with which the proposal was accepted, in [0, 1]; None: there is no rejection."""
    clipped: Tensor | None = None
    """1 if the gradient was clipped or the point clamped in this step, else 0; None: the sampler
    does neither."""
    swapped: Tensor | None = None
    """Probability with which an exchange with a chain of another temperature was accepted; None:
    no exchange was proposed."""


S = TypeVar("S")


class Sampler(Protocol[S]):
    """A Markov kernel. It holds no energy and no chain: both are arguments, and the chain is
    returned.

    Optional capabilities are the protocols below; with `Ragged` its steps keep NaN where it is and
    sum over present elements only.
    """

    def init(self, energy: Energy, x: Tensor) -> S: ...

    def step(self, energy: Energy, state: S, generator: Generator) -> tuple[S, StepInfo]: ...


class Adaptation(Protocol):
    """What a sampler adapts from one run of chains to the next: its step size, from the acceptance
    rate; the hot chains of tempering.

    A sampler that adapts has a field `adaptation`; `run_chain` applies it. The adaptation's state
    is kept outside of the sampler, in the state of whoever runs the chains.
    """

    def start(self, sampler: Sampler, like: Tensor) -> Tensors:
        """The state before the first run. `like`: points, for their shape and type."""
        ...

    def apply(self, sampler: Sampler, adaptation_state: Tensors) -> Sampler:
        """The sampler with the adapted values."""
        ...

    def update(self, adaptation_state: Tensors, acceptance: Tensor | None, state: Any) -> Tensors:
        """The state after one more run.

        Args:
            acceptance: mean over the run, shape (); None for a sampler without rejection.
            state: of the sampler, at the end of the run.
        """
        ...


@runtime_checkable
class HasTemperature(Protocol):
    @property
    def temperature(self) -> float:
        """T >= 0 of the density exp(-E / T) that the sampler draws from. Default: 1."""
        ...


@runtime_checkable
class HasStepSize(Protocol):
    @property
    def step_size(self) -> Any:
        """A float > 0, or a tensor of shape () once it is adapted."""
        ...


@runtime_checkable
class HasStepSizeEnd(HasStepSize, Protocol):
    @property
    def step_size_end(self) -> float | None:
        """The step size at the end of its annealing. Default: None, it is constant."""
        ...


@runtime_checkable
class HasClamp(Protocol):
    @property
    def clamp(self) -> float | None:
        """Bound on |x_i|. Default: None, there is none."""
        ...


@runtime_checkable
class HasAdaptation(Protocol):
    @property
    def adaptation(self) -> Adaptation | None:
        """What adjusts the sampler between two runs of chains. Default: None."""
        ...


@runtime_checkable
class HasTarget(Protocol):
    """An adaptation that aims at an acceptance probability."""

    @property
    def target(self) -> float: ...


class Jumps(Protocol):
    """Moves of chains by differences of other chains."""

    @property
    def every(self) -> int:
        """Local steps between two rounds of jumps."""
        ...

    def move(
        self, sampler: Any, energy: Energy, state: Any, temperature: float, g: Generator
    ) -> tuple[Any, Tensor]:
        """The sampler's state after one jump of every chain, and the mean acceptance, shape ()."""
        ...


@runtime_checkable
class HasJumps(Protocol):
    @property
    def jumps(self) -> Jumps | None:
        """Default: None."""
        ...


@runtime_checkable
class Cooling(Protocol):
    """A sampler whose temperature falls along a chain."""

    @property
    def temperature_start(self) -> float: ...


@runtime_checkable
class WrapsSampler(Protocol):
    """A sampler made of another one."""

    @property
    def sampler(self) -> Sampler: ...


@runtime_checkable
class ManySteps(Protocol[S]):
    """A sampler whose steps are faster in one call than one by one."""

    def steps(
        self, energy: Energy, state: S, n_steps: int, generator: Generator
    ) -> tuple[S, list[StepInfo]]: ...
