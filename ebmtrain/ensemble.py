"""Many seeds of one configuration in one process: `train.ensemble`.

Each member is an ordinary run in a directory of its own; their loops go on side by side, and their
updates are made as one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any

from ebmtrain.build import Parts
from ebmtrain.compiled import pays
from ebmtrain.run import beginning
from ebmtrain.signals import Stop
from ebmtrain.together import Together
from ebmtrain.train import Made, T, Update, Updates

Result = dict[str, Any]


def begin_all(
    members: Sequence[Parts],
    paths: Sequence[Path],
    choices: dict[str, str],
    ended: Callable[[int, Result | Exception], None],
    *,
    quiet: bool,
) -> int | None:
    """New runs in these folders; the signal that has stopped them, if one has.

    Args:
        members: of one configuration but for the seed, with something to train.
        ended: is told the number of each member that comes to its end, and its result or what was
            wrong with it, which stops no other.
        quiet: nothing to the terminal; else the first member's lines.
    """
    first = members[0]
    assert first.job is not None
    maker, stop = Together(compile=pays(first.compile, first.job)), Stop()
    runs = [
        beginning(parts, path, choices, maker, stop=stop, quiet=quiet or i > 0)
        for i, (parts, path) in enumerate(zip(members, paths, strict=True))
    ]

    def told(number: int, outcome: Result | Exception) -> None:
        stop.at_once = False  # which holds for the one that has just ended: others have to save
        ended(number, outcome)

    with stop:
        side_by_side(runs, maker, told)
    return stop.signal


def side_by_side(
    runs: Sequence[Updates[T]],
    advance: Callable[[Sequence[Update]], list[Made]],
    ended: Callable[[int, T | Exception], None],
) -> None:
    """Goes through with all of them (`train.alone` does with one), each in a context of its own.

    Args:
        advance: makes the updates that all want next. What goes wrong there, goes wrong in each.
        ended: is told the number of a run and what it returned or raised.
    """
    contexts = [copy_context() for _ in runs]
    wanted: dict[int, Update] = {}

    def go_on(number: int, act: Callable[..., Update], *words: Any) -> None:
        wanted.pop(number, None)
        try:
            wanted[number] = contexts[number].run(act, *words)
        except StopIteration as end:
            ended(number, end.value)
        except Exception as error:
            ended(number, error)

    try:
        for number, run in enumerate(runs):
            go_on(number, next, run)
        while wanted:
            asked = dict(wanted)
            try:
                made = advance(list(asked.values()))
            except Exception as error:
                for number in asked:
                    go_on(number, runs[number].throw, error)
            else:
                for number, one in zip(asked, made, strict=True):
                    go_on(number, runs[number].send, one)
    finally:  # a second signal, say: what they hold is let go
        for context, run in zip(contexts, runs, strict=True):
            context.run(run.close)
