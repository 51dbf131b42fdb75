"""Lower and upper bounds of log Z of binary states by annealed importance sampling."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor
from torch.nn.functional import softplus

from ebmtrain.datasets.support import Categorical
from ebmtrain.evaluation.ais import LogWeights, evaluate_sides
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, float64_copy
from ebmtrain.models.ising import Ising
from ebmtrain.models.potts import Potts, log_frequencies
from ebmtrain.models.rbm import Rbm
from ebmtrain.samplers.block_gibbs import BlockGibbs, draw_states
from ebmtrain.samplers.chain import run_chain
from ebmtrain.samplers.gibbs import Gibbs
from ebmtrain.score import flip_differences
from ebmtrain.types import Count, Energy, OpenUnit, Sampler, Space, WholeNumber


@dataclass(frozen=True, kw_only=True)
class StateAnnealedImportanceSampling:
    """Bidirectional annealed importance sampling over states: forward chains from
    independent states with the frequencies of the training data, reverse chains from samples of
    the run's own sampler. Metrics, bounds and warnings are those of `AnnealedImportanceSampling`.

    The path of an RBM at temperature 1 scales its weights and hidden biases by beta and mixes its
    visible biases with the base's; its kernel is block Gibbs, which is exact for each beta. The
    path of any other energy is (1 - beta) U_base + beta E / T, and its kernel a Gibbs sweep, as of
    an RBM at another temperature.

    Args:
        every: updates between two evaluations, see `Evaluator`.
        chains: number of chains of each side.
        temperatures: steps of beta, of equal size; the variance of log w is proportional to the
            inverse of their number.
        steps: sweeps at each beta.
        bootstrap: number of bootstrap resamplings of the chains.
        confidence: of each one-sided bound.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"binary", "categorical"})

    every: WholeNumber
    chains: Count = 500
    temperatures: Count = 1000
    steps: Count = 1
    bootstrap: Count = 1000
    confidence: OpenUnit = 0.99

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        return evaluate_sides(self.log_weights(inputs), inputs, self)

    def log_weights(self, inputs: EvaluationInput) -> LogWeights:
        """Log weights of forward chains from the base and of reverse chains from the model."""
        energy, temperature = float64_copy(inputs.energy), inputs.temperature
        like = next(iter([*energy.parameters(), *energy.buffers()]), torch.zeros(()))
        ends = inputs.draw(self.chains).to(like.device, torch.float64)
        points = ends if inputs.dataset is None else inputs.dataset.train
        symbols = inputs.support.alphabet if isinstance(inputs.support, Categorical) else None
        points = points.flatten(1)
        if symbols is not None:
            logits = log_frequencies(points, len(symbols)).to(like.device)
        else:
            logits = _frequency_logits(points).to(like.device)
        path, kernel, base_log_z = _path(energy, temperature, logits)
        betas = torch.linspace(0, 1, self.temperatures + 1).tolist()

        def generator(purpose: str) -> Generator:
            seed = inputs.generator(purpose).initial_seed()
            return torch.Generator(like.device).manual_seed(seed)

        g = generator("forward")
        if symbols is not None:
            starts = torch.multinomial(logits.exp(), self.chains, True, generator=g).T.to(ends)
        else:
            starts = draw_states(torch.sigmoid(logits).expand(self.chains, -1), g)
        starts = starts.view(ends.shape)
        forward = _anneal_states(path, starts, betas, kernel, self.steps, g)
        g = generator("reverse")
        reverse = _anneal_states(path, ends, betas[::-1], kernel, self.steps, g)

        def reduced_energy(u: Tensor) -> Tensor:
            return energy(u.to(like.device)).cpu() / temperature

        return LogWeights(forward.cpu() + base_log_z, reverse.cpu() - base_log_z, reduced_energy)


def _frequency_logits(points: Tensor) -> Tensor:
    """log(p / (1 - p)) of the frequencies p = (k + 1) / (n + 2) of k ones in n points, (d,)."""
    p = (points.double().sum(0) + 1) / (len(points) + 2)
    return p.log() - torch.log1p(-p)


_Path = Callable[[float], Energy]


def _path(energy: Any, temperature: float, logits: Tensor) -> tuple[_Path, Sampler, float]:
    """beta -> U, its kernel, and log Z at beta = 0."""
    if isinstance(energy, Potts):
        return lambda beta: energy.annealed(beta, logits, temperature), Gibbs(), 0.0
    log_z = float(softplus(logits).sum())
    if isinstance(energy, Rbm) and temperature == 1:
        hidden_log_z = math.log(2) * len(energy.layers.b)
        return lambda beta: energy.annealed(beta, logits), BlockGibbs(), log_z + hidden_log_z
    if isinstance(energy, Ising):
        return lambda beta: energy.annealed(beta, logits, temperature), Gibbs(), log_z
    return lambda beta: _MixedEnergy(beta, energy, temperature, logits), Gibbs(), log_z


@dataclass(frozen=True)
class _MixedEnergy:
    """U(x) = -(1 - beta) logits'x + beta E(x) / T."""

    beta: float
    energy: Any
    temperature: float
    logits: Tensor

    @property
    def colours(self) -> Any:
        return getattr(self.energy, "colours", None)

    def __call__(self, x: Tensor) -> Tensor:
        base = -x.flatten(1) @ self.logits
        return (1 - self.beta) * base + self.beta * self.energy(x) / self.temperature

    def flip_differences(self, x: Tensor, sites: Tensor) -> Tensor:
        base = (2 * x.flatten(1)[:, sites] - 1) * self.logits[sites]
        change = flip_differences(self.energy, x, sites) / self.temperature
        return (1 - self.beta) * base + self.beta * change


@torch.no_grad()
def _anneal_states(
    path: _Path, x: Tensor, betas: list[float], kernel: Sampler, n_steps: int, generator: Generator
) -> Tensor:
    """Log importance weights sum_k U_{k-1}(x_{k-1}) - U_k(x_{k-1}) of annealed chains, (n,); see
    `annealing.anneal`.

    Args:
        path: beta -> U.
        x: samples from the first distribution, (n, *event).
        n_steps: steps of the kernel at each beta.
    """
    log_w = x.new_zeros(len(x))
    for before, beta in pairwise(betas):
        here = path(beta)
        log_w = log_w + path(before)(x) - here(x)
        x = run_chain(kernel, here, x, n_steps, generator).x
    return log_w
