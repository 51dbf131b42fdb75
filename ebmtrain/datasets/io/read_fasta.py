"""Aligned sequences in FASTA format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ebmtrain.datasets.io.memory import check_memory
from ebmtrain.errors import DataError

FASTA_SUFFIXES = (".fasta", ".fa", ".faa", ".fna", ".afa", ".a2m", ".a3m")
_BYTES_PER_SYMBOL = 32  # as text, and as codes of type float64 in training
_INSERTIONS = str.maketrans("", "", "abcdefghijklmnopqrstuvwxyz.")
_NOTE = (
    "; lower-case letters and dots are insertions and left out: write aligned ones in upper case"
)


class Alignment(NamedTuple):
    codes: Tensor
    """(n, length), float64: places in the alphabet."""
    names: tuple[str, ...]
    """The lines after >."""


def read_fasta(path: str, alphabet: str, length: int | None = None) -> Alignment:
    """Sequences of equal length. Insertions (lower-case letters and dots of A2M and A3M) are left
    out.

    Args:
        alphabet: the symbols that may occur.
        length: that the sequences must have; None: that of the first.

    Raises:
        DataError: names the record, counted from 1, and the position in it.
    """
    records = [(name, text, text.translate(_INSERTIONS)) for name, text in _records(path)]
    places = {symbol: code for code, symbol in enumerate(alphabet)}
    length = len(records[0][2]) if length is None else length
    codes = np.empty((len(records), length))
    for number, (name, text, sequence) in enumerate(records, 1):
        where = f"{path}: record {number} ({name[:40]})"
        note = "" if sequence == text else _NOTE
        if not sequence:
            raise DataError(f"{where} has no symbols: remove it{note}")
        for position, symbol in enumerate(sequence, 1):
            if symbol not in places:
                raise DataError(
                    f"{where} has {symbol!r} at position {position}, which is not in the alphabet "
                    f"{alphabet!r}: remove the record, or give dataset.alphabet"
                )
        if len(sequence) != length:
            raise DataError(
                f"{where} has {len(sequence)} symbols, and {length} are expected: give aligned "
                f"sequences of equal length{note}"
            )
        if set(sequence) == {"-"}:
            raise DataError(f"{where} has gaps alone, positions 1 to {length}: remove it{note}")
        codes[number - 1] = [places[symbol] for symbol in sequence]
    return Alignment(torch.from_numpy(codes), tuple(name for name, *_ in records))


def _records(path: str) -> list[tuple[str, str]]:
    """Names and sequences."""
    try:
        check_memory(path, _BYTES_PER_SYMBOL * Path(path).stat().st_size, "give fewer sequences")
        text = Path(path).read_bytes().decode("ascii")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no FASTA file: byte {error.start + 1} is no ASCII") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    records: list[tuple[str, list[str]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith(">"):
            records.append((line[1:].strip(), []))
        elif line.strip():
            if not records:
                raise DataError(f"{path} is no FASTA file: line {number} comes before the first >")
            records[-1][1].append("".join(line.split()))
    if not records:
        raise DataError(f"{path} holds no sequences: each begins with a line >NAME")
    return [(name, "".join(parts)) for name, parts in records]


def to_fasta(codes: np.ndarray, alphabet: str, names: Sequence[str]) -> bytes:
    """The content of a FASTA file of codes, (n, length)."""
    symbols = np.array(list(alphabet))
    lines = (
        f">{name}\n{''.join(symbols[row.astype(int)])}\n"
        for name, row in zip(names, codes, strict=True)
    )
    return "".join(lines).encode()
