"""The space of a search: options whose values are given in Hydra's grammar of overrides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from ebmtrain.errors import ConfigError

if TYPE_CHECKING:
    from optuna.trial import Trial

_GRAMMAR = "choice(a,b), range(0,10,2), interval(0,1) or tag(log,interval(1e-4,1e-1))"


@dataclass(frozen=True)
class Dimension:
    """One option that a search varies.

    Args:
        key: as it was typed, with "+" of Hydra's grammar.
        method: of an Optuna trial, which suggests a value.
        arguments: of this method besides the name.
    """

    key: str
    method: str
    arguments: Mapping[str, Any]

    def argument(self, trial: Trial) -> str:
        """`key=value` of a trial, which keeps its value once it has one."""
        return self._argument(getattr(trial, self.method)(self.key, **self.arguments))

    def ends(self) -> list[str]:
        """`key=value` of all choices, or of the least and the greatest value."""
        values = self.arguments.get("choices") or (self.arguments["low"], self.arguments["high"])
        return [self._argument(value) for value in values]

    def _argument(self, value: Any) -> str:
        return f"{self.key}={value}"


def parse_space(arguments: Sequence[str]) -> tuple[list[Dimension], list[str]]:
    """The options that vary, and the arguments that are the same in all trials.

    Raises:
        ConfigError: no option varies, one is given twice, is `seed` or one of Hydra's, or its
            values are no space: a glob, an empty or infinite interval, another tag than `log`.
        OverrideParseException: an argument cannot be read.
    """
    space: dict[str, Dimension] = {}
    fixed: list[str] = []
    for override in OverridesParser.create().parse_overrides(list(arguments)):
        text = str(override.input_line)
        if not override.is_sweep_override():
            fixed.append(text)
            continue
        key = text.partition("=")[0]
        if override.key_or_group == "seed":
            raise ConfigError(f"{text}: a search has the seeds of search.seeds=N, from seed=0 on")
        if override.key_or_group.startswith("hydra"):
            raise ConfigError(
                f"{text}: options of Hydra are the same in all trials: give one value"
            )
        if key in space:
            raise ConfigError(f"{key} is given several values twice: give all of them once")
        space[key] = _dimension(key, override)
    if not space:
        raise ConfigError(f"no option has several values: give key={_GRAMMAR}")
    return list(space.values()), fixed


def _dimension(key: str, override: Override) -> Dimension:
    """The values of one option. Raises ConfigError as `parse_space` does."""
    sweep, text = override.value(), override.input_line
    tags = getattr(sweep, "tags", set())
    if getattr(sweep, "shuffle", False):
        raise ConfigError(f"{text}: a search has no order: leave out shuffle")
    if tags - {"log"} or (tags and isinstance(sweep, ChoiceSweep)):
        raise ConfigError(f"{text}: the only tag is log, of a range or an interval")
    if isinstance(sweep, ChoiceSweep):
        texts = tuple(dict.fromkeys(override.sweep_string_iterator()))
        return Dimension(key, "suggest_categorical", {"choices": texts})
    if isinstance(sweep, RangeSweep):
        low, step = sweep.start, sweep.step
        count = math.ceil((sweep.stop - low) / step) if step else 0  # type: ignore[operator]
        high = low + (count - 1) * step  # type: ignore[operator]
        if step <= 0 or count < 1:
            raise ConfigError(f"{text} has no values: give range(start,stop,step) with step > 0")
        if tags and (step != 1 or not isinstance(low, int)):
            raise ConfigError(f"{text}: a log range has whole numbers and step 1: give an interval")
        arguments = {"low": low, "high": high, "step": step}
    elif isinstance(sweep, IntervalSweep):
        low, high = sweep.start, sweep.end
        if not (math.isfinite(low) and math.isfinite(high) and low < high):  # type: ignore[arg-type]
            raise ConfigError(f"{text} is no interval: give interval(low,high) with low < high")
        arguments = {"low": low, "high": high}
    else:
        raise ConfigError(f"{text} is no space: give {_GRAMMAR}")
    if tags:
        if low <= 0:  # type: ignore[operator]
            raise ConfigError(f"{text}: the logarithm needs numbers above 0")
        arguments |= {"log": True}
    whole = all(isinstance(v, int) for v in arguments.values())
    return Dimension(key, "suggest_int" if whole else "suggest_float", arguments)
