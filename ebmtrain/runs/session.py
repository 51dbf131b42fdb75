"""One run: joins the training loop with evaluation, figures, files and console."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from ebmtrain.config.experiment import Experiment
from ebmtrain.errors import ConfigError, DivergedError, EbmtrainError, OutputError, out_of_memory
from ebmtrain.evaluation.alarms import energy_runaway, regularization_gap
from ebmtrain.evaluation.protocol import EvaluationInput, Evaluator, HasAtStart, split_timings
from ebmtrain.masks import lengths
from ebmtrain.runs.advice import fit_advice
from ebmtrain.runs.costs import cost_lines
from ebmtrain.runs.evaluate import evaluation_input, run_evaluations
from ebmtrain.runs.figures import RunFigures
from ebmtrain.runs.loggers.console import LOG, RunConsole, progress_lines
from ebmtrain.runs.loggers.files import FileLogger
from ebmtrain.runs.loggers.trackers import SafeLogger, tracker_named
from ebmtrain.runs.outcome import RunResult, divergence_error, error_message
from ebmtrain.runs.sampling import chain_starts, draw_samples, resample_chains
from ebmtrain.runs.storage.best_checkpoint import BestCheckpoint
from ebmtrain.runs.storage.checkpoint_schema import Checkpoint, validate_state
from ebmtrain.runs.storage.rundir import RunDir, relative_to_cwd
from ebmtrain.runs.summary import figure_title
from ebmtrain.runtime.signals import StopRequest, TerminationSignal, interruptible
from ebmtrain.samplers.draw import draw
from ebmtrain.score import energies
from ebmtrain.training.divergence import check_divergence
from ebmtrain.training.loop import StepRequests, training_loop
from ebmtrain.training.state import TrainState, initial_state
from ebmtrain.types import Logger, method_chains

if TYPE_CHECKING:
    from ebmtrain.runtime.team import Team


class Stepper(Protocol):
    """Computes updates; a result reports whether they were compiled."""

    @property
    def compiled(self) -> bool: ...


class Session:
    """The callbacks of a run (see `training.loop.Callbacks`) and the work after its last update.

    Args:
        name: of the run, for the titles of its figures.
        resumed: the checkpoint from which the run continues; None: a new run.
        stepper: computes the updates; None: `train_step`.
        stop: shared by the members of an ensemble; None: a new one.
        team: the processes that train the model; None: this one alone.
    """

    def __init__(
        self,
        experiment: Experiment,
        run: RunDir,
        console: RunConsole,
        name: str,
        resumed: Checkpoint | None = None,
        stepper: Stepper | None = None,
        stop: StopRequest | None = None,
        team: Team | None = None,
    ):
        self.experiment, self.run, self.console, self.name = experiment, run, console, name
        self.resumed, self.stepper, self.stop = resumed, stepper, stop or StopRequest()
        self.team = team
        saved: Mapping[str, Any] = resumed or {}
        self.step: int = saved.get("step", 0)
        self.energy_evaluations: int = saved.get("evaluations", 0)
        self.retries: list[dict[str, Any]] = saved.get("retries", [])
        self.best = BestCheckpoint(experiment.checkpoint.best, saved.get("best", {}))
        self.began = time.perf_counter() - saved.get("seconds", 0.0)
        self._restore_measurements(saved.get("measured", {}))
        self.timings: dict[str, Any] = {}
        self.model: EvaluationInput | None = None
        self.loggers: list[Logger] = [FileLogger(run), console]
        if tracker := experiment.config.get("tracker"):
            self.loggers.append(SafeLogger(tracker_named(tracker, run), tracker))
        self.figures = RunFigures(experiment, run, self.loggers)
        self.finished, self.alarm_logged = False, False
        self.costs_logged = False
        self.row: Mapping[str, float] = {}
        self.logged_warnings: set[str] = set()
        self.restored: Mapping[str, Any] = {}

    def _restore_measurements(self, measured: Mapping[str, Any]) -> None:
        """Sets the results of the last evaluation."""
        self.numbers: dict[str, Any] = measured.get("metrics", {})
        self.warnings: list[str] = measured.get("warnings", [])
        self.measured_at: int | None = measured.get("step")

    @property
    def seconds(self) -> float:
        """Wall clock of this run, earlier sessions included."""
        return time.perf_counter() - self.began

    def run_steps(self) -> StepRequests[dict[str, Any]]:
        """Trains, evaluates and draws figures; returns the content of result.json.

        Raises:
            Exception: any error that ends the run, after it was written to result.json.
        """
        error: Exception | None = None
        self.run.write_json("result.json", self._result("running", None))
        try:
            with self.stop, self.stop.in_this_context():
                yield from self._train_and_finish()
            status = "finished" if self.finished else "interrupted"
        except TerminationSignal as caught:
            if caught.request is not self.stop:  # the second signal ends the process, unsaved
                raise
            status = "interrupted"
        except DivergedError as caught:
            status, error = "diverged", caught
        except Exception as caught:  # written to result.json before it is raised
            status, error = (
                "failed",
                self._out_of_memory_error() if out_of_memory(caught) else caught,
            )
        finally:
            for logger in self.loggers:
                logger.close()
        result = self._result(status, error)
        try:
            self.run.write_json("result.json", result)
            if self.experiment.plots.every and status != "interrupted":
                self.figures.write_page()
        except OutputError:
            if error is None:
                raise  # else the first error is reported
        if error is not None:
            trace = None if isinstance(error, EbmtrainError) else error
            # Into run.log only: the command line prints the error.
            LOG.error("%s", error, exc_info=trace, extra={"file_only": True})
            raise error
        return result

    def _out_of_memory_error(self) -> ConfigError:
        saved = self.run.checkpoints / "last.pt"
        found = f"; the last checkpoint is {relative_to_cwd(saved)}" if saved.exists() else ""
        return ConfigError(
            "out of memory: lower train.batch_size, model.width, method.slots, samples.chains, "
            f"quality.points or evaluation.resolution, whichever is large{found}"
        )

    def _train_and_finish(self) -> StepRequests[None]:
        experiment = self.experiment
        if experiment.train_spec is None:
            self.stop.raise_from_now_on()
            self.numbers = self._run_evaluations(experiment.energy, {})
            self._write_samples_and_figures(experiment.energy, {})
            self.finished = True
            return
        spec = experiment.train_spec
        spec = replace(spec, shards=replace(spec.shards, team=self.team))
        state = initial_state(spec, experiment.energy, experiment.generator("train"))
        if self.resumed:
            state.load_state_dict(self.resumed)
            # A killed run may have left old checkpoints, and rows after this one.
            self.run.prune_checkpoints(state.step, experiment.checkpoint.keep)
            self.run.truncate_metrics(self.resumed["metrics_size"])
        yield from training_loop(spec, state, self)
        self.step, self.energy_evaluations = state.step, state.evaluations
        if state.step < spec.n_steps or state.pending is not None:
            return
        method, _ = state.gather()
        self.stop.raise_from_now_on()
        if self.measured_at != state.step:  # killed after the last update, then resumed
            self.numbers = self._run_evaluations(state.eval_model, method)
        for text in self.best.final_warnings(self.numbers):
            warning = fit_advice(text, experiment.config)
            LOG.warning("warning: %s", warning)
            self.warnings.append(warning)
        error = divergence_error(experiment, state.step, self.numbers, self.row)
        self.name += "  diverged" if error is not None else ""
        self._write_samples_and_figures(state.eval_model, method)
        if error is not None:  # its figures show what happened
            raise error
        self.finished = True

    # Callbacks of the training loop

    def evaluate(self, state: TrainState, last: bool) -> dict[str, Any]:
        self.step = state.step
        if not self.costs_logged:
            with interruptible():
                lines = cost_lines(self.experiment, state.eval_model, step=state.step)
            for line in lines:
                LOG.info("%s", line)
            self.costs_logged = True
        due = [k for k, e in self.experiment.evaluators.items() if last or _is_due(e, state.step)]
        if not due:
            return {}
        self._check_divergence(state)
        method, _ = state.gather()
        self.numbers = self._run_evaluations(state.eval_model, method, due)
        error = divergence_error(self.experiment, self.step, self.numbers, self.row)
        if error is not None and self._retries_left(state):
            raise error
        return {k: v for k, v in self.numbers.items() if isinstance(v, float)}

    def _run_evaluations(
        self, energy: nn.Module, method: Mapping[str, Tensor], due: Collection[str] | None = None
    ) -> dict[str, Any]:
        self.model = evaluation_input(self.experiment, energy, method)
        with interruptible():
            metrics, warnings = run_evaluations(self.experiment, self.model, due)
        numbers, self.timings = split_timings(metrics)
        self.warnings, self.measured_at = list(warnings), self.step
        every = due is None or len(due) == len(self.experiment.evaluators)
        left_out = any("left out" in warning for warning in warnings)  # this once, or for good
        if self.experiment.train_spec is not None and every and not left_out:
            self.warnings += self.best.fallback_warnings(metrics)
        for warning in self.warnings:
            if warning not in self.logged_warnings:
                LOG.warning("warning: %s (step %d)", warning, self.step)
            self.logged_warnings.add(warning)
        return numbers

    def _retries_left(self, state: TrainState) -> bool:
        spec = self.experiment.train_spec
        return spec is not None and len(state.retries) < spec.retries

    def log(self, state: TrainState, row: Mapping[str, float]) -> None:
        self.row = row
        self.energy_evaluations = state.evaluations
        so_far = {"seconds": round(self.seconds, 3), "energy_evaluations": state.evaluations}
        for logger in self.loggers:
            logger.log(state.step, {**so_far, **row})
        regularization = self.experiment.config["method"].get("energy_regularization", 0.0)
        alarm = energy_runaway(row, self.experiment.standardization.shift.numel())
        alarm = alarm or regularization_gap(row, regularization)
        if alarm is not None and not self.alarm_logged:
            advised = fit_advice(alarm, self.experiment.config)
            LOG.warning("warning: %s (step %d)", advised, state.step)
            self.alarm_logged = True

    def plot(self, state: TrainState, last: bool) -> None:
        every = self.experiment.plots.every
        due = every and (last or state.step % every == 0)
        if due and self.figures.is_planar:
            self._check_divergence(state)
            title, name = f"step {state.step}", f"{state.step:08d}"
            method, _ = state.gather()
            with interruptible(), progress_lines("landscape"):
                points = self._figure_points(state, method)
                self.figures.draw_landscape(state.eval_model, points, title, name)

    def save(self, state: TrainState, now: bool) -> None:
        settings = self.experiment.checkpoint
        due = now or state.step % settings.every == 0
        improved = (
            state.pending is None
            and self.measured_at == state.step
            and self.best.update(self.numbers, state.step)
        )
        if not (due or improved):
            return
        self._check_divergence(state)
        saved: Checkpoint = {
            **state.state_dict(),
            "frame": self.experiment.data_spec.state_dict(),
            "best": self.best.record,
            "measured": {
                "step": self.measured_at,
                "metrics": self.numbers,
                "warnings": self.warnings,
            },
            "seconds": self.seconds,
            "metrics_size": self.run.metrics_size(),
        }
        self.run.save_checkpoint(saved, state.step, settings.keep, due=due, best=improved)

    def _check_divergence(self, state: TrainState) -> None:
        """Raises DivergedError for a diverged state."""
        assert self.experiment.train_spec is not None
        check_divergence(self.experiment.train_spec, state)

    def restore_last_checkpoint(self, state: TrainState) -> None:
        found, skipped = self.run.load_checkpoint()
        for note in skipped:
            LOG.warning("warning: %s", note)
        saved = validate_state(found)
        state.load_state_dict(saved)
        self.restored = saved
        # `best` is kept: best.pt holds a good state.
        self._restore_measurements(saved["measured"])
        self.run.truncate_metrics(saved["metrics_size"])
        self.step = state.step
        self.console.rewind(state.step)

    def on_retry(self, state: TrainState) -> None:
        assert self.experiment.train_spec is not None
        self.retries, latest = state.retries, state.retries[-1]
        LOG.warning(
            "warning: training diverged by step %d; retry %d of %d: back to step %d, at lr=%g",
            latest["step"], len(state.retries), self.experiment.train_spec.retries,
            latest["back_to"], latest["lr"],
        )  # fmt: skip
        if self.team is not None:
            self.team.load({**self.restored, "retries": state.retries})
        self.save(state, now=True)

    def should_stop(self) -> bool:
        if self.team is not None and self.stop.signal is None:
            self.stop.signal = self.team.signal or None  # that another process received
        return self.stop.signal is not None

    # After training

    def _figure_points(self, state: TrainState, method: Mapping[str, Tensor]) -> Tensor:
        """Points of the model: the method's own chains if it has some, else short chains from
        points of its own sampler, or from noise."""
        n = self.experiment.plots.points
        generator = self.experiment.generator("picture", state.step)
        kept = method_chains(method)
        if kept is not None:
            return resample_chains(kept, n, generator)
        sampler, energy = self.experiment.sampler, state.eval_model
        first = chain_starts(self.experiment, energy, "chains", n, method, generator)
        return draw(sampler, energy, first, count=n, burn_in=100, thin=1, generator=generator)

    def _write_samples_and_figures(self, energy: nn.Module, method: Mapping[str, Tensor]) -> None:
        """Writes the final samples and all figures."""
        experiment, wanted = self.experiment, self.experiment.samples
        with progress_lines("final samples"):
            generator = experiment.generator("samples")
            samples = draw_samples(experiment, energy, method, wanted, generator)
        x = experiment.standardization.to_data(samples)
        also = {"lengths": lengths(x)} if experiment.data_spec.ragged else {}
        self.run.write_arrays("samples/final.npz", x=x, energy=energies(energy, samples), **also)
        if not experiment.plots.every:
            return
        # With the chains of the evaluation of this state, if it was evaluated.
        known = self.model if self.measured_at == self.step else None
        model = known or evaluation_input(experiment, energy, method)
        title = figure_title(self.name, self.step, self.numbers)
        with progress_lines("figures"):
            notices = self.figures.draw_all(model, samples, title)
        for notice in notices:
            LOG.info("%s", notice)

    def _result(self, status: str, error: Exception | None) -> dict[str, Any]:
        """The content of result.json, without metrics if the last evaluation is of an earlier
        step."""
        current = self.measured_at == self.step
        result = RunResult(
            status=status,
            step=self.step,
            seconds=round(self.seconds, 3),
            energy_evaluations=self.energy_evaluations,
            metrics=self.numbers if current else {},
            metrics_step=self.measured_at if current else None,
            timings=self.timings if current else {},
            warnings=[*self.warnings, *self.figures.failures.values()],
            best=self.best.record or None,
            retries=self.retries,
            compiled=self.stepper is not None and self.stepper.compiled,
            error=None if error is None else error_message(error),
            signal=self.stop.signal,
        )
        return vars(result)


def _is_due(evaluator: Evaluator, step: int) -> bool:
    """True if the evaluator runs at this step, which need not be the last."""
    begun = step > 0 or not isinstance(evaluator, HasAtStart) or evaluator.at_start
    return begun and step % evaluator.every == 0
