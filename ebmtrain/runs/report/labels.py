"""Short labels that distinguish groups of runs."""

from __future__ import annotations

from collections.abc import Sequence

from ebmtrain.runs.report.entry import Entry

_ORDER = ("experiment", "method", "model", "sampler", "optimizer")  # others after them


def group_labels(examples: Sequence[Entry]) -> list[str]:
    """One label per entry, each of which represents a group.

    A choice of a group is named where choices differ. A setting is named where it differs between
    runs that chose the same: that method.k exists for pcd and not for dsm is known from the names.
    """
    named = [key for key in _choices(examples) if len({e.choices.get(key) for e in examples}) > 1]
    words = [[f"{k}={e.choices[k]}" for k in named if k in e.choices] for e in examples]
    keys = dict.fromkeys(key for e in examples for key in e.settings)
    for key in keys:
        values: dict[tuple[str | None, ...], set[str | None]] = {}
        for entry in examples:
            values.setdefault(_same(entry, key), set()).add(entry.settings.get(key))
        for entry, found in zip(examples, words, strict=True):
            if len(values[_same(entry, key)]) > 1 and key in entry.settings:
                found.append(f"{key}={entry.settings[key]}")
    return [" ".join(found) or _usual(e) for e, found in zip(examples, words, strict=True)]


def _usual(entry: Entry) -> str:
    """The label of a run that differs from no other."""
    shown = [f"{key}={entry.choices[key]}" for key in ("method", "model") if key in entry.choices]
    return " ".join(shown) or entry.name


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
