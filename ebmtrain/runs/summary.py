"""The lines that a run prints before and after training, and the titles of its figures."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ebmtrain.config.experiment import Experiment
from ebmtrain.config.presets import dataset_name
from ebmtrain.config.sizes import chain_steps
from ebmtrain.errors import counted
from ebmtrain.evaluation.headlines import HEADLINES
from ebmtrain.evaluation.verdict import distance_text
from ebmtrain.runs.storage.rundir import relative_to_cwd
from ebmtrain.training.divergence import MAX_ABS_COORDINATE
from ebmtrain.types import notes_of


def run_title(experiment: Experiment, choices: dict[str, str]) -> str:
    """Data set, method and model of the run; the model alone for a landscape."""
    if experiment.data is None:
        return choices.get("model", "")
    path = experiment.config["dataset"].get("path")
    named = {k: choices[k] for k in ("dataset", "method", "model") if k in choices}
    if "dataset" in named:
        named["dataset"] = dataset_name(named["dataset"], path)
    return " / ".join(named.values())


def opening_lines(experiment: Experiment, choices: dict[str, str]) -> list[str]:
    """Lines that describe the run before it starts."""
    n_parameters = sum(p.numel() for p in experiment.energy.parameters())
    shown = _SHOWN if experiment.train_spec is not None else _SHOWN[:2]
    named = [f"{group} {choices[group]}" for group in shown if group in choices]
    lines = [
        "  ".join(named),
        f"{counted(n_parameters, 'parameter')}  {experiment.device} x{torch.get_num_threads()} "
        f"{str(experiment.dtype).removeprefix('torch.')}  seed {experiment.seed}",
    ]
    for name, steps in chain_steps(experiment.config).items():
        if steps > _MANY_CHAIN_STEPS:
            lines.append(f"{name}: {counted(steps, 'step')} of each chain")
    if (spec := experiment.train_spec) is not None:
        data = spec.dataset
        lines.append(
            f"{counted(len(data.train), 'point')} of shape {tuple(data.train.shape[1:])}, "
            f"{len(data.holdout):,} held out  {counted(spec.n_steps, 'step')} of {spec.batch_size}"
        )
        if (wanted := experiment.config["train"]["batch_size"]) > spec.batch_size:
            lines.append(
                f"train.batch_size is {wanted}, and there are {spec.batch_size} training points: "
                "each batch holds all of them"
            )
        lines += [f"warning: {note}" for note in notes_of(data)]
        extent = max(experiment.region.low.abs().max(), experiment.region.high.abs().max())
        if extent > MAX_ABS_COORDINATE:
            scaled = experiment.config["dataset"].get("standardize")
            remedy = "remove or clip extreme values" if scaled else "dataset.standardize=true"
            lines.append(
                f"warning: coordinates reach {extent:.3g} in the units of training, more than the "
                f"presets are tuned for: {remedy}"
            )
    return lines


_MANY_CHAIN_STEPS = 100_000  # a minute or more
_SHOWN = ("model", "sampler", "method", "dataset", "optimizer")


def closing_lines(path: Path, result: dict[str, Any], trust: str, trains: bool) -> list[str]:
    """Lines after the run: its numbers, its figures and the commands to run next."""
    metrics, shown = result["metrics"], relative_to_cwd(path)
    typed = shlex.quote(str(shown))
    offer = _offer_of_ais(result["warnings"])
    if result["status"] == "interrupted" and not trains:
        return ["stopped; a landscape saves no state: start it again"]
    if result["status"] == "interrupted":
        saved = f"stopped at step {result['step']}, saved"
        return [saved, f"next     ebmtrain resume {typed}{trust}"]
    lines = number_lines(metrics, result["warnings"], trains)
    landscape = "plots/landscape_final.png"
    picture = landscape if (path / landscape).exists() else "plots"
    return [
        *lines,
        f"run      {shown}  ({result['seconds']:.1f} s)",
        *([f"picture  {shown / picture}"] if (path / picture).exists() else []),
        *([f"page     {shown / 'report.html'}"] if (path / "report.html").exists() else []),
        f"next     ebmtrain sample {typed} count=1000{trust}",
        f"         ebmtrain evaluate {typed}{offer}{trust}",
    ]


def number_lines(metrics: Mapping[str, Any], warnings: Sequence[str], trains: bool) -> list[str]:
    """The numbers of a run that tell how good it is, each with its error or floor."""
    lines = []
    if "kl" in metrics:
        how = "exact by quadrature"
        if "kl_se" in metrics:
            how = f"+- {metrics['kl_se']:.4f}, a mean over held-out points"
        lines.append(f"KL       {metrics['kl']:.4f} nats  KL(data || model), {how}")
    elif "regret" in metrics:
        lines.append(f"regret   {metrics['regret']:.4f} nats  NLL - entropy, an estimate of KL")
    if "nll" in metrics:
        floor = f"  entropy floor {metrics['entropy']:.4f}" if "entropy" in metrics else ""
        error = f" +- {metrics['nll_se']:.4f}" if "nll_se" in metrics else ""
        lines.append(f"NLL      {metrics['nll']:.4f}{error} nats{floor}")
    elif "nll_lower" in metrics and "nll_upper" in metrics:
        lines.append(
            f"NLL      {metrics['nll_lower']:.4g} to {metrics['nll_upper']:.4g} nats: bounds, the "
            "estimate is left out"
        )
    elif "log_z" in metrics:
        lines.append(f"log Z    {metrics['log_z']:.4f}")
    elif trains and any("left out" in warning for warning in warnings):
        lines.append("NLL      left out: see the warning")
    elif "nll_learnt" in metrics:
        lines.append(
            f"NLL      {metrics['nll_learnt']:.4f} nats with the learnt log Z: evaluation=ais "
            "tests it"
        )
    elif _offer_of_ais(warnings):
        lines.append("NLL      not measured in so many dimensions: see the last line")
    if {"accuracy", "accuracy_se", "ece"} <= set(metrics):
        error = f"{metrics['accuracy']:.4f} +- {metrics['accuracy_se']:.4f}"
        lines.append(f"accuracy {error}  calibration error {metrics['ece']:.4f}")
    if {"auroc", "auroc_se"} <= set(metrics):
        aupr = f"  AUPR {metrics['aupr']:.4f}" if "aupr" in metrics else ""
        lines.append(f"AUROC    {metrics['auroc']:.4f} +- {metrics['auroc_se']:.4f}{aupr}")
    if text := distance_text(metrics):
        lines.append(f"samples  {text}")
    return lines


def _offer_of_ais(warnings: Sequence[str]) -> str:
    """The option that the warnings offer to measure the NLL with, after a space; or nothing."""
    offers = re.findall(r"evaluation=ais\w*", " ".join(warnings))
    return f" {offers[0]}" if offers else ""


def figure_title(name: str, step: int, numbers: Mapping[str, Any]) -> str:
    """Title of the figures: name, step and main metric of the run."""
    found = [f"{label} {numbers[k]:.4g} nats" for k, label in HEADLINES.items() if k in numbers]
    return "  ".join(filter(None, [name, f"step {step}", *found[:1]]))
