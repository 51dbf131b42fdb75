"""Protocols and data types that the packages of ebmtrain share. Imports nothing of ebmtrain.

Conventions everywhere: p(x) = exp(-E(x) / T) / Z with T = 1 unless said otherwise, score
s(x) = -dE/dx. `batch` is the first axis; `*event` is the shape of one data point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol, TypedDict, TypeVar, runtime_checkable

import torch
from annotated_types import Ge, Gt, Le, Lt
from torch import Generator, Tensor

# Ranges. The validator reads them from the signatures of the parts, a user's own included.
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Probability = Annotated[float, Ge(0), Le(1)]
OpenUnit = Annotated[float, Gt(0), Lt(1)]
Decay = Annotated[float, Ge(0), Lt(1)]
Count = Annotated[int, Gt(0)]
WholeNumber = Annotated[int, Ge(0)]
Tensors = dict[str, Tensor]
"""State that a checkpoint can hold: flat, names to tensors, nothing else."""


class Placement(Enum):
    """Where a tensor of a method's state belongs when several processes train one model."""

    PER_RANK = "per rank"
    """Each process has its own: chains and what belongs to them. A checkpoint holds all of them."""
    REPLICATED = "replicated"
    """The same on every process: an adapted step size, a log Z, a fitted noise distribution."""


StateSchema = dict[str, Placement]
"""Every tensor of a state, by its name."""


class TrainingItems(TypedDict):
    """The items of a checkpoint that training saves and restores. A run adds its own to them: see
    `runs.storage.checkpoint_schema`, which validates all of them."""

    step: int
    energy: Tensors
    """Parameters and buffers."""
    average: Tensors | None
    """Likewise of the moving average; None: none is kept."""
    optimizer: dict[str, Any]
    """Its `state` and `param_groups`."""
    method: Tensors
    generator: Tensor
    """State of the generator of all draws."""
    evaluations: int
    """Of the energy, so far."""
    retries: list[dict[str, Any]]
    """step, back_to and lr of each."""
    window: list[tuple[list[str], Tensor]]
    """Names and values, (rows, names), of metrics since the last row."""


class Batch(NamedTuple):
    """Points of one training step, with their classes."""

    x: Tensor
    """(batch, *event), in the units that the model is trained in."""
    y: Tensor | None = None
    """(batch,), int64: the class of each point; None if the data have no labels."""


class Labels(NamedTuple):
    """The classes of a dataset's points, counted from 0."""

    train: Tensor
    """(n,), int64."""
    holdout: Tensor
    """(m,), int64."""
    names: tuple[str, ...]
    """Names of the classes."""


@runtime_checkable
class Energy(Protocol):
    """E: (batch, *event) -> (batch,), with p(x) proportional to exp(-E(x)).

    Optional: `energy_and_gradient(x) -> (E(x), dE/dx)` in closed form, which `ebmtrain.score` uses
    in chains, where no parameter gradient is needed; `differentiable_gradient(x)`, dE/dx
    differentiable once in the parameters, or None where autograd has to compute it, for losses;
    `differentiable_gradient_and_curvatures(x, directions)`, the same with v' (d2E/dx2) v for each v
    of directions (n, batch, *event), shape (n, batch); the protocols below.

    If the constructor has an argument `training_points: Tensor | None`, it gets the standardized
    training points, (n, *event), for the initialisation, or None if weights are loaded afterwards.

    If it has an argument `ragged: bool` and that is true, the energy takes sequences of different
    lengths, (batch, length, channels) with NaN at missing steps: see `masks`. It must not depend
    on the number of missing steps, and its gradient there must be 0.
    """

    def __call__(self, x: Tensor) -> Tensor: ...


class ChainKernels(Protocol):
    """What an energy may offer that makes many steps of a chain faster in one go than one by one.
    Without autograd."""

    def at_once(self, x: Tensor) -> bool:
        """Whether the others are to be used for these points."""
        ...

    def langevin(
        self, x: Tensor, noise: Tensor, sizes: Sequence[float], scales: Sequence[float]
    ) -> Tensor:
        """Where x <- x - sizes[t] * dE(x) + scales[t] * noise[t], t = 0, 1, ..., ends: points of
        the shape of x, (batch, *event); noise is (steps, batch, *event)."""
        ...

    def leapfrog(
        self, x: Tensor, momentum: Tensor, gradient: Tensor, eps: Tensor, temperature: float,
        steps: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Points, momenta, dE and E after leapfrog steps of sizes eps, (batch,), of the dynamics of
        E / temperature + ||p||^2 / 2, from points, momenta and dE of shape (batch, *event)."""
        ...


class Affine(NamedTuple):
    """offset + slope * y, elementwise."""

    offset: Tensor
    slope: Tensor | None = None
    """None: 0."""


class LossDerivatives(NamedTuple):
    """Derivatives of a quadratic loss with respect to what it depends on; None: not on this."""

    energy: Affine | None = None
    """By E(x), (batch,)."""
    gradient: Affine | None = None
    """By dE/dx, (batch, *event)."""
    curvature: Affine | None = None
    """By v' (d2E/dx2) v, (n, batch); with `gradient` and `directions`."""
    directions: Tensor | None = None
    """The v, (n, batch, *event)."""


QuadraticLoss = Callable[..., tuple[Tensor, Tensors]]
"""The loss, shape (), and metrics, from E(x), or from dE/dx, or from dE/dx and the curvatures."""


@runtime_checkable
class HasQuadraticLoss(Protocol):
    """An energy that computes a quadratic loss and its gradient in the parameters in one pass."""

    def quadratic_loss(
        self, x: Tensor, loss: QuadraticLoss, derivatives: LossDerivatives
    ) -> tuple[Tensor, Tensors] | None:
        """See `score.quadratic_loss`; None: autograd computes it."""
        ...


@runtime_checkable
class Normalised(Protocol):
    """An energy with a known normaliser, in closed form or by enumeration of a discrete space.
    Evaluations are then exact in any number of dimensions."""

    def log_z(self, temperature: float) -> Tensor | None:
        """log of the integral, or of the sum, of exp(-E / T) over all points of the space, shape
        (); None if it is not known at this T > 0. Computed in the dtype of the parameters.
        """
        ...


@runtime_checkable
class Joint(Protocol):
    """An energy of points and classes, E(x) = -log sum_y exp(-E(x, y)), with
    p(y | x) = softmax_y(-E(x, y)) = exp(E(x) - E(x, y))."""

    classes: int | None
    """Number of classes; None: the model has no outputs for classes, and `joint` is not called."""

    def joint(self, x: Tensor) -> Tensor:
        """E(x, y) of every class y: (batch, *event) -> (batch, classes)."""
        ...


@runtime_checkable
class Landscape(Protocol):
    """An analytic energy in its own units: it is sampled and drawn, not trained."""

    window: tuple[Sequence[float], Sequence[float]]
    """Lower and upper corner, (d,) each, of the box that holds its wells."""
    event_shape: tuple[int, ...]


@runtime_checkable
class ImageEnergy(Protocol):
    """An energy of images."""

    image: tuple[int, ...]
    """Shape of one image, (height, width) or (channels, height, width)."""


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
class DeclaresState(Protocol):
    """A method or an adaptation with tensors of its own. Its schema has the keys that `init` of a
    method, or `start` of an adaptation, returns; without a declaration it returns none.

    This is the contract for training in several processes; `tests/methods/test_state_schema.py`
    holds every built-in method to it.
    """

    @property
    def state_schema(self) -> StateSchema: ...


def schema_of(part: object) -> StateSchema:
    """The tensors of a part's state; {}: it declares none."""
    return part.state_schema if isinstance(part, DeclaresState) else {}


class MethodChains(NamedTuple):
    """The persistent chains in a method's state: its fields are the keys of the state."""

    chains: Tensor
    """(n, *event), standardized."""
    log_weights: Tensor | None
    """(n,): the chains represent the model with weights softmax(log_weights). None: equal ones."""
    ages: Tensor | None
    """(n,), int64: steps since the last restart of each chain."""
    restarts: Tensor | None
    """(), int64: of all chains so far."""


def method_chains(state: Mapping[str, Tensor]) -> MethodChains | None:
    """The persistent chains of a method; None: it keeps none."""
    if "chains" not in state:
        return None
    return MethodChains(
        state["chains"], state.get("log_weights"), state.get("ages"), state.get("restarts")
    )


# Optional capabilities of a sampler. One without the attribute has the default that is named.


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

    Optional capabilities are the protocols below and `DeclaresState`. A method that `NeedsLabels`
    is given an energy that is `Joint`, with as many classes as the data have; a `Ragged` one also
    gets sequences with NaN at missing steps. What a method that `EstimatesLogZ` returns is reported
    as `log_z_running`.
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


# Optional capabilities of a method.


@runtime_checkable
class EstimatesLogZ(Protocol):
    """A method that estimates the normaliser during training."""

    def log_z(self, energy: Any, state: Any) -> Tensor:
        """log Z of exp(-E / T) over standardized points, shape (), of an energy close to the
        trained one, such as its average."""
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


# Optional capabilities of any part, declared on its class.


@runtime_checkable
class Ragged(Protocol):
    ragged: bool
    """Whether the part takes sequences of different lengths: see `masks`. Default: False."""


def takes_ragged(part: object) -> bool:
    """Whether a method, a sampler or an evaluation, or its class, takes sequences of different
    lengths."""
    return isinstance(part, Ragged) and part.ragged


@runtime_checkable
class HasConflicts(Protocol):
    conflicts: Callable[[dict[str, Any]], list[str]]
    """One line for each problem with the rest of a configuration, with its remedy; static."""


class Modes(NamedTuple):
    """The known modes of a density."""

    centres: Tensor
    """(modes, *event), in the data's units."""
    weights: Tensor
    """(modes,), sum 1."""


class Density(Protocol):
    """A distribution with a sampler and a known density, in the data's units."""

    def sample(self, count: int, generator: Generator) -> Tensor:
        """`count` independent points, (count, *event), float64."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (batch, *event) -> (batch,); computed in x's dtype."""
        ...

    @property
    def entropy(self) -> float:
        """-E[log p(x)] in nats: the least NLL that any model can have."""
        ...

    @property
    def modes(self) -> Modes | None: ...


class Standardization(NamedTuple):
    """x = shift + scale * (mixing u). Models and chains live in u, people in x.

    The data's units are kept in float64 on the CPU, and both ways end there: a float32 of a large
    offset has no room for the rest.
    """

    shift: Tensor
    """(*event), float64."""
    scale: Tensor
    """(*event), float64, positive; elementwise."""
    mixing: Tensor | None = None
    """(d, d) over the d elements of a point, float64, regular: what makes the coordinates of u
    uncorrelated. None: u stays as it is."""

    def to_standard(self, x: Tensor) -> Tensor:
        u = (x.to(self.shift) - self.shift) / self.scale
        if self.mixing is None:
            return u
        return torch.linalg.solve(self.mixing, u.reshape(-1, len(self.mixing)).T).T.reshape(u.shape)

    def to_data(self, u: Tensor) -> Tensor:
        u = u.to(self.shift)
        if self.mixing is not None:
            u = (u.reshape(-1, len(self.mixing)) @ self.mixing.T).view(u.shape)
        return u * self.scale + self.shift

    @property
    def log_volume(self) -> float:
        """log |dx/du|: add it to a log Z or an entropy in u to have it in x."""
        stretched = self.scale.double().log().sum()
        if self.mixing is not None:
            stretched = stretched + torch.linalg.slogdet(self.mixing.double()).logabsdet
        return float(stretched)


class Dataset(Protocol):
    """Points to train on and points held out, both in the data's own units, on the CPU.

    May also be one of `HasSupport`, `HasNames`, `HasLabels`, `HasAnomalies` and `HasPixels`, each
    of which is optional. Labels are then in the batches too.
    """

    train: Tensor
    """(n, *event), float64; of sequences of different lengths NaN where a step is not there."""
    holdout: Tensor
    """(m, *event), float64; never trained on."""
    standardization: Standardization
    truth: Density | None
    """The distribution that the points were drawn from, where it is known."""

    def to(self, *, dtype: torch.dtype, device: torch.device) -> Dataset:
        """Itself, whose batches are of this type and on this device."""
        ...

    def batch(self, step: int, size: int, seed: int) -> Batch:
        """The batch of one training step, standardized: a pure function of its arguments."""
        ...


class BaseDistribution(Protocol):
    """A distribution over flattened standardized points, (n, d), from which annealing starts."""

    @property
    def factor(self) -> Tensor:
        """(d, d), lower triangular: u = mean + factor z."""
        ...

    def whiten(self, u: Tensor) -> Tensor:
        """(n, d) -> (n, d): coordinates z in which the distribution is N(0, I)."""
        ...

    def unwhiten(self, z: Tensor) -> Tensor:
        """The inverse of `whiten`."""
        ...

    @property
    def log_volume(self) -> float:
        """log |du/dz|."""
        ...


class Support(Protocol):
    """The space that events live in. What depends on it is asked for here: a data set carries its
    support, the data spec of a run does, and no other code asks what kind of data these are."""

    def standardization(self, points: Tensor, scaling: Any) -> Standardization:
        """Units in which models learn, from the training points, (n, *event), in the data's units,
        and the option `dataset.standardize`."""
        ...

    def chain_starts(self, like: Tensor, region: Region, generator: Generator) -> Tensor:
        """Points that chains start from where nothing is known of the modes, of the shape, type and
        device of `like`, (chains, *event), standardized.

        Args:
            region: holds the data.
        """
        ...

    def base(self, points: Tensor) -> BaseDistribution:
        """The base of annealed importance sampling, fitted to points (n, d), float64."""
        ...

    def integration_box(self, region: Region, margin: float) -> Region:
        """The first box over which quadrature sums exp(-E / T).

        Args:
            region: holds the data.
            margin: width to add on each side, as a fraction of the region's.
        """
        ...


# Optional capabilities of a data set. Each attribute may be None, as where it is missing.


@runtime_checkable
class HasSupport(Protocol):
    @property
    def support(self) -> Support:
        """Default: R^d."""
        ...


@runtime_checkable
class HasNames(Protocol):
    names: tuple[str, ...] | None
    """Of the columns of a table."""


@runtime_checkable
class HasLabels(Protocol):
    labels: Labels | None


@runtime_checkable
class HasAnomalies(Protocol):
    anomalies: Tensor | None
    """(k, *event), in the data's units: points of a class that is neither in `train` nor in
    `holdout`."""


@runtime_checkable
class HasPixels(Protocol):
    pixels: tuple[float, float] | None
    """Points are images; the least and the largest value of a pixel."""


def names_of(dataset: object) -> tuple[str, ...] | None:
    """Names of a table's columns; None: they have none."""
    return dataset.names if isinstance(dataset, HasNames) else None


def labels_of(dataset: object) -> Labels | None:
    """Classes of a data set's points; None: they have none."""
    return dataset.labels if isinstance(dataset, HasLabels) else None


class Logger(Protocol):
    """Where the metrics and the figures of a run go: files, the terminal, an experiment tracker.

    Metrics are rows of numbers at a step. Steps ascend, except that a run which returns to its last
    checkpoint logs the steps after it once more.
    """

    def log(self, step: int, row: Mapping[str, Any]) -> None:
        """One row of metrics, by their names: numbers, or lists of numbers."""
        ...

    def figure(self, name: str, path: Path) -> None:
        """A figure that was written to a file.

        Args:
            name: of the file, without its suffix.
            path: of the PNG or GIF file.
        """
        ...

    def close(self) -> None:
        """The run has ended: finished, interrupted or failed."""
        ...


def check_mixture(centres: Sequence[Sequence[float]], weights: Sequence[float] | None) -> None:
    """
    Raises:
        ValueError: centres of unequal length, or weights that do not fit them.
    """
    widths = {len(centre) for centre in centres}
    if len(widths) != 1 or 0 in widths:
        raise ValueError(
            f"centres must be one or more lists of equal length, got {centres}: "
            "write one [x, y] for each mode"
        )
    if weights is None:
        return
    if len(weights) != len(centres):
        raise ValueError(
            f"got {len(weights)} weights for {len(centres)} centres: give one for each, or null"
        )
    if not (all(w >= 0 for w in weights) and 0 < sum(weights) < math.inf):
        raise ValueError(f"weights must be >= 0 with a positive sum, got {list(weights)}")


class Region(NamedTuple):
    """An axis-aligned box that holds the data (or an analytic energy's wells)."""

    low: Tensor
    """(d,)"""
    high: Tensor
    """(d,)"""

    def grown(self, factor: float) -> Region:
        """`factor` times as wide about the same centre."""
        centre, half = (self.low + self.high) / 2, (self.high - self.low) / 2
        return Region(centre - factor * half, centre + factor * half)
