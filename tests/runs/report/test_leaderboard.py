"""Who is compared with whom, by what number, at which budget."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ebmtrain.errors import ConfigError
from ebmtrain.runs.report.entry import Entry
from ebmtrain.runs.report.figures import middle_run
from ebmtrain.runs.report.leaderboard import COSTS, Group, Spread, curve_points, sections

DATA = {"dataset._target_": "x.toy", "dataset.std": "1", "dataset.n_train": "100"}


def entry(name: str = "run", status: str = "finished", **changes) -> Entry:
    """A run whose `kl` follows the (cost, value) pairs of `curve`, at twice the cost in seconds."""
    pairs = changes.pop("curve", [(0, 2.0), (100, 0.1)])
    curve = [{"energy_evaluations": x, "seconds": 2.0 * x, "kl": y} for x, y in pairs]
    method = changes.pop("method", "pcd")
    choices = {"dataset": "moons", "method": method, "optimizer": "adam"}
    settings = {
        **DATA,
        "method._target_": method,
        "method.k": "10",
        "optimizer.lr": "1",
        **changes.pop("settings", {}),
    }
    metrics = changes.pop("metrics", {"kl": pairs[-1][1]})
    return Entry(path=Path(name), name=name, status=status, choices=choices, settings=settings,
                 metrics=metrics, curve=curve, **changes)  # fmt: skip


def test_mean_and_deviation_over_the_seeds_that_finished():
    runs = [entry(curve=[(9, kl)], seed=str(i)) for i, kl in enumerate((0.1, 0.2, 0.6))]
    (board,) = sections([*runs, entry(status="diverged", metrics={"kl": 99.0})])
    (group,) = board.groups
    assert len(group.runs) == 4
    spread = group.spread("kl")
    assert spread is not None
    assert spread == pytest.approx((0.3, math.sqrt((0.04 + 0.01 + 0.09) / 2), 3))
    single = Spread.of([0.5])
    assert single is not None
    assert math.isnan(single.std)


def test_a_metric_missing_for_some_seeds():
    (board,) = sections([entry(metrics={"kl": 0.5, "mmd": 1.0}), entry(metrics={"kl": 0.7})])
    assert [s and s.n for s in map(board.groups[0].spread, ("kl", "mmd", "nll"))] == [2, 1, None]


def test_groups_are_sorted_and_those_without_the_metric_are_last():
    lrs = {"1": 0.3, "2": None, "3": 0.1}
    runs = [entry(settings={"optimizer.lr": lr}, metrics={"kl": kl} if kl else {})
            for lr, kl in lrs.items()]  # fmt: skip
    (board,) = sections(runs)
    assert [g.label for g in board.groups] == [f"optimizer.lr={lr}" for lr in "312"]
    assert [g.rank for g in board.groups] == [1, 2, 3]


def test_an_unknown_metric_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="no finished run has the metric kll; did you mean kl"):
        sections([entry()], "kll")
    assert sections([entry()], "seconds")[0].sort == "seconds"


def test_only_runs_on_the_same_distribution_are_compared():
    """How many points there are does not change what they are drawn from; a width does."""
    runs = [entry(), entry(settings={"dataset.n_train": "7"}), entry(settings={"dataset.std": "2"})]
    boards = sections(runs)
    assert [board.dataset for board in boards] == ["moons dataset.std=1", "moons dataset.std=2"]
    assert [len(board.groups) for board in boards] == [2, 1]
    assert boards[0].at_equal("seconds") is not None
    assert boards[1].at_equal("seconds") is None


def test_a_landscape_is_not_compared_with_a_run():
    shown = entry(metrics={"log_z": 1.0})
    object.__setattr__(shown, "curve", [])
    assert [board.dataset for board in sections([entry(), shown])] == ["moons", "landscapes"]


def test_labels_name_only_differences_that_no_group_choice_explains():
    runs = [
        entry(settings={"method.k": "1"}),
        entry(settings={"method.k": "10"}),
        entry(method="dsm", settings={"method.sigma": "0.3"}),
    ]
    (board,) = sections(runs)
    labels = {group.label for group in board.groups}
    assert labels == {"method=pcd method.k=1", "method=pcd method.k=10", "method=dsm"}
    (alone,) = sections([entry()])
    assert alone.groups[0].label == "method=pcd"


def test_at_equal_budgets_each_run_shows_its_last_evaluation_within():
    cheap = [entry(curve=[(0, 3.0), (50, 0.4), (90, 0.3)]), entry(curve=[(0, 3.0), (80, 0.2)])]
    dear = [entry(method="cd", curve=[(0, 5.0), (70, 0.5), (81, 0.05), (900, 0.01)])]
    (board,) = sections([*cheap, *dear])
    budget = board.at_equal("energy_evaluations")
    assert budget is not None
    # All have reached 80, where the second seed ends: 0.05 came after it, 0.3 too.
    assert (budget.limit, budget.set_by) == (80, 2)
    first, second = budget.reached
    assert (first.group.label, second.group.label) == ("method=pcd", "method=cd")
    assert first.value == pytest.approx((0.3, math.sqrt(0.02), 2))
    assert first.at is not None
    assert first.at.mean == 65
    assert second.value is not None
    assert (second.value.mean, second.value.n) == (0.5, 1)
    seconds = board.at_equal("seconds")
    assert seconds is not None
    assert seconds.limit == 160


def test_an_evaluation_without_kl_is_not_replaced_by_an_earlier_one():
    """KL was left out of the last evaluations of one run: its row shows none, and the budget is not
    cut to the last evaluation that has it."""
    left_out = entry(metrics={"nll": 2.0})
    rows = [{"energy_evaluations": x, "nll": 2.0} for x in (50, 90)]
    object.__setattr__(left_out, "curve", [{"energy_evaluations": 10, "kl": 0.4}, *rows])
    (board,) = sections([left_out, entry(method="cd", curve=[(20, 0.5), (80, 0.1)])])
    assert board.sort == "kl"
    assert [group.label for group in board.groups] == ["method=cd", "method=pcd"]
    assert board.groups[1].spread("kl") is None
    budget = board.at_equal("energy_evaluations")
    assert budget is not None
    assert budget.limit == 80
    found = {r.group.label: r.value and r.value.mean for r in budget.reached}
    assert found == {"method=cd": 0.1, "method=pcd": None}


def test_an_evaluation_before_the_first_update_is_ignored():
    """A run that was evaluated at its ends only has nothing within the budget of a shorter one."""
    short, long = (
        entry(curve=[(0, 3.0), (50, 0.4)]),
        entry(method="cd", curve=[(0, 5.0), (80, 0.1)]),
    )
    for run in (short, long):
        for row in run.curve:
            row["step"] = float(row["energy_evaluations"] > 0)
    (board,) = sections([short, long])
    budget = board.at_equal("energy_evaluations")
    assert budget is not None
    assert budget.limit == 50
    found = {r.group.label: r.value and r.value.mean for r in budget.reached}
    assert found == {"method=pcd": 0.4, "method=cd": None}


def test_runs_that_logged_no_cost_set_no_budget():
    """As those of the first version."""
    old = entry(method="cd")
    object.__setattr__(old, "curve", [{"step": 5, "kl": 0.1}])
    third = entry(method="ed", curve=[(0, 1.0), (60, 0.2)])
    (board,) = sections([entry(), old, third])
    budget = board.at_equal("energy_evaluations")
    assert budget is not None
    assert budget.limit == 60
    assert [r.value is None for r in budget.reached] == [False, False, True]


def test_costs_are_those_of_the_run():
    run = entry(step=20, seconds=7.5, energy_evaluations=4000)
    assert {name: run.numbers[name] for name in COSTS} == {
        "step": 20, "seconds": 7.5, "energy_evaluations": 4000,
    }  # fmt: skip


def test_points_of_a_curve_are_cost_and_value_of_rows_that_have_both():
    run = entry(curve=[(100, 0.1), (0, 2.0)])
    object.__setattr__(run, "curve", [*run.curve, {"seconds": 3.0, "nll": 1.0}, {"kl": 9.0}])
    assert curve_points(run, "energy_evaluations", "kl") == [(0, 2.0), (100, 0.1)]
    assert curve_points(run, "seconds", "kl") == [(0, 2.0), (200, 0.1)]
    assert curve_points(run, "seconds", "nll") == [(3, 1.0)]


@pytest.mark.parametrize("values", [(0.3, 0.1, 0.2), (0.1, 0.2, 0.3, 0.4), (0.5,)])
def test_themiddle_run_run_is_the_median_by_the_metric(values):
    """Of an even number the better one of the two in the middle."""
    runs = [entry(curve=[(9, kl)], metrics={"kl": kl, "nll": -kl}) for kl in values]
    missing = entry(metrics={"nll": 0.0})
    group = Group("a", [*runs, missing])
    expected = sorted(values)[(len(values) - 1) // 2]
    assert middle_run(group, "kl").metrics["kl"] == expected
    assert middle_run(Group("a", [missing]), "kl") is missing
