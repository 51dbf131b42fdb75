"""Persistent chains with Jarzynski's weights.

Carbone, Hua, Coste & Vanden-Eijnden, "Efficient training of energy-based models using Jarzynski
equality", NeurIPS 2023.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ebmtrain.methods.contrast import add_noise, contrastive_loss
from ebmtrain.samplers.chain import adaptation_of, init_adaptation, run_chain, temperature_of
from ebmtrain.samplers.resampling import effective_sample_size, log_mean_exp, systematic_resampling
from ebmtrain.score import freeze
from ebmtrain.types import (
    Batch,
    Cooling,
    Count,
    Energy,
    HasClamp,
    LossOutput,
    NonNegative,
    Placement,
    Positive,
    Probability,
    Sampler,
    StateSchema,
    Tensors,
    schema_of,
)

WALKER_SCHEMA: StateSchema = {
    "chains": Placement.PER_RANK,
    "energies": Placement.PER_RANK,
    "log_weights": Placement.PER_RANK,
}
"""What the walkers keep; the rest of a state is that of the sampler's adaptation."""


@dataclass(frozen=True, kw_only=True)
class Jarzynski:
    """L = mean E(x) - sum_i softmax(A)_i E(X_i): walkers X_i that lag behind a changing energy
    carry the weights that make up for it. With U = E / T
    before and U' = E' / T after an update,

        A_i += U(X_i) - U'(X_i),    then X_i moves by a chain that leaves exp(-U') as it is,

    which is the paper's rule for such a chain (its alpha makes up for one that rejects nothing;
    here such samplers are refused). Walkers start at N(0, noise_std^2 I) with A_i = -U(X_i) - log
    density, and so at every step mean exp(A) = Z on average, and sum_i softmax(A)_i f(X_i) is the
    model's mean of f. When the effective sample size of a group falls too low, it is resampled.

    An update raises the energy just where the walkers stand that it was computed from: their own A
    are biased low at every step, and the bias of their log Z adds up (docs/jarzynski.md). So there
    are two groups. One teaches; the other follows the same updates, to which it contributed
    nothing, and only measures log Z.

    Args:
        sampler: what moves the walkers; `sampler.jumps` join walkers of one group.
        k: steps of each moved walker per training step.
        walkers: in each of the two groups. All are reweighted at every step.
        moved: walkers of the teaching group that walk, drawn anew at every step; the others stay.
        moved_measuring: the same of the measuring group. The error of log Z is that of walkers
            which stay in one mode while the energies of the modes change: more that move, and
            not more walkers, make it smaller.
        resample_below: share of `walkers` below which the effective sample size leads to
            resampling; 0: never, 1: always.
        noise_std: of the first points, in (standardized) units of x.
        energy_regularization: alpha of `contrastive_loss`; small, it biases the density.
        data_noise: standard deviation of Gaussian noise added to each batch, in (standardized)
            units of x.

    State, the teaching group first: `chains` (2 * walkers, *event); `log_weights` A and
    `energies` E(X), T times the U of the formula, (2 * walkers,); what the sampler's adaptation
    learnt from the teaching group.
    """

    sampler: Sampler
    k: Count = 5
    walkers: Count = 1024
    moved: Count = 256
    moved_measuring: Count = 512
    resample_below: Probability = 0.5
    noise_std: Positive = 1.5
    energy_regularization: NonNegative = 0.0
    data_noise: NonNegative = 0.0

    def __post_init__(self) -> None:
        if not leaves_target_invariant(self.sampler):
            raise ValueError(
                f"jarzynski weights need a sampler that leaves exp(-E / T) as it is, which "
                f"{type(self.sampler).__name__} as configured does not: give sampler=mala or "
                "sampler=hmc, with sampler.clamp=null"
            )

    @property
    def state_schema(self) -> StateSchema:
        return WALKER_SCHEMA | schema_of(adaptation_of(self.sampler))

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        walkers = x.new_empty(2 * self.walkers, *x.shape[1:])
        chains = self.noise_std * walkers.normal_(generator=generator)
        flat = chains.flatten(1) / self.noise_std
        log_scale = math.log(2 * math.pi * self.noise_std**2) / 2
        surprise = flat.square().sum(1) / 2 + log_scale * flat.shape[1]
        return {
            "chains": chains,
            # As if the walkers came from an energy with Z = 1: the first update does the rest.
            "energies": temperature_of(self.sampler) * surprise,
            "log_weights": torch.zeros_like(surprise),
        } | init_adaptation(self.sampler, x)

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x = add_noise(batch.x, self.data_noise, generator)
        walkers = {name: state[name] for name in WALKER_SCHEMA}
        learnt = {name: value for name, value in state.items() if name not in walkers}
        walkers = self.reweighted(energy, walkers)
        log_z = log_mean_exp(self.groups(walkers["log_weights"]))
        walkers, ess = self.resampled(walkers, generator)
        walkers, learnt, metrics = self.stepped(energy, walkers, learnt, generator)

        teaching = slice(None, self.walkers)
        weights = torch.softmax(walkers["log_weights"][teaching], 0)
        loss, energies = contrastive_loss(
            energy, x, walkers["chains"][teaching], self.energy_regularization, weights
        )
        metrics |= {"walkers_ess": ess[0], "teaching_bias": log_z[0] - log_z[1]}
        return LossOutput(loss, energies | metrics, walkers | learnt)

    def log_z(self, energy: Energy, state: Tensors) -> Tensor:
        """log Z of exp(-E / T) over standardized points, shape (), by the measuring group: of any
        energy near to the trained one, the averaged weights for instance."""
        walkers = {name: state[name] for name in WALKER_SCHEMA}
        return log_mean_exp(self.groups(self.reweighted(energy, walkers)["log_weights"])[1])

    def groups(self, values: Tensor) -> Tensor:
        """(2 * walkers,) -> (2, walkers): teaching, measuring."""
        return values.view(2, self.walkers)

    def reweighted(self, energy: Energy, walkers: Tensors) -> Tensors:
        """The same points, weighted for another energy."""
        with freeze(energy), torch.no_grad():
            energies = energy(walkers["chains"])
        work = (energies - walkers["energies"]) / temperature_of(self.sampler)
        return walkers | {"energies": energies, "log_weights": walkers["log_weights"] - work}

    def resampled(self, walkers: Tensors, generator: Generator) -> tuple[Tensors, Tensor]:
        """Survivors with equal weights in a group that has run low, and the effective sample sizes
        before that as shares of `walkers`, shape (2,). Nothing waits for the device."""
        a = self.groups(walkers["log_weights"])
        ess = effective_sample_size(a) / self.walkers
        low = (ess < self.resample_below)[:, None]
        own = torch.arange(2 * self.walkers, device=a.device)
        first = self.walkers * torch.arange(2, device=a.device)[:, None]
        index = torch.where(
            low, systematic_resampling(a, generator) + first, self.groups(own)
        ).flatten()
        even = torch.where(low, log_mean_exp(a)[:, None], a).flatten()
        survivors = {"chains": walkers["chains"][index], "energies": walkers["energies"][index]}
        return survivors | {"log_weights": even}, ess

    def stepped(
        self, energy: Energy, walkers: Tensors, learnt: Tensors, generator: Generator
    ) -> tuple[Tensors, Tensors, Tensors]:
        """k steps of some walkers of each group; what the adaptation learnt, and the metrics, from
        the teaching group. The measuring group must not choose its own step size: its weights
        would depend on it."""
        chains = walkers["chains"]
        drawn, runs = [], []
        for first, moved in ((0, self.moved), (self.walkers, self.moved_measuring)):
            order = torch.randperm(self.walkers, generator=generator, device=chains.device)
            drawn.append(first + order[:moved])
            runs.append(
                run_chain(self.sampler, energy, chains[drawn[-1]], self.k, generator, learnt)
            )
        index, ends = torch.cat(drawn), torch.cat([run.x for run in runs])
        with freeze(energy), torch.no_grad():
            energies = walkers["energies"].index_copy(0, index, energy(ends))
        after = walkers | {"chains": chains.index_copy(0, index, ends), "energies": energies}
        return after, runs[0].adaptation_state, runs[0].metrics


def leaves_target_invariant(sampler: Sampler) -> bool:
    """Whether each step leaves exp(-E / T) of its own chain as it is, as far as one can see: a
    clamp, a falling temperature, hot chains that lag behind the energy without weights of their
    own (all of `learnt` that is no number), and a step that rejects nothing do not."""
    x = torch.zeros(4, 1)
    clamped = isinstance(sampler, HasClamp) and sampler.clamp is not None
    if clamped or isinstance(sampler, Cooling):
        return False
    if any(value.dim() for value in init_adaptation(sampler, x).values()):
        return False
    tried = run_chain(sampler, _parabola, x, 1, torch.Generator().manual_seed(0))
    return "acceptance" in tried.metrics


def _parabola(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(1) / 2
