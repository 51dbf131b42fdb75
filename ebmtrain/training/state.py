"""What training works on: what stays the same (`TrainSpec`) and what changes (`TrainState`)."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from ebmtrain.errors import CheckpointError, one_line
from ebmtrain.training.ema import EmaPairs, ema_pairs
from ebmtrain.training.optimizers import OptimizerSpec
from ebmtrain.training.shards import WHOLE, Shards, merge
from ebmtrain.types import Dataset, Method, StateSchema, Tensors, TrainingItems, schema_of


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """What stays the same through training."""

    method: Method
    """Of one shard."""
    dataset: Dataset
    optimizer: OptimizerSpec
    n_steps: int
    batch_size: int
    ema: float | None
    log_every: int
    seed: int
    retries: int = 0
    """How often a run that diverges returns to its last checkpoint, at half the learning rate."""
    shards: Shards = WHOLE


class Snapshot(NamedTuple):
    """See `TrainState.snapshot`."""

    generators: list[Tensor]
    buffers: dict[nn.Module, dict[str, Tensor | None]]


@dataclass(kw_only=True)
class TrainState:
    """Everything that changes: what a checkpoint holds, and nothing that it could derive."""

    step: int
    energy: nn.Module
    average: nn.Module | None
    """The exponential moving average of `energy`, if one is kept."""
    optimizer: torch.optim.Optimizer
    method: Tensors
    """Of the shards that this process holds: see `shards.merge`."""
    generators: list[Generator]
    """One for each of them."""
    window: dict[tuple[str, ...], list[Tensor]]
    """One vector of metrics per update since the last row, by their names, which a resumed run
    may change: a row is their mean, whether or not the run was stopped between."""
    pending: dict[str, float] | None
    """The row of metrics of this step, {} if none is due, while its callbacks have not run; None:
    they have."""
    evaluations: int
    """Of the energy, in all updates so far: see `score.count_evaluations`."""
    retries: list[dict[str, Any]]
    """One of {"step", "back_to", "lr"} per time that training diverged and went back."""
    diverged: Tensor
    """Shape (), bool, sticky: set on the device, read at log time and before a save only."""
    shards: Shards = WHOLE
    schema: StateSchema = field(default_factory=dict)
    """Of `method`."""
    checked_at: int | None = None
    """The step at which `check_divergence` last found it sound."""
    _gathered: tuple[int, Tensors, Tensor] | None = None
    """The step of the last `gather`, and what it found."""

    @property
    def generator(self) -> Generator:
        """That of a run without shards."""
        (generator,) = self.generators
        return generator

    @cached_property
    def module_tensors(self) -> list[Tensor]:
        """Parameters and buffers of the energy and of its average: always the very same tensors,
        for what is loaded is copied into them. A model that puts another in the place of one, and
        does not change it in place, cannot be compiled."""
        modules = [self.energy] if self.average is None else [self.energy, self.average]
        return [t for m in modules for t in (*m.parameters(), *m.buffers())]

    @cached_property
    def moments(self) -> list[Tensor]:
        """What the optimizer keeps: the very same tensors from its first update on, until others
        are loaded. To be asked for after that update."""
        of_each = (kept.values() for kept in self.optimizer.state.values())
        return [t for kept in of_each for t in kept if isinstance(t, Tensor)]

    @cached_property
    def trainable(self) -> list[Tensor]:
        """The tensors that the optimizer moves: those that require a gradient at the first use."""
        return [p for g in self.optimizer.param_groups for p in g["params"] if p.requires_grad]

    @cached_property
    def ema_pairs(self) -> EmaPairs | None:
        """What the average is updated by; None: no average is kept."""
        return None if self.average is None else ema_pairs(self.average, self.energy)

    @property
    def eval_model(self) -> nn.Module:
        """The weights that are shown to the user: the average where one is kept."""
        return self.energy if self.average is None else self.average

    def snapshot(self) -> Snapshot:
        """What a loss changes in place: the generators, and buffers of the energy."""
        return Snapshot([g.get_state() for g in self.generators], self.copy_buffers())

    def copy_buffers(self) -> dict[nn.Module, dict[str, Tensor | None]]:
        """Copies of the energy's buffers, such as the vectors of a spectral norm."""
        buffers = {module: vars(module)["_buffers"] for module in self._modules_with_buffers}
        return {
            module: {name: None if b is None else b.clone() for name, b in found.items()}
            for module, found in buffers.items()
        }

    def restore(self, before: Snapshot) -> None:
        """Undoes a loss that was interrupted."""
        for generator, value in zip(self.generators, before.generators, strict=True):
            generator.set_state(value)
        self.restore_buffers(before.buffers)

    def restore_buffers(self, before: Mapping[nn.Module, Mapping[str, Tensor | None]]) -> None:
        """Sets the energy's buffers to those of `copy_buffers`."""
        for module, buffers in before.items():
            for name, value in buffers.items():
                if value is not None:
                    vars(module)["_buffers"][name].copy_(value)

    @cached_property
    def _modules_with_buffers(self) -> list[nn.Module]:
        return [m for m in self.energy.modules() if any(True for _ in m.buffers(recurse=False))]

    def gather(self) -> tuple[Tensors, Tensor]:
        """The method's state and the item `generator` of a checkpoint, of all shards. All processes
        take part; process 0 has the result."""
        own = torch.stack([g.get_state() for g in self.generators])
        team = self.shards.team
        if team is None:
            return self.method, own if self.shards.total > 1 else own[0]
        if self._gathered is None or self._gathered[0] != self.step:
            names = list(self.method)
            found = team.gather_all([own, *self.method.values()])
            states = [dict(zip(names, values, strict=True)) for _, *values in found]
            whole = merge(states, self.schema)
            method = {name: value.to(self.method[name]) for name, value in whole.items()}
            self._gathered = self.step, method, torch.cat([generators for generators, *_ in found])
        return self._gathered[1:]

    def state_dict(self) -> TrainingItems:
        method, generator = self.gather()
        return {
            "step": self.step,
            "energy": self.energy.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "method": {name: value.detach() for name, value in method.items()},
            "generator": generator,
            "evaluations": self.evaluations,
            "retries": [dict(retry) for retry in self.retries],
            "window": [(list(names), torch.stack(rows)) for names, rows in self.window.items()],
            "pending": self.pending,
        }

    def load_state_dict(self, saved: TrainingItems) -> None:
        """
        Raises:
            CheckpointError: it is of a run with another model, method or optimizer.
        """
        try:
            _same_kinds(self.energy.state_dict(), saved["energy"])
            self.energy.load_state_dict(saved["energy"])
            average = saved["average"]
            if (self.average is None) != (average is None):
                raise ValueError("one of the two keeps an average of the weights, the other none")
            if self.average is not None and average is not None:
                _same_kinds(self.average.state_dict(), average)
                self.average.load_state_dict(average)
            self.load_optimizer(saved["optimizer"])
            generators = self.shards.rows_of(saved["generator"])
            method = self.shards.own(saved["method"], self.schema)
            shapes, saved_shapes = _shapes_of(self.method), _shapes_of(method)
            if shapes != saved_shapes:
                raise ValueError(f"the method keeps {shapes}, not {saved_shapes}")
            _same_kinds(self.method, method)
            for name, value in method.items():
                if self.method[name].requires_grad:  # the optimizer holds this very tensor
                    self.method[name].data.copy_(value)
                else:
                    self.method[name] = value.to(self.method[name])
            for generator, value in zip(self.generators, generators, strict=True):
                if value.shape != generator.get_state().shape:
                    raise ValueError("its random numbers are those of another kind of device")
                generator.set_state(value)
            like = next(self.energy.parameters())
            self.window = {tuple(names): list(rows.to(like)) for names, rows in saved["window"]}
            self.step, self.evaluations = saved["step"], saved["evaluations"]
            self.retries = [dict(retry) for retry in saved["retries"]]
            self.pending = saved["pending"]
            self.diverged.zero_()  # it was looked at before the state was saved
            self.checked_at = self._gathered = None
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError,
                IndexError) as error:  # fmt: skip
            reason = one_line(error)
            raise CheckpointError(
                f"the checkpoint does not fit the configuration ({reason}): resume with the "
                "model, method, optimizer, train.ema and device that it was made with"
            ) from error

    def load_optimizer(self, saved: dict[str, Any]) -> None:
        """Its moments, and the learning rate of the last update, which a row that is still to be
        logged contains; everything else of it stays as it is configured now."""
        self.__dict__.pop("moments", None)
        groups = self.optimizer.state_dict()["param_groups"]
        for group, mine in zip(saved["param_groups"], groups, strict=True):
            if set(group) != set(mine):
                raise ValueError("it is of another optimizer")
            if group["params"] != mine["params"]:  # torch assigns the moments by them
                raise ValueError("its optimizer has the parameters in another order")
            mine["lr"] = float(group["lr"])
        parameters = dict(enumerate(p for g in self.optimizer.param_groups for p in g["params"]))
        for index, moments in saved["state"].items():
            # torch does not look, and its fused kernels would write beyond a moment that is short.
            fit = {"step": ()}  # all others are of the parameter's shape
            shape = tuple(parameters[index].shape)
            if any(v is not None and tuple(v.shape) != fit.get(name, shape)
                   for name, v in moments.items()):  # fmt: skip
                raise ValueError(f"the optimizer's moments of parameter {index} do not fit it")
        self.optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})


def _shapes_of(state: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _same_kinds(wanted: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Floats for floats of any length, since a run may go on in another type; else the very type.

    Raises:
        ValueError: they are not; to be called where names and shapes are compared as well.
    """
    for name in wanted.keys() & saved.keys():
        one, two = wanted[name].dtype, saved[name].dtype
        if one != two and not (one.is_floating_point and two.is_floating_point):
            raise ValueError(f"{name} is of {two}, not of {one}")


def initial_state(spec: TrainSpec, energy: nn.Module, generator: Generator) -> TrainState:
    """The state before the first update.

    Args:
        energy: on its device, in its type; trained in place.
        generator: of all draws that training makes, on the same device; with several shards each
            has its own.
    """
    like = spec.dataset.batch(0, 1, spec.seed).x
    x = spec.dataset.standardization.to_standard(spec.dataset.train).to(like)
    shards, schema = spec.shards, schema_of(spec.method)
    generators = shards.generators(spec.seed, generator)
    method = merge([spec.method.init(x, g) for g in generators], schema)
    method = shards.own(method, schema)
    return TrainState(
        step=0,
        energy=energy,
        average=None if spec.ema is None else copy.deepcopy(energy).requires_grad_(False),
        optimizer=spec.optimizer.build(_trainable_tensors(energy, method)),
        method=method,
        generators=[generators[i] for i in shards.held],
        window={},
        pending={},
        evaluations=0,
        retries=[],
        diverged=torch.zeros((), dtype=torch.bool, device=x.device),
        shards=shards,
        schema=schema,
    )


def _trainable_tensors(energy: nn.Module, method: Tensors) -> list[Tensor]:
    """What the optimizer moves: the parameters, and what the method learns beside them."""
    return [*energy.parameters(), *(value for value in method.values() if value.requires_grad)]
