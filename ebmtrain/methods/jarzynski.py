"""Persistent chains with Jarzynski weights.

Carbone, Hua, Coste & Vanden-Eijnden, "Efficient training of energy-based models using Jarzynski
equality", NeurIPS 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from ebmtrain.datasets.support import REAL
from ebmtrain.methods.contrast import add_noise, contrastive_loss, regularization_of
from ebmtrain.samplers.chain import adaptation_of, init_adaptation, run_chain, temperature_of
from ebmtrain.samplers.resampling import effective_sample_size, log_mean_exp, systematic_resampling
from ebmtrain.score import freeze
from ebmtrain.types import (
    Batch,
    ChainCount,
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
    Space,
    StateSchema,
    Support,
    Tensors,
    per_rank,
    schema_of,
    takes_space,
)

WALKER_SCHEMA: StateSchema = per_rank(
    "chains", "energies", "log_weights", placement=Placement.PER_RANK_HALVES
)
"""State of the walkers; the other keys are those of the sampler's adaptation."""


@dataclass(frozen=True, kw_only=True)
class Jarzynski:
    """L = mean E(x) - sum_i softmax(A)_i E(X_i), X_i walkers with log weights A_i.

    The weights correct for the lag of the walkers behind the changing energy. With U = E / T before
    and U' = E' / T after an update,

        A_i += U(X_i) - U'(X_i),    then X_i moves by a kernel that leaves exp(-U') invariant.

    This is the paper's rule for such a kernel. (Its term alpha corrects for a kernel without
    rejection; such samplers are refused here.) Walkers start at N(0, noise_std^2 I), or at random
    states, with
    A_i = -U(X_i) - log density. At every update mean exp(A) is then an unbiased estimate of Z, and
    sum_i softmax(A)_i f(X_i) estimates the model's mean of f. A group whose effective sample size
    falls below a threshold is resampled.

    An update raises the energy at the walkers that its gradient was computed from: their own A are
    biased low in every update, and the bias of their log Z accumulates (docs/jarzynski.md).
    Therefore there are two groups. The teaching group gives the gradient; the measuring group is
    reweighted by the same updates, does not contribute to them, and estimates log Z.

    Args:
        sampler: kernel of the walkers; `sampler.jumps` act within one group.
        k: steps of each moved walker per update.
        walkers: number per group. All are reweighted in every update.
        moved: walkers of the teaching group that make steps, selected at random in every update.
        moved_measuring: the same for the measuring group. The error of log Z comes from walkers
            that stay in one mode while the energies of the modes change: it falls with the number
            of moved walkers, not with the number of walkers.
        resample_below: threshold of the effective sample size, as a fraction of `walkers`; 0: never
            resample, 1: always.
        noise_std: standard deviation of the first points, in (standardized) units of x; not of
            states.
        energy_regularization, data_noise, support: as for `PersistentChains`.

    State, the teaching group first: `chains` (2 * walkers, *event); `log_weights` A and `energies`
    E(X) = T U(X), (2 * walkers,); the state of the sampler's adaptation, from the teaching group.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"real", "binary", "categorical"})

    sampler: Sampler
    k: Count = 5
    walkers: ChainCount = 1024
    moved: ChainCount = 256
    moved_measuring: ChainCount = 512
    resample_below: Probability = 0.5
    noise_std: Positive = 1.5
    energy_regularization: NonNegative = 0.01
    data_noise: NonNegative = 0.0
    support: Support = REAL

    def __post_init__(self) -> None:
        if not _leaves_target_invariant(self.sampler):
            raise ValueError(
                f"jarzynski weights need a sampler that leaves exp(-E / T) invariant, which "
                f"{type(self.sampler).__name__} as configured does not: give sampler=mala or "
                "sampler=hmc, with sampler.clamp=null"
            )

    @property
    def state_schema(self) -> StateSchema:
        return WALKER_SCHEMA | schema_of(adaptation_of(self.sampler))

    def init(self, x: Tensor, generator: Generator) -> Tensors:
        like = x.new_zeros(2 * self.walkers, *x.shape[1:])
        chains = self.support.method_starts(like, self.noise_std, generator)
        nll = self.support.method_starts_nll(chains, self.noise_std)
        return {
            "chains": chains,
            # Energies of the starts, with Z = 1: the first reweighting leads to the model.
            "energies": temperature_of(self.sampler) * nll,
            "log_weights": torch.zeros_like(nll),
        } | init_adaptation(self.sampler, x)

    def loss(
        self, energy: Energy, batch: Batch, state: Tensors, generator: Generator
    ) -> LossOutput:
        x = add_noise(batch.x, self.data_noise, generator)
        walkers = {name: state[name] for name in WALKER_SCHEMA}
        adaptation_state = {name: value for name, value in state.items() if name not in walkers}
        walkers = self._reweight(energy, walkers)
        log_z = log_mean_exp(self._groups(walkers["log_weights"]))
        walkers, ess = self.resample(walkers, generator)
        walkers, adaptation_state, metrics = self._move(
            energy, walkers, adaptation_state, generator
        )

        teaching = slice(None, self.walkers)
        weights = torch.softmax(walkers["log_weights"][teaching], 0)
        loss, energies = contrastive_loss(
            energy, x, walkers["chains"][teaching], regularization_of(self), weights
        )
        metrics |= {"walkers_ess": ess[0], "teaching_bias": log_z[0] - log_z[1]}
        return LossOutput(loss, energies | metrics, walkers | adaptation_state)

    def log_z(self, energy: Energy, state: Tensors) -> Tensor:
        """log Z of exp(-E / T) over standardized points, shape (), from the measuring group.

        Args:
            energy: the trained one or one close to it, for example with averaged weights.
        """
        walkers = {name: state[name] for name in WALKER_SCHEMA}
        return log_mean_exp(self._groups(self._reweight(energy, walkers)["log_weights"])[1])

    def _groups(self, values: Tensor) -> Tensor:
        """(2 * walkers,) -> (2, walkers): teaching, measuring."""
        return values.view(2, self.walkers)

    def _reweight(self, energy: Energy, walkers: Tensors) -> Tensors:
        """The walkers with weights for a new energy."""
        with freeze(energy), torch.no_grad():
            energies = energy(walkers["chains"])
        work = (energies - walkers["energies"]) / temperature_of(self.sampler)
        return walkers | {"energies": energies, "log_weights": walkers["log_weights"] - work}

    def resample(self, walkers: Tensors, generator: Generator) -> tuple[Tensors, Tensor]:
        """The walkers, resampled to equal weights in a group below the threshold, and the effective
        sample sizes before that as fractions of `walkers`, shape (2,). No device synchronisation.
        """
        a = self._groups(walkers["log_weights"])
        ess = effective_sample_size(a) / self.walkers
        low = (ess < self.resample_below)[:, None]
        unchanged = torch.arange(2 * self.walkers, device=a.device)
        offset = self.walkers * torch.arange(2, device=a.device)[:, None]
        index = torch.where(
            low, systematic_resampling(a, generator) + offset, self._groups(unchanged)
        ).flatten()
        log_weights = torch.where(low, log_mean_exp(a)[:, None], a).flatten()
        points = {"chains": walkers["chains"][index], "energies": walkers["energies"][index]}
        return points | {"log_weights": log_weights}, ess

    def _move(
        self, energy: Energy, walkers: Tensors, adaptation_state: Tensors, generator: Generator
    ) -> tuple[Tensors, Tensors, Tensors]:
        """The walkers after k steps of some of each group; the state of the adaptation and the
        metrics, from the teaching group.

        The measuring group does not adapt its own step size: its weights would depend on it.
        """
        chains = walkers["chains"]
        rows, runs = [], []
        for first, moved in ((0, self.moved), (self.walkers, self.moved_measuring)):
            order = torch.randperm(self.walkers, generator=generator, device=chains.device)
            rows.append(first + order[:moved])
            start = chains[rows[-1]]
            runs.append(run_chain(self.sampler, energy, start, self.k, generator, adaptation_state))
        index, ends = torch.cat(rows), torch.cat([run.x for run in runs])
        with freeze(energy), torch.no_grad():
            energies = walkers["energies"].index_copy(0, index, energy(ends))
        after = walkers | {"chains": chains.index_copy(0, index, ends), "energies": energies}
        return after, runs[0].adaptation_state, runs[0].metrics


def _leaves_target_invariant(sampler: Sampler) -> bool:
    """False if a step is known not to leave exp(-E / T) of its own chain invariant. Samplers of
    states do.

    That is so for a clamp, for a falling temperature, for hot chains without weights of their own
    (any adaptation state that is not a scalar), and for a step without rejection.
    """
    if not takes_space(sampler, "real"):
        return True
    x = torch.zeros(4, 1)
    clamped = isinstance(sampler, HasClamp) and sampler.clamp is not None
    if clamped or isinstance(sampler, Cooling):
        return False
    if any(value.dim() for value in init_adaptation(sampler, x).values()):
        return False
    run = run_chain(sampler, _quadratic, x, 1, torch.Generator().manual_seed(0))
    return "acceptance" in run.metrics


def _quadratic(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(1) / 2
