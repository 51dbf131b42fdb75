"""A finished run, for notebooks and scripts: `ebmtrain.load(run_dir)`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ebmtrain.build import Parts, build
from ebmtrain.drawing import drawn
from ebmtrain.models.units import in_data_units
from ebmtrain.rundir import RunDir
from ebmtrain.train import start
from ebmtrain.validate import Trust


class Run:
    """What a run learnt.

    Attributes:
        path: its directory.
        config: its configuration, plain Python values.
        result: what stands in result.json.
        energy: E(x) of points in the data's own units, (batch, *event) -> (batch,): the evaluated
            weights (the average where one is kept). p(x) = exp(-E(x) / T) / Z.
        temperature: T.
        step: updates behind these weights.
        parts: the objects of the run, whose energy is of standardized points.
    """

    def __init__(self, path: Path, parts: Parts, checkpoint: dict[str, Any] | None):
        self.path = path
        self.parts = parts
        self.config = parts.config
        self.result = RunDir(path).read_json("result.json")
        self.temperature = parts.temperature
        self.method_state: dict[str, Tensor] = {}
        self.standard_energy: nn.Module = parts.energy
        self.step = 0
        if parts.job is not None and checkpoint is not None:
            state = start(parts.job, parts.energy, parts.generator("train"))
            state.load_state_dict(checkpoint)
            self.standard_energy = state.evaluated.eval().requires_grad_(False)
            self.method_state = state.method
            self.step = state.step
        self.energy = in_data_units(self.standard_energy, parts.standardization)

    def sample(
        self,
        count: int,
        *,
        start: str | None = None,
        burn_in: int | None = None,
        thin: int | None = None,
        chains: int | None = None,
        seed: int | None = None,
    ) -> Tensor:
        """Points from the model by its own sampler, (count, *event), in the data's own units.

        Args:
            count: how many, > 0.
            start: chains (the method's own, where it keeps some), noise or data.
            burn_in: steps of each chain before the first point is taken.
            thin: steps between two points of a chain.
            chains: how many run side by side.
            seed: the same seed gives the same points.

        What is not given is as in the configuration's section `samples`.
        """
        given = {"start": start, "burn_in": burn_in, "thin": thin, "chains": chains}
        given = {name: value for name, value in given.items() if value is not None}
        wanted = replace(self.parts.samples, count=count, **given)
        generator = self.parts.generator("sample", self.config["seed"] if seed is None else seed)
        points = drawn(self.parts, self.standard_energy, self.method_state, wanted, generator)
        return self.parts.standardization.to_data(points)


def load(
    run_dir: str | Path, *, checkpoint: str | Path | None = None, trust: Sequence[str] = ()
) -> Run:
    """The run in `run_dir`, with the weights of its newest whole checkpoint.

    Args:
        checkpoint: another one, say best.pt; of this run, or a path.
        trust: packages besides ebmtrain whose parts the run may import.

    Raises:
        ConfigError: no run there, or its configuration cannot be used.
        CheckpointError: no checkpoint that is whole.
        UnsafeError: the run asks for parts of a package that is not trusted.
    """
    run = RunDir.open(Path(run_dir))
    return load_with(run, run.config(), checkpoint, tuple(trust))


def load_with(
    run: RunDir, config: dict[str, Any], checkpoint: str | Path | None, trust: Trust
) -> Run:
    """The same with another configuration than the saved one, say of its evaluation."""
    parts = build(config, trust)
    if parts.job is None:
        return Run(run.path, parts, None)
    file = None
    if checkpoint is not None:
        places = (run.checkpoints / checkpoint, run.path / checkpoint)
        file = next((place for place in places if place.exists()), Path(checkpoint))
    state, passed = run.load_checkpoint(file)
    for note in passed:
        warnings.warn(note, stacklevel=3)
    return Run(run.path, parts, state)
