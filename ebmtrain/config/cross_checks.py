"""Checks that involve several values of a configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ebmtrain.config.annotations import accepts_argument, get_target, nested_samplers
from ebmtrain.runtime.processes import process_count
from ebmtrain.types import HasConflicts, Space, takes_ragged, takes_space


def conflicts(config: dict[str, Any], parts: Iterable[str]) -> list[str]:
    """All problems, a line each.

    Args:
        parts: the sections that name a class; a class may add its own checks, see `HasConflicts`.
    """
    problems = [
        *_leave_one_out_problems(config), *_shard_problems(config), *_sampler_problems(config)
    ]  # fmt: skip
    if config["train"]["steps"] is None and config["train"]["epochs"] is None:
        problems.append(
            "train.steps and train.epochs are both null: give train.steps=N or train.epochs=N"
        )
    for name in parts:
        part = get_target(config[name])
        problems += part.conflicts(config) if isinstance(part, HasConflicts) else []
    return problems


def _leave_one_out_problems(config: dict[str, Any]) -> list[str]:
    """Problems of `train.leave_one_out`, which determines the number of runs and their data."""
    train, dataset = config["train"], config["dataset"]
    if not train.get("leave_one_out"):
        return []
    problems = []
    if train.get("ensemble") not in (None, 1):
        problems.append(
            f"train.leave_one_out=true and train.ensemble={train['ensemble']} both start several "
            "runs: give one of them, and several seeds by -m seed=0,1,2"
        )
    if not accepts_argument(dataset, "without"):
        problems.append(
            "train.leave_one_out=true leaves out classes, and "
            f"{get_target(dataset).__name__} has no option dataset.without: dataset=digits, say"
        )
    if dataset.get("without") is not None:
        problems.append(
            f"train.leave_one_out=true leaves out every class in turn, and dataset.without="
            f"{dataset['without']} one: dataset.without=null, or train.leave_one_out=false"
        )
    return problems


def _shard_problems(config: dict[str, Any]) -> list[str]:
    """Problems of several runs in one process with shards or with further processes."""
    train, processes = config["train"], process_count()
    several = ["train.leave_one_out=true"] if train.get("leave_one_out") else []
    if train.get("ensemble") not in (None, 1):
        several.append(f"train.ensemble={train['ensemble']}")
    if several and processes > 1:
        return [f"{several[0]} trains several runs, and torchrun started {processes} processes for "
                "one: start it without torchrun"]  # fmt: skip
    if several and (train.get("shards") or 1) > 1:
        return [f"{several[0]} and train.shards={train['shards']}: give one of them"]
    return []


def _sampler_problems(config: dict[str, Any]) -> list[str]:
    """Problems of a sampler and those inside it with each other and with the method."""
    problems = []
    train, method, samplers = config["train"], config["method"], nested_samplers(config["sampler"])
    for path, sampler in samplers.items():
        end, k, n = sampler.get("step_size_end"), method.get("k"), sampler.get("anneal_steps")
        if end is not None and sampler.get("adaptation") is not None:
            # The adaptation sets the first step size from the acceptance at the last one.
            problems.append(
                f"{path}.step_size_end and {path}.adaptation both set the step size: give "
                f"{path}.adaptation=null or {path}.step_size_end=null"
            )
        annealed = end is not None or "temperature_start" in sampler
        if annealed and k is not None and n is not None and n > k:
            problems.append(
                f"{path}.anneal_steps is {n}, but each run of chains in training has method.k={k} "
                f"steps and would not reach the end: lower {path}.anneal_steps to at most {k} or "
                "raise method.k"
            )
    trains = train["steps" if train["epochs"] is None else "epochs"]
    given = {path: s["temperature"] for path, s in samplers.items() if "temperature" in s}
    path, temperature = next(iter(given.items()), ("sampler", 1))
    if temperature != 1 and trains and not accepts_argument(method, "sampler"):
        problems.append(
            f"{path}.temperature is {temperature}, but this method runs no chains and learns the "
            f"density at temperature 1: {path}.temperature=1, or method=pcd"
        )
    return problems


def ragged_problems(config: dict[str, Any]) -> list[str]:
    """Problems of the parts with sequences of different lengths. A model takes them if it has an
    argument `ragged`, a method and a sampler if they have an attribute of that name."""
    why = "the sequences are of different lengths, and"
    cut = "or give all sequences the same length"
    problems = []
    if not accepts_argument(config["model"], "ragged"):
        problems.append(
            f"{why} model {get_target(config['model']).__name__} reads points of one shape: "
            f"model=lstm, model=transformer or model=conv1d, {cut}"
        )
    if not takes_ragged(get_target(config["method"])):
        problems.append(
            f"{why} method {get_target(config['method']).__name__} takes points of one shape: "
            f"method=pcd, method=cd or method=dsm, {cut}"
        )
    for path, sampler in nested_samplers(config["sampler"]).items():
        if not takes_ragged(get_target(sampler)):
            problems.append(
                f"{why} {path} {get_target(sampler).__name__} moves points of one shape: "
                f"sampler=langevin, mala, hmc or underdamped, {cut}"
            )
        if sampler.get("jumps") is not None:
            problems.append(f"{why} have no differences to jump by: give {path}.jumps=null")
    return problems


_SPACE_REMEDIES: dict[Space, dict[str, str]] = {
    "binary": {
        "model": "model=rbm, ising or mlp",
        "method": "method=pcd, cd, jarzynski, pseudo_likelihood or nce",
        "sampler": "sampler=gibbs, gwg or block_gibbs",
        "evaluation": "evaluation=quadrature or ais_states",
    },
    "categorical": {
        "model": "model=potts",
        "method": "method=pcd, cd, jarzynski or pseudo_likelihood",
        "sampler": "sampler=gibbs",
        "evaluation": "evaluation=quadrature or ais_states",
    },
    "real": {
        "model": "model=mlp",
        "method": "method=pcd",
        "sampler": "sampler=mala",
        "evaluation": "evaluation=quadrature or ais",
    },
}
_SPACE_NAMES: dict[Space, str] = {
    "binary": "states 0 and 1",
    "categorical": "symbols of an alphabet",
    "real": "real numbers",
}
_STATE_NOISE = "frequencies"


def space_problems(config: dict[str, Any], space: Space) -> list[str]:
    """Problems of the parts with the space that the points live in, see `takes_space`."""
    nested = ("evaluation", config["evaluation"].get("ours"))
    parts = [(name, config[name]) for name in ("model", "method", "evaluation")]
    parts += [*nested_samplers(config["sampler"]).items()]
    parts += [nested] if isinstance(nested[1], dict) else []
    why = f"the points are {_SPACE_NAMES[space]}"
    problems = [
        f"{why}, and {path} {get_target(node).__name__} does not take them: "
        f"{_SPACE_REMEDIES[space][path.partition('.')[0]]}"
        for path, node in parts
        if not takes_space(get_target(node), space)
    ]
    method = config["method"]
    if "noise" in method and (method["noise"] == _STATE_NOISE) != (space == "binary"):
        remedy = _STATE_NOISE if space == "binary" else "gaussian"
        problems.append(f"{why}, and method.noise={method['noise']} is not: method.noise={remedy}")
    if space == "real":
        return problems
    if method.get("data_noise"):
        problems.append(
            f"{why}, and method.data_noise={method['data_noise']:g} adds Gaussian noise to them: "
            "method.data_noise=0"
        )
    sampler, model = get_target(config["sampler"]), get_target(config["model"])
    if getattr(sampler, "needs_hidden", False) and not hasattr(model, "hidden"):
        problems.append(
            f"sampler {sampler.__name__} draws hidden units, and model {model.__name__} has none: "
            "sampler=gibbs, or model=rbm"
        )
    return problems
