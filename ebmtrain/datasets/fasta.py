"""Families of aligned sequences: proteins, RNA, DNA."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ebmtrain.datasets.io.read_fasta import read_fasta
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.support import Categorical
from ebmtrain.errors import ConfigError, DataError
from ebmtrain.runtime.seeding import stream
from ebmtrain.types import Batch, OpenUnit, Probability, WholeNumber

_ALPHABETS = {"protein": "-ACDEFGHIKLMNPQRSTVWY", "rna": "-ACGU", "dna": "-ACGT"}
_CHUNK = 256  # sequences at a time


def fasta(
    *,
    path: str,
    alphabet: str = "protein",
    identity: Probability = 0.8,
    holdout: OpenUnit = 0.1,
    seed: WholeNumber,
) -> Points:
    """Sequences of a FASTA file, as codes of their symbols. Event (length,).

    A sequence has the weight 1 / (number of sequences that agree with it in at least `identity` of
    their positions, itself included), and batches are drawn with probabilities proportional to it,
    so that every method sees the weighted family. Copies are left out. Groups of sequences that
    chains of such pairs join are on one side of the split: homologues of what a model is evaluated
    on are not trained on. Where one group has almost all sequences the split is random, and a note
    says so.

    Args:
        path: of the file; lower-case letters and dots are insertions, which are left out.
        alphabet: protein (20 amino acids), rna or dna, all with the gap -; or the symbols.
        identity: of the weights and of the split, in (0, 1); 1: equal sequences; 0: all weights are
            1, and the split is random.
        holdout: fraction of held-out sequences.
        seed: of the split.

    Raises:
        ConfigError: an alphabet with fewer than 2 symbols, or a symbol twice.
        DataError: the file is no alignment; names the record and the position.
    """
    symbols = _ALPHABETS.get(alphabet.lower(), alphabet)
    if len(set(symbols)) != len(symbols) or len(symbols) < 2 or not symbols.isprintable():
        raise ConfigError(
            f"dataset.alphabet must be protein, rna, dna or at least 2 different symbols, got "
            f"{alphabet!r}"
        )
    codes = read_fasta(path, symbols).codes
    first = np.sort(np.unique(codes.numpy(), axis=0, return_index=True)[1])
    notes: list[str] = []
    if n_copies := len(codes) - len(first):
        notes.append(f"{n_copies} of {len(codes)} sequences of {path} are copies, and left out")
    codes = codes[first]
    if len(codes) < 2:
        raise DataError(
            f"{path} holds record 1 alone{f', {n_copies + 1} times' if n_copies else ''}: give at "
            "least 2 different sequences, one is held out"
        )
    counts, groups = _neighbours(codes, identity) if identity else _apart(len(codes))
    order = torch.randperm(len(codes), generator=stream(seed, "split"))
    n_holdout = min(max(1, round(holdout * len(codes))), len(codes) - 1)
    held = _held_out(groups, order, n_holdout)
    if held is None:
        held = torch.zeros(len(codes), dtype=torch.bool)
        held[order[:n_holdout]] = True
        notes.append(
            f"sequences of {path} with an identity of {identity:g} are joined to one group of "
            "nearly all: the split is random, and held-out sequences have homologues among the "
            "training ones; raise dataset.identity for a split without them"
        )
    weights = 1 / counts.double()
    notes.append(f"{len(codes)} sequences have an effective number of {float(weights.sum()):.2f}")
    support, train = Categorical(symbols), codes[~held]
    return Points(
        train, codes[held], standardization=support.standardization(train, False),
        support=support, source=_WeightedRows(weights[~held]), notes=tuple(notes),
        row_numbers=torch.from_numpy(np.concatenate([first[~held], first[held]])),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _WeightedRows:
    """A `BatchSource` of training points with probabilities proportional to their weights."""

    weights: Tensor

    def __call__(self, points: Points, step: int, size: int, seed: int) -> Batch:
        generator = stream(seed, "weighted", step)
        return Batch(points.train[torch.multinomial(self.weights, size, True, generator=generator)])


def _apart(n: int) -> tuple[Tensor, Tensor]:
    return torch.ones(n), torch.arange(n)


def _neighbours(codes: Tensor, identity: float) -> tuple[Tensor, Tensor]:
    """Of each sequence the number of those that agree with it in at least `identity` of the
    positions, and the number of the group that it is in, (n,) each."""
    n, length = codes.shape
    fewest = identity * length - 1e-9
    counts, group = torch.zeros(n), torch.arange(n)
    small = codes.to(torch.int8)
    for begin in range(0, n, _CHUNK):
        same = torch.stack([(small == row).sum(1) for row in small[begin : begin + _CHUNK]])
        near = same >= fewest
        counts[begin : begin + _CHUNK] = near.sum(1).float()
        for row, found in enumerate(near, begin):
            joined = group[found].unique()
            if len(joined) > 1:
                group[torch.isin(group, joined)] = group[row].clone()
    return counts, group


def _held_out(groups: Tensor, order: Tensor, n_holdout: int) -> Tensor | None:
    """Whole groups in a random order until there are `n_holdout` sequences, (n,) bool; None: the
    groups that fit have fewer than half as many."""
    held, total = torch.zeros(len(groups), dtype=torch.bool), 0
    for group in dict.fromkeys(groups[order].tolist()):
        members = groups == group
        size = int(members.sum())
        if total + size <= n_holdout:
            held |= members
            total += size
    return held if 2 * total >= n_holdout else None
