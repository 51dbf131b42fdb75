"""Memory and chain steps that a configuration asks for, estimated before the run starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ebmtrain.errors import ConfigError
from ebmtrain.runtime.memory_limit import memory_bytes

_MAX_CHAIN_STEPS = 10**10  # a day at 10 us per step, the least that a step takes

# Bytes that an option makes necessary, from its value, the elements of a point, the bytes of an
# element in training, and the number of held-out points. Lower bounds: what is refused cannot run.
_BYTES: dict[str, Callable[[int, int, int, int], int]] = {
    # Standardized, in the data's units, as a file in memory, and their energies.
    "samples.count": lambda n, elements, size, _: n * (3 * elements + 1) * size,
    "samples.chains": lambda n, elements, size, _: n * elements * size,
    "plots.points": lambda n, elements, size, _: n * elements * size,
    "method.slots": lambda n, elements, size, _: n * elements * size,
    "method.walkers": lambda n, elements, size, _: 2 * n * elements * size,
    "evaluation.chains": lambda n, elements, _, __: n * elements * 8,
    "evaluation.points": lambda n, elements, size, _: n * elements * size,
    "quality.points": lambda n, _, __, holdout: 8 * min(n, holdout) ** 2,
}


def check_sizes(config: Mapping[str, Any], elements: int, size: int, holdout: int) -> None:
    """Refuses a configuration that needs more memory than there is, or chains that never end.

    Args:
        elements: numbers in a point.
        size: bytes of a number in training.
        holdout: number of held-out points.

    Raises:
        ConfigError: names the option, what it needs, and what there is.
    """
    available, problems = memory_bytes(), []
    for key, needs in (_BYTES | {"diagnostics.draws": _diagnostics_bytes(config)}).items():
        section, _, name = key.partition(".")
        value = config[section].get(name)
        if isinstance(value, int) and (needed := needs(value, elements, size, holdout)) > available:
            problems.append(
                f"{key} is {value:g} and needs {_gigabytes(needed)} of memory, there are "
                f"{_gigabytes(available)}: lower {key}"
            )
    for name, steps in chain_steps(config).items():
        if steps > _MAX_CHAIN_STEPS:
            problems.append(
                f"{name} take {steps:.2g} steps of each chain, more than {_MAX_CHAIN_STEPS:.0e}: "
                f"lower {_STEP_OPTIONS[name]}"
            )
    if problems:
        raise ConfigError("\n".join(problems))


def chain_steps(config: Mapping[str, Any]) -> dict[str, int]:
    """Steps of each chain in the final samples, and in each evaluation of the diagnostics."""
    samples, diagnostics = config["samples"], config["diagnostics"]
    draws = math.ceil(samples["count"] / samples["chains"])
    burn_in = samples["burn_in"]
    return {
        "samples": burn_in + samples["thin"] * (draws - 1),
        "diagnostics": burn_in + diagnostics["thin"] * diagnostics["draws"],
    }


_STEP_OPTIONS = {
    "samples": "samples.burn_in, samples.thin or samples.count, or raise samples.chains",
    "diagnostics": "samples.burn_in, diagnostics.thin or diagnostics.draws",
}


def _diagnostics_bytes(config: Mapping[str, Any]) -> Callable[[int, int, int, int], int]:
    chains = config["diagnostics"]["chains"]
    return lambda n, elements, size, _: n * chains * elements * size


def _gigabytes(number: float) -> str:
    return f"{number / 1e9:.3g} GB"
