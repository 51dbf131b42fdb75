"""`ebmtrain search key=VALUES ... search.trials=N search.seeds=S`: searches the values of options
that give the best runs, with Optuna (extra `search`). VALUES are of Hydra's grammar:

    choice(a,b) or a,b      range(2,12,2)      interval(0,1)      tag(log,interval(1e-4,1e-1))

A trial is the mean of search.seeds runs, by checkpoint.best or the last energy distance. A trial
worse than the median of the others after some of its seeds begins no further one. The same command
with the same hydra.sweep.dir continues a search, and several such processes share it.
"""

from __future__ import annotations

import csv
import io
import math
import shlex
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebmtrain.cli.arguments import check_options, parse_overrides
from ebmtrain.cli.compose import adopt_model
from ebmtrain.cli.frozen_presets import FrozenPresets
from ebmtrain.cli.habits import refuse_habits
from ebmtrain.cli.jobs import claim, mean_objective, report_job, start_job
from ebmtrain.cli.search_space import Dimension, parse_space
from ebmtrain.config import hydra_private, presets
from ebmtrain.config.presets import Presets
from ebmtrain.errors import ConfigError, counted, reason
from ebmtrain.runs.report.discovery import PRESETS_FOLDER, find_runs
from ebmtrain.runs.storage.manifest import MANIFEST, Job, Manifest, is_sweep
from ebmtrain.runtime.optional import import_optional
from ebmtrain.runtime.processes import process_count
from ebmtrain.runtime.signals import TerminationSignal

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

USAGE = "ebmtrain search key=VALUES ... [key=value ...] [search.trials=20] [search.seeds=1]"

_JOURNAL, _TABLE = "journal.log", "trials.csv"
_STUDY = "search"
_FOLDER = "hydra.sweep.dir"
_MAX_PRINTED_ROWS = 40  # a longer table is only written to the file
_WAIT_S = 0.02  # for the process that begins another trial


def main(arguments: list[str]) -> int:
    """Runs trials until `search.trials` of them have begun; returns the exit code: 1 if no trial
    has a value."""
    if process_count() > 1:
        raise ConfigError("a search is no run of torchrun: start ebmtrain search several times")
    words, user = parse_overrides(arguments)
    chosen = Presets(user=user)
    refuse_habits(words, chosen)
    presets.extend_import_path(user)
    options, words = _split_options(words)
    space, fixed = parse_space(words)
    import_optional("optuna", "ebmtrain search", "search")
    folder, first_seed, trust = _check(chosen, space, fixed)
    plain = [word for word in fixed if word.partition("=")[0] not in ("seed", _FOLDER)]
    seeds = range(first_seed, first_seed + options["search.seeds"])
    varied = [word for word in words if word not in fixed]
    settings = [*plain, *varied, f"seed={first_seed}", f"search.seeds={len(seeds)}"]
    frozen = _open(folder, chosen, settings)
    search = _Search(folder, frozen, space, plain, seeds, options["search.trials"], trust)
    stopped = 0
    try:
        search.work()
    except TerminationSignal as stop:
        stopped = stop.signal
    code = search.report(["--config-dir", str(user)] if user else [], stopped=bool(stopped))
    return 128 + stopped if stopped else code


def _split_options(words: Sequence[str]) -> tuple[dict[str, int], list[str]]:
    """`search.trials` and `search.seeds`, and the other arguments."""
    options = {"search.trials": 20, "search.seeds": 1}
    given = {w.partition("=")[0]: w.partition("=")[2] for w in words if w.startswith("search.")}
    if "search.metric" in given:
        raise ConfigError("a search minimizes checkpoint.best: checkpoint.best=kl, say")
    check_options(given, tuple(options))
    for key, text in given.items():
        if not text.isdecimal() or not 0 < int(text) < 10**6:
            raise ConfigError(
                f"{key}={text} is no number of {key.partition('.')[2]}: give 1 or more"
            )
        options[key] = int(text)
    return options, [word for word in words if not word.startswith("search.")]


def _check(
    chosen: Presets, space: Sequence[Dimension], fixed: Sequence[str]
) -> tuple[Path, int, tuple[str, ...]]:
    """Validates each end of the space before anything is written.

    Returns:
        The folder, the first seed, and the packages whose parts the user chose.
    """
    from ebmtrain.config.ensemble import member_configs
    from ebmtrain.config.instantiate import instantiate_part
    from ebmtrain.config.trust import packages
    from ebmtrain.config.validate import validate

    hydra = [word for word in fixed if word.lstrip("+~").startswith(("hydra.", "hydra/"))]
    for word in hydra:
        if word.partition("=")[0] != _FOLDER or word == f"{_FOLDER}=":
            raise ConfigError(f"{word}: of Hydra's options a search has {_FOLDER}=FOLDER")
    loader, ends = chosen.loader(), [dimension.ends() for dimension in space]
    first = [words[0] for words in ends]
    points = [
        first,
        *([*first[:i], w, *first[i + 1 :]] for i, ws in enumerate(ends) for w in ws[1:]),
    ]
    trust: dict[str, None] = {}
    path, seed = None, 0
    for point in points:
        config = hydra_private.load_config(loader, [*fixed, *point], multirun=True)
        chosen.check_targets(config)
        train = config.get("train") or {}
        if train.get("leave_one_out") or train.get("ensemble") not in (None, 1):
            raise ConfigError("a trial has search.seeds=N: train.ensemble=null leave_one_out=false")
        if path is None:
            path = hydra_private.fix_sweep_directory(config)
        adopt_model(config, [*fixed, *point])
        (member,) = member_configs(config)
        valid = validate(member)
        if point is first:  # data that cannot be read leave nothing behind
            instantiate_part(valid, "dataset")
            seed = valid["seed"]
        trust |= dict.fromkeys(packages(member))
    assert path is not None
    return path, seed, tuple(trust)


def _open(folder: Path, chosen: Presets, settings: Sequence[str]) -> FrozenPresets:
    """Begins the folder of a search, or joins it; returns its presets.

    Raises:
        ConfigError: it holds other files, or a search with other arguments.
    """

    def check() -> None:
        names = {p.name for p in folder.iterdir() if p.name[0] != "."} if folder.is_dir() else set()
        if names - {PRESETS_FOLDER} and not is_sweep(folder):
            raise ConfigError(f"{folder} is not an empty folder: choose another {_FOLDER}")

    check()  # before anything is written, the lock included
    with _alone(folder):
        check()
        if not (folder / MANIFEST).exists():
            shutil.rmtree(folder / PRESETS_FOLDER, ignore_errors=True)  # of a killed process
            kept = chosen.freeze((folder / PRESETS_FOLDER).absolute())
            command = ("ebmtrain", "search", *settings)
            Manifest(
                command=command, config_name="config", versions={}, presets=kept.digest(), jobs=()
            ).write(folder)
        manifest = Manifest.read(folder)
    if manifest.jobs:
        raise ConfigError(f"{folder} holds a sweep: choose another {_FOLDER}")
    if sorted(manifest.command[2:]) != sorted(settings):
        raise ConfigError(
            f"{folder} holds the search of other arguments, {shlex.join(manifest.command)}: repeat "
            f"these, or choose another {_FOLDER}"
        )
    return FrozenPresets(folder, manifest)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits for the lock of a folder, and holds it."""
    while True:
        with claim(folder, "", quiet=True) as locked:
            if locked is not None:
                yield
                return
        time.sleep(_WAIT_S)


@dataclass
class _Search:
    """
    Args:
        folder: with the journal, and a folder for each trial.
        presets: of the folder.
        space, fixed: see `parse_space`; without the seed and the options of Hydra.
        seeds: of the runs of a trial.
        n_trials: that all processes begin together.
        trust: see `config.validate.validate`.
    """

    folder: Path
    presets: FrozenPresets
    space: Sequence[Dimension]
    fixed: Sequence[str]
    seeds: range
    n_trials: int
    trust: tuple[str, ...]

    def __post_init__(self) -> None:
        import optuna

        from ebmtrain.cli.search_journal import open_journal

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            with _alone(self.folder):
                self.storage = open_journal(self.folder / _JOURNAL)
                self.study: Study = optuna.create_study(
                    storage=self.storage,
                    study_name=_STUDY,
                    load_if_exists=True,
                    pruner=optuna.pruners.MedianPruner(),
                )
        except (ValueError, KeyError, TypeError) as error:  # of a damaged line
            raise ConfigError(
                f"{self.folder / _JOURNAL} cannot be read ({reason(error)}): restore it, or choose "
                f"another {_FOLDER}"
            ) from error

    def work(self) -> None:
        """Continues trials whose process has ended, and begins others.

        Raises:
            TerminationSignal: a signal stopped a run, whose state was saved.
        """
        while any(self._take(number) for number in self._numbers()):
            pass  # a process may have ended meanwhile

    def _numbers(self) -> Iterator[int]:
        """Trials in progress, of any process, and new ones until there are enough."""
        yield from [trial.number for trial in self._trials() if not trial.state.is_finished()]
        while (number := self._begin()) is not None:
            yield number

    def _trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _begin(self) -> int | None:
        """A new trial with its values; None if there are enough."""
        import optuna

        with _alone(self.folder):
            count = len(self._trials())
            if count >= self.n_trials:
                return None
            # Its own seed for each trial: processes do not propose the same values.
            self.study.sampler = optuna.samplers.TPESampler(
                seed=(self.seeds[0] + count) % 2**32, constant_liar=True
            )
            trial = self.study.ask()
            self._words(trial)
            return trial.number

    def _words(self, trial: Trial) -> list[str]:
        return [dimension.argument(trial) for dimension in self.space]

    def _take(self, number: int) -> bool:
        """True if this process ran the trial; False if it has ended, or another process holds it
        by the lock of its folder."""
        from optuna.trial import Trial, TrialState

        path = self.folder / str(number)
        with claim(path, "", quiet=True) as locked:
            if locked is None or self._trials()[number].state.is_finished():
                return False
            study = self.storage.get_study_id_from_name(_STUDY)
            found = self.storage.get_trial_id_from_study_id_trial_number(study, number)
            trial = Trial(self.study, found)
            words, values = [*self.fixed, *self._words(trial)], []
            told = self._trials()[number].intermediate_values
            for i, seed in enumerate(self.seeds):
                values.append(self._value(number, [*words, f"seed={seed}"], path / f"seed={seed}"))
                mean = statistics.fmean(values)
                if not math.isfinite(mean):
                    break
                if i not in told:
                    trial.report(mean, i)
                if seed != self.seeds[-1] and trial.should_prune():
                    self.study.tell(number, state=TrialState.PRUNED)
                    return True
            self.study.tell(number, statistics.fmean(values))
        return True

    def _value(self, number: int, words: Sequence[str], path: Path) -> float:
        """The objective of a run, which is begun or continued; infinity if it fails or diverges."""
        from ebmtrain.runs.launch import resume
        from ebmtrain.runs.storage.atomic_io import lock_directory
        from ebmtrain.runs.storage.rundir import RunDir

        job = Job(number, "", tuple(words))
        name = f"trial {number}  {' '.join(w for w in words if w not in self.fixed)}"
        with lock_directory(path) as locked:
            result = RunDir(path).read_json("result.json")
            if result.get("status") not in ("finished", "failed", "diverged"):
                if (path / "config.yaml").exists():
                    run = partial(resume, path, None, self.trust, quiet=True, locked=locked)
                    result = report_job(run, path, name)
                else:
                    config, choices = self.presets.compose(job)
                    (result,) = start_job(
                        config, words, choices, path, name, command=("ebmtrain", *words),
                        trust=self.trust, locked=locked,
                    )  # fmt: skip
        value = mean_objective([result], in_sweep=True)
        return value if result["status"] == "finished" and value is not None else math.inf

    def report(self, flags: Sequence[str], *, stopped: bool) -> int:
        """Writes the report of the runs and trials.csv, and prints them with the command of the
        best trial; returns 1 if no trial has a value.

        Args:
            flags: of that command.
        """
        from ebmtrain.runs.report.tables import Table
        from ebmtrain.runs.report.write import report
        from ebmtrain.runs.storage.atomic_io import write_file

        trials = self._trials()
        count, left = (
            counted(len(trials), "trial"), sum(not t.state.is_finished() for t in trials)
        )  # fmt: skip
        if left and not stopped:
            print(f"search   {self.folder}  ({left} of {count} in progress elsewhere)")
            return 0
        if find_runs(self.folder):
            report(self.folder)
        ranked = sorted(trials, key=_rank)
        headings = ["trial", "state", "seeds", "objective", *(d.key for d in self.space)]
        rows = [[*_cells(t), *(str(t.params.get(d.key, "")) for d in self.space)] for t in ranked]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([headings, *rows])
        write_file(self.folder, _TABLE, text.getvalue().encode())
        if len(rows) <= _MAX_PRINTED_ROWS:
            Table("Trials, the best first", headings, rows, 2).show()
        pruned = sum(t.state.name == "PRUNED" for t in trials)
        remarks = [count, f"{pruned} pruned", *([f"{left} interrupted"] if left else [])]
        print(f"search   {self.folder}  ({', '.join(remarks)}; {self.folder / _TABLE})")
        if not ranked or _rank(ranked[0])[0]:
            return 1
        best = [f"{d.key}={ranked[0].params[d.key]}" for d in self.space]
        print(f"best     {shlex.join(['ebmtrain', *flags, *self.fixed, *best])}")
        return 0


def _rank(trial: FrozenTrial) -> tuple[bool, float, int]:
    """Sorts trials with a value first, the least value at the start."""
    whole = trial.state.name == "COMPLETE" and math.isfinite(trial.value or 0.0)
    return not whole, (trial.value or 0.0) if whole else 0.0, trial.number


def _cells(trial: FrozenTrial) -> list[str]:
    """Number, state, number of seeds with a value, and their mean."""
    means: Mapping[int, Any] = trial.intermediate_values
    state = {"COMPLETE": "finished", "PRUNED": "pruned"}.get(trial.state.name, "running")
    if state == "finished" and not math.isfinite(trial.value or 0.0):
        return [str(trial.number), "failed", str(len(means)), ""]
    mean = f"{means[max(means)]:.6g}" if means else ""
    return [str(trial.number), state, str(len(means)), mean]
