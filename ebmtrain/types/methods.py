"""Training objectives and their optional capabilities."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Generator, Tensor

from ebmtrain.types.data import Batch
from ebmtrain.types.energies import Energy
from ebmtrain.types.state import Tensors


class LossOutput(NamedTuple):
    loss: Tensor
    """Shape (); its gradient with respect to the parameters is what the optimizer follows."""
    metrics: Tensors
    """Detached tensors of shape (), by name: energy_data, energy_model, acceptance, ..."""
    state: Tensors
    """The method's state after this step."""


class Method(Protocol):
    """A training objective.

    A tensor of the state that requires a gradient (a leaf, such as the constant of
    noise-contrastive estimation) is trained together with the energy's parameters and must be
    returned as the same object; all others are plain values.

    `loss` returns new tensors. Of what it is given it changes in place only the generator and
    buffers of the energy, which are restored if a signal interrupts it.

    Optional capabilities are the protocols below and `DeclaresState`. A method that `NeedsLabels`
    is given an energy that is `Joint`, with as many classes as the data have; a `Ragged` one also
    gets sequences with NaN at missing steps. What a method that `EstimatesLogZ` returns is reported
    as `log_z_running`, and that of one that `LearnsLogZ` as `log_z_learnt`.
    """

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        """The state before the first step.

        Args:
            x: all training points, (n, *event), standardized, on the device of training.
        """
        ...

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput: ...


@runtime_checkable
class EstimatesLogZ(Protocol):
    """A method that estimates the normaliser during training."""

    def log_z(self, energy: Any, state: Any) -> Tensor:
        """log Z of exp(-E / T) over standardized points, shape (), of an energy close to the
        trained one, such as its average."""
        ...


@runtime_checkable
class LearnsLogZ(Protocol):
    """A method whose objective determines the normaliser along with the energy."""

    def log_z_learnt(self, energy: Any, state: Any) -> Tensor:
        """As `EstimatesLogZ.log_z`, at T = 1; deterministic."""
        ...


@runtime_checkable
class DrawsPoints(Protocol):
    """A method with a sampler of its own, from which chains start."""

    def draw(self, energy: Any, count: int, generator: Generator) -> Tensor:
        """`count` independent points of the model, about, (count, *event), standardized."""
        ...


@runtime_checkable
class HasEnergyRegularization(Protocol):
    @property
    def energy_regularization(self) -> float:
        """alpha >= 0 of the term alpha * mean E^2. Default: 0."""
        ...


@runtime_checkable
class NeedsLabels(Protocol):
    needs_labels: bool
    """Whether the loss reads `batch.y`. Default: False."""


def needs_labels(method: object) -> bool:
    """Whether a method, or its class, learns from labels."""
    return isinstance(method, NeedsLabels) and method.needs_labels
