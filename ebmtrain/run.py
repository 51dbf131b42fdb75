"""Starts a run and brings it to its end: the way from a configuration to a run directory."""

from __future__ import annotations

import copy
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import ebmtrain
from ebmtrain import native
from ebmtrain.build import Parts, build
from ebmtrain.checkpoint_items import checked
from ebmtrain.compiled import Compiled, chosen
from ebmtrain.display import LOG, Display
from ebmtrain.durable import locked
from ebmtrain.errors import CheckpointError, ConfigError, DivergedError
from ebmtrain.frame import Frame
from ebmtrain.rundir import RunDir, relative
from ebmtrain.session import BEFORE_THE_FIRST_STEP, Maker, Session
from ebmtrain.signals import Stop
from ebmtrain.state import start
from ebmtrain.train import FAR, Updates, advanced, alone, collect, update
from ebmtrain.trust import Trust, trust_of
from ebmtrain.validate import validate


def begin(
    parts: Parts, path: Path, choices: dict[str, str], *, quiet: bool = False
) -> dict[str, Any]:
    """A new run in `path`; returns its result."""
    maker = maker_of(parts)
    return alone(beginning(parts, path, choices, maker, quiet=quiet), maker or advanced)


def maker_of(parts: Parts) -> Compiled | None:
    """What makes the updates of a run that goes by itself; None: `advanced`."""
    return None if parts.job is None else chosen(parts.compile, parts.job)


def beginning(
    parts: Parts,
    path: Path,
    choices: dict[str, str],
    maker: Maker | None,
    *,
    stop: Stop | None = None,
    quiet: bool = False,
) -> Updates[dict[str, Any]]:
    """`begin`, as far as the next update.

    Args:
        maker, stop: see `Session`.
    """
    with locked(path):
        run = RunDir.create(path, parts.config, about(parts, choices))
        return (yield from carry_on(parts, run, choices, maker, stop=stop, quiet=quiet))


def resume(
    path: Path, config: dict[str, Any] | None = None, trust: Trust = (), *, quiet: bool = False
) -> dict[str, Any]:
    """Goes on in `path` from its newest whole checkpoint; returns the result.

    Args:
        config: in place of the saved one, say with more steps.
    """
    run = RunDir.open(path)
    wanted = config or run.config()
    validate(wanted, trust)  # before anything is written, the lock included
    train = wanted["train"]
    if train.get("leave_one_out") or train.get("ensemble") not in (None, 1):
        word = (
            "leave_one_out=true" if train.get("leave_one_out") else f"ensemble={train['ensemble']}"
        )
        raise ConfigError(f"train.{word} begins new runs, and {path} is one: resume it without")
    with locked(path):
        parts = build(wanted, trust)
        maker = maker_of(parts)

        def go_on(**known: Any) -> dict[str, Any]:
            updates = carry_on(parts, run, run.choices(), maker, quiet=quiet, **known)
            return alone(updates, maker or advanced)

        if parts.job is None:
            raise CheckpointError(f"{path} shows an analytic landscape: there is nothing to resume")
        if not run.begun():
            if config is not None:
                run.write_config(config)
            run.cut_metrics(0)
            notes = ["there is no checkpoint yet, for the run had not begun: it does so now"]
            return go_on(notes=notes)
        state, passed = run.load_checkpoint()
        checked(state)
        n_steps, result = parts.job.n_steps, run.read_json("result.json")
        finished = result.get("status") == "finished" and result.get("step") == state["step"]
        if state["step"] > n_steps or (state["step"] == n_steps and finished):
            raise ConfigError(
                f"{path} is at step {state['step']} and was to have {n_steps}: "
                f"to go on, give train.steps={2 * state['step']}, say"
            )
        rehearse(parts, state)
        if config is not None:
            run.write_config(config)
        return go_on(resumed=state, notes=passed)


def rehearse(parts: Parts, saved: dict[str, Any]) -> None:
    """One update on a copy, before anything is written: what cannot go on changes nothing.

    Raises:
        CheckpointError: the checkpoint is of another configuration.
        DataError: or of other data.
    """
    assert parts.job is not None
    Frame.from_state(saved.get("frame")).check(parts.job.dataset)
    state = start(parts.job, copy.deepcopy(parts.energy), parts.generator("train"))
    state.load_state_dict(copy.deepcopy(saved))  # tensors that fit are taken as they are
    if state.step < parts.job.n_steps:
        try:
            # As if a row were due: it is the mean of what was saved and of this update.
            collect(parts.job, state, update(parts.job, state), last=True)
        except DivergedError:
            pass  # the run will say so
        except (RuntimeError, ValueError, KeyError, IndexError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"the run cannot go on with this configuration ({reason}): change less of it"
            ) from error


def carry_on(
    parts: Parts,
    run: RunDir,
    choices: dict[str, str],
    maker: Maker | None,
    *,
    resumed: dict[str, Any] | None = None,
    stop: Stop | None = None,
    quiet: bool = False,
    notes: list[str] | None = None,
) -> Updates[dict[str, Any]]:
    n_steps = parts.job.n_steps if parts.job else 0
    run.clear()
    with Display(run.path / "run.log", quiet=quiet, n_steps=n_steps) as display:
        for line in [*summary(parts, choices), *native.refusals()]:
            LOG.info("%s", line)
        for note in notes or []:
            LOG.warning("warning: %s", note)
        if resumed is not None:
            LOG.info("resumed at step %d of %d", resumed["step"], n_steps)
        session = Session(parts, run, display, title(parts, choices), resumed, maker, stop)
        result = yield from session.go()
        for line in closing(run.path, result, trust_of(parts.config), parts.job is not None):
            LOG.info("%s", line)
    return result


def record_failure(
    path: Path, config: dict[str, Any], choices: dict[str, str], error: Exception
) -> dict[str, Any]:
    """Result and log of a job that could not be run or broke; returns the result."""
    run = RunDir(path)
    before = run.read_json("result.json")
    if before:  # the session wrote it: it knows the step and the numbers
        return before
    lines = str(error).splitlines() or [type(error).__name__]
    result = BEFORE_THE_FIRST_STEP | {"error": "; ".join(lines)}
    if not (path / "config.yaml").exists():
        run.write_config(config)
        run.write_json("run.json", {"command": sys.argv, "choices": choices})
    run.write_json("result.json", result)
    with Display(path / "run.log", quiet=True):
        LOG.error("%s", result["error"], exc_info=error)
    return result


def title(parts: Parts, choices: dict[str, str]) -> str:
    """The run's parts in a few words. A landscape has no data, and no method taught it."""
    if parts.data is None:
        return choices.get("model", "")
    return " / ".join(choices[k] for k in ("dataset", "method", "model") if k in choices)


def summary(parts: Parts, choices: dict[str, str]) -> list[str]:
    """What is about to be run."""
    n_parameters = sum(p.numel() for p in parts.energy.parameters())
    shown = SHOWN if parts.job is not None else SHOWN[:2]
    named = [f"{group} {choices[group]}" for group in shown if group in choices]
    lines = [
        "  ".join(named),
        f"{n_parameters:,} parameters  {parts.device} x{torch.get_num_threads()} "
        f"{str(parts.dtype).removeprefix('torch.')}  seed {parts.seed}",
    ]
    if parts.job is not None:
        data = parts.job.dataset
        lines.append(
            f"{len(data.train):,} points of shape {tuple(data.train.shape[1:])}, "
            f"{len(data.holdout):,} held out  {parts.job.n_steps:,} steps of {parts.job.batch_size}"
        )
        extent = max(parts.region.low.abs().max(), parts.region.high.abs().max())
        if extent > FAR:
            lines.append(
                f"warning: coordinates reach {extent:.3g} in the units of training, which the "
                "presets are not made for: dataset.standardize=true"
            )
    return lines


SHOWN = ("model", "sampler", "method", "dataset", "optimizer")


def closing(path: Path, result: dict[str, Any], trust: str, trains: bool) -> list[str]:
    """The numbers of the run, where its pictures are, and what one would type next."""
    metrics, shown = result["metrics"], relative(path)
    typed = shlex.quote(str(shown))
    lines = []
    if result["status"] == "interrupted" and not trains:
        return ["stopped; a landscape has no state to go on from: start it anew"]
    if result["status"] == "interrupted":
        return [
            f"stopped at step {result['step']}, saved",
            f"next     ebmtrain resume {typed}{trust}",
        ]
    if "kl" in metrics:
        how = "exact by quadrature"
        if "kl_se" in metrics:
            how = f"+- {metrics['kl_se']:.4f}, a mean over held-out points"
        lines.append(f"KL       {metrics['kl']:.4f} nats  KL(data || model), {how}")
    if "nll" in metrics:
        floor = f"  entropy floor {metrics['entropy']:.4f}" if "entropy" in metrics else ""
        error = f" +- {metrics['nll_se']:.4f}" if "nll_se" in metrics else ""
        lines.append(f"NLL      {metrics['nll']:.4f}{error} nats{floor}")
    elif "log_z" in metrics:
        lines.append(f"log Z    {metrics['log_z']:.4f}")
    if "accuracy" in metrics:
        error = f"{metrics['accuracy']:.4f} +- {metrics['accuracy_se']:.4f}"
        lines.append(f"accuracy {error}  calibration error {metrics['ece']:.4f}")
    picture = (
        "plots/landscape_final.png" if (path / "plots/landscape_final.png").exists() else "plots"
    )
    lines += [
        f"run      {shown}  ({result['seconds']:.1f} s)",
        f"picture  {shown / picture}",
        f"next     ebmtrain sample {typed} count=1000{trust}",
        f"         ebmtrain evaluate {typed}{trust}",
    ]
    return lines


def about(parts: Parts, choices: dict[str, str]) -> dict[str, Any]:
    """What made this run, for run.json."""
    return {
        "command": sys.argv,
        "choices": choices,
        "versions": {
            "ebmtrain": ebmtrain.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "git": git_state(),
        "device": str(parts.device),
        "threads": torch.get_num_threads(),
        "dtype": str(parts.dtype).removeprefix("torch."),
        "seed": parts.seed,
    }


def git_state() -> dict[str, Any] | None:
    """Commit of the working directory and whether it has changes; None outside of git."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], capture_output=True, text=True, check=True, timeout=5
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
