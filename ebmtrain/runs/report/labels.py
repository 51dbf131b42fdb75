"""Short labels that distinguish groups of runs."""

from __future__ import annotations

from collections.abc import Sequence

from ebmtrain.runs.report.entry import Entry

_ORDER = ("experiment", "method", "model", "sampler", "optimizer")  # others after them
_DEFAULT = ("method", "model")  # of a run that differs from no other


def group_labels(examples: Sequence[Entry]) -> list[str]:
    """One label per entry, each of which represents a group.

    Presets are named where they differ, and settings where they differ between runs of the same
    preset: that pcd has method.k and dsm has none follows from their names.
    """
    named = [key for key in _choices(examples) if len({e.choices.get(key) for e in examples}) > 1]
    words = [[f"{k}={e.choices[k]}" for k in named if k in e.choices] for e in examples]
    for key in dict.fromkeys(key for e in examples for key in e.settings):
        values: dict[tuple[str | None, ...], set[str | None]] = {}
        for entry in examples:
            values.setdefault(_same(entry, key), set()).add(entry.settings.get(key))
        for entry, found in zip(examples, words, strict=True):
            if len(values[_same(entry, key)]) > 1 and key in entry.settings:
                found.append(f"{key}={entry.settings[key]}")
    default = [[f"{k}={e.choices[k]}" for k in _DEFAULT if k in e.choices] for e in examples]
    return [
        " ".join(found or usual) or entry.name
        for entry, found, usual in zip(examples, words, default, strict=True)
    ]


def shared_choices(examples: Sequence[Entry]) -> str:
    """The presets that all entries share."""
    first = examples[0].choices
    same = [k for k in _choices(examples) if len({e.choices.get(k) for e in examples}) == 1]
    return " ".join(f"{key}={first[key]}" for key in same)


def _choices(examples: Sequence[Entry]) -> list[str]:
    found = dict.fromkeys(key for e in examples for key in sorted(e.choices) if key != "dataset")
    return [*(k for k in _ORDER if k in found), *(k for k in found if k not in _ORDER)]


def _same(entry: Entry, key: str) -> tuple[str | None, ...]:
    """The presets that determine the value of a key."""
    return entry.choices.get("experiment"), entry.choices.get(key.split(".")[0])
