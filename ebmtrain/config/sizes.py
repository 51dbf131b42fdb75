"""Memory and chain steps that a configuration asks for, estimated before the run starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ebmtrain.errors import ConfigError
from ebmtrain.runtime.memory_limit import memory_bytes

_MAX_CHAIN_STEPS = 10**10  # a day at 10 us per step, the least that a step takes


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
    for key, needed in _bytes(config, elements, size, holdout).items():
        if needed > available:
            problems.append(
                f"{key} is {_option(config, key):g} and needs {_gigabytes(needed)} of memory, "
                f"there are {_gigabytes(available)}: lower {key}"
            )
    for name, steps in chain_steps(config).items():
        if steps > _MAX_CHAIN_STEPS:
            verb = "take" if name in ("samples", "diagnostics") else "takes"
            problems.append(
                f"{name} {verb} {steps:.2g} steps of each chain, more than "
                f"{_MAX_CHAIN_STEPS:.0e}: lower {_STEP_OPTIONS[name]}"
            )
    if problems:
        raise ConfigError("\n".join(problems))


def _bytes(config: Mapping[str, Any], elements: int, size: int, holdout: int) -> dict[str, int]:
    """Bytes that each option that is a number makes necessary. Lower bounds: what is refused cannot
    run. Evaluations are in float64."""
    point, exact = elements * size, elements * 8
    compared = min(_option(config, "quality.points"), holdout)
    batch = config["train"]["batch_size"] * point
    each = {
        # Standardized, in the data's units, as a file in memory, and their energies.
        "samples.count": (3 * elements + 1) * size,
        "samples.chains": point,
        "plots.points": point,
        "method.slots": point,
        "method.walkers": 2 * point,
        "method.nu": batch,
        "method.m": batch,
        "method.n_projections": batch,
        "sampler.replicas": point * (_option(config, "sampler.levels") - 1),
        "evaluation.chains": exact,
        "evaluation.pilot_chains": exact,
        "evaluation.bootstrap": 8 * _option(config, "evaluation.chains"),
        "evaluation.points": point,
        "quality.projections": exact + 8 * compared,
        "quality.shuffles": 8 * compared,
        "diagnostics.chains": point,
        "diagnostics.draws": point * _option(config, "diagnostics.chains"),
    }
    needed = {key: _option(config, key) * bytes_each for key, bytes_each in each.items()}
    return needed | {"quality.points": 8 * compared**2}


def chain_steps(config: Mapping[str, Any]) -> dict[str, int]:
    """Steps of each chain in the final samples, in each evaluation of the diagnostics and of the
    log Z, and in each update."""
    samples, diagnostics = config["samples"], config["diagnostics"]
    draws = math.ceil(samples["count"] / samples["chains"])
    burn_in = samples["burn_in"]
    leapfrog = max(1, *(_option(config, f"sampler.{key}") for key in ("n_leapfrog", "proposals")))
    annealing = ("evaluation.temperatures", "evaluation.steps")
    kernel = max(1, _option(config, "evaluation.kernel.n_leapfrog"))
    return {
        "samples": leapfrog * (burn_in + samples["thin"] * (draws - 1)),
        "diagnostics": leapfrog * (burn_in + diagnostics["thin"] * diagnostics["draws"]),
        "evaluation": kernel * math.prod(_option(config, key) for key in annealing),
        "an update": leapfrog * _option(config, "method.k"),
    }


_STEP_OPTIONS = {
    "samples": "samples.burn_in, samples.thin or samples.count, or raise samples.chains",
    "diagnostics": "samples.burn_in, diagnostics.thin or diagnostics.draws",
    "evaluation": "evaluation.temperatures, evaluation.steps or evaluation.kernel.n_leapfrog",
    "an update": "method.k, sampler.n_leapfrog or sampler.proposals",
}


def _option(config: Mapping[str, Any], key: str) -> int:
    """The value of a dotted option; 0 if the configuration has none or it is no whole number."""
    node: Any = config
    for name in key.split("."):
        node = node.get(name) if isinstance(node, Mapping) else None
    return node if isinstance(node, int) else 0


def _gigabytes(number: float) -> str:
    return f"{number / 1e9:.3g} GB"
