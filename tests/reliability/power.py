"""What a power loss may leave, as a model over the file operations that a writer really made.

A file's content stands once the file was synced, a name once its folder was. Whatever was not
synced may be kept or lost, each operation for itself and in any order; of content that was not
synced, half may be there, or zeros in its place. That is more than real file systems lose, and what
POSIX allows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

Files = dict[str, bytes]
EXHAUSTIVE = 12  # pending names of which all subsets are tried; beyond it, see `subsets`


@dataclass
class Recorder:
    """The operations below `root`, in their order: (what, path or number of the file, more)."""

    root: Path
    done: list[tuple[Any, ...]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    """Of the files that are there, by their paths."""
    opened: dict[int, tuple[int | None, str]] = field(default_factory=dict)
    """Descriptors: the number of a file, or None for a folder, and its path."""

    def below(self, path: Any, dir_fd: int | None = None) -> str | None:
        if dir_fd is not None:
            path = os.path.join(self.opened[dir_fd][1], path)  # noqa: PTH118
        text = os.path.abspath(path)  # noqa: PTH100
        inside = text == str(self.root) or text.startswith(f"{self.root}/")
        return text if inside else None

    def open(
        self, original: Callable[..., int], path: Any, flags: int, *more: Any, **of: Any
    ) -> int:
        text = self.below(path, **of)
        new = text is not None and not os.path.exists(text)  # noqa: PTH110
        descriptor = original(path, flags, *more, **of)
        if text is not None:
            if new:
                self.numbers[text] = len(self.done)
                self.done.append(("create", text, self.numbers[text]))
            elif flags & os.O_TRUNC:
                self.done.append(("truncate", self.numbers[text]))
            self.opened[descriptor] = (self.numbers.get(text), text)
        return descriptor

    def close(self, original: Callable[..., None], descriptor: int) -> None:
        self.opened.pop(descriptor, None)
        original(descriptor)

    def write(self, original: Callable[..., int], descriptor: int, data: Any) -> int:
        count = original(descriptor, data)
        if descriptor in self.opened:
            self.done.append(("write", self.opened[descriptor][0], bytes(data[:count])))
        return count

    def fsync(self, original: Callable[..., None], descriptor: int) -> None:
        original(descriptor)
        if descriptor in self.opened:
            number, path = self.opened[descriptor]
            self.done.append(("sync folder", path) if number is None else ("sync", number))

    def replace(
        self,
        original: Callable[..., None],
        old: Any,
        new: Any,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
    ) -> None:
        original(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        if (one := self.below(old, src_dir_fd)) and (two := self.below(new, dst_dir_fd)):
            self.numbers[two] = self.numbers.pop(one)
            self.done.append(("replace", one, two, self.numbers[two]))

    def unlink(self, original: Callable[..., None], path: Any, **of: Any) -> None:
        original(path, **of)
        if text := self.below(path, **of):
            self.numbers.pop(text, None)
            self.done.append(("unlink", text))

    def mkdir(self, original: Callable[..., None], path: Any, *more: Any, **of: Any) -> None:
        original(path, *more, **of)
        if text := self.below(path, **of):
            self.done.append(("mkdir", text))

    def acknowledge(self, what: Any) -> None:
        self.done.append(("acknowledge", what))


@contextmanager
def recorded(root: Path) -> Iterator[Recorder]:
    recorder = Recorder(root.absolute())
    with pytest.MonkeyPatch.context() as patch:
        for name in ("open", "close", "write", "fsync", "replace", "unlink", "mkdir"):
            original, method = getattr(os, name), getattr(recorder, name)
            patch.setattr(os, name, lambda *a, m=method, o=original, **of: m(o, *a, **of))
        yield recorder


@dataclass
class Disk:
    """What stands, and what is pending, after some operations."""

    names: dict[str, int | None] = field(default_factory=dict)
    """Path: number of the file; None: a folder."""
    pending: list[tuple[Any, ...]] = field(default_factory=list)
    stands: dict[int, bytes] = field(default_factory=dict)
    current: dict[int, bytes] = field(default_factory=dict)

    def apply(self, operation: tuple[Any, ...]) -> None:
        what, target, *more = operation
        if what == "create":
            self.stands[more[0]] = self.current[more[0]] = b""
        if what in ("create", "replace", "unlink", "mkdir"):
            self.pending.append(operation)
        elif what == "write":
            self.current[target] += more[0]
        elif what == "truncate":
            self.current[target] = b""
        elif what == "sync":
            self.stands[target] = self.current[target]
        elif what == "sync folder":
            for entry in [p for p in self.pending if os.path.dirname(p[1]) == target]:  # noqa: PTH120
                rename(self.names, entry)
                self.pending.remove(entry)

    def losses(self, root: str, ignored: tuple[str, ...]) -> Iterator[Files]:
        """What may be found after the power comes back, without names that end so."""
        for kept in subsets(self.pending):
            names = dict(self.names)
            for entry in kept:
                rename(names, entry)
            found = {
                path: number
                for path, number in names.items()
                if number is not None and not path.endswith(ignored)
                if reachable(path, names, root)
            }
            for content in self.contents(sorted(set(found.values()))):
                yield {os.path.relpath(path, root): content[n] for path, n in found.items()}

    def contents(self, numbers: list[int]) -> Iterator[dict[int, bytes]]:
        """Of all files: each choice; of many that are not synced, those where at most two are not
        as they were written."""
        written = {number: self.current[number] for number in numbers}
        open_ = [n for n in numbers if self.stands[n] != self.current[n]]
        if len(open_) <= EXHAUSTIVE // 3:
            for spoilt in product(*(self.spoilt(n) for n in open_)):
                yield written | dict(zip(open_, spoilt, strict=True))
            return
        for some in (s for size in range(3) for s in combinations(open_, size)):
            for spoilt in product(*(self.spoilt(n) for n in some)):
                yield written | dict(zip(some, spoilt, strict=True))

    def spoilt(self, number: int) -> list[bytes]:
        """What may be found in a file that was not synced."""
        old, new = self.stands[number], self.current[number]
        kept = len(old) if new.startswith(old) else 0  # what was appended to stands
        half = (kept + len(new)) // 2
        return [new, old, new[:half], new[:kept] + bytes(len(new) - kept)]


def rename(names: dict[str, int | None], entry: tuple[Any, ...]) -> None:
    what, path, *more = entry
    if what == "create":
        names[path] = more[0]
    elif what == "mkdir":
        names[path] = None
    elif what == "unlink":
        names.pop(path, None)
    else:
        names.pop(path, None)
        names[more[0]] = more[1]


def reachable(path: str, names: dict[str, int | None], root: str) -> bool:
    folder = os.path.dirname(path)  # noqa: PTH120
    return folder == root or (folder in names and reachable(folder, names, root))


def subsets(entries: list[Any]) -> Iterator[list[Any]]:
    """All of them; of many entries those where at most two, or all after some moment, are lost."""
    n = len(entries)
    if n <= EXHAUSTIVE:
        for keep in product((True, False), repeat=n):
            yield [entry for entry, kept in zip(entries, keep, strict=True) if kept]
        return
    for size in range(3):
        for lost in combinations(range(n), size):
            yield [entry for i, entry in enumerate(entries) if i not in lost]
    for length in range(n - 2):
        yield entries[:length]


def crashes(
    operations: list[tuple[Any, ...]], root: str, ignored: tuple[str, ...] = (".tmp",)
) -> Iterator[tuple[Any, Files]]:
    """After each operation: what was acknowledged last, and each state that may be found then."""
    disk, acknowledged = Disk(), None
    for operation in operations:
        if operation[0] == "acknowledge":
            acknowledged = operation[1]
        else:
            disk.apply(operation)
        for files in disk.losses(root, ignored):
            yield acknowledged, files
