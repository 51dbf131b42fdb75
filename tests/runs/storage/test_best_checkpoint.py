"""Which state best.pt holds, and what a run reports where its metric is missing."""

from __future__ import annotations

from ebmtrain.runs.storage.best_checkpoint import BestCheckpoint


def test_a_state_without_the_metric_neither_replaces_the_best_one_nor_is_silent():
    best = BestCheckpoint("kl")
    assert best.update({"kl": 0.5, "nll": 2.5}, 10)
    assert not best.update({"nll": 0.1}, 20)
    assert best.record == {"metric": "kl", "value": 0.5, "step": 10}
    (warning,) = best.final_warnings({"nll": 0.1})
    assert warning.startswith("kl is missing in the last evaluation: best.pt is of step 10")
    assert best.final_warnings({"kl": 0.52}) == []
    (warning,) = best.final_warnings({"kl": 0.7})
    assert warning.startswith("kl was 0.5000 at step 10 and is 0.7000 now")


def test_a_metric_that_is_never_measured_is_replaced_by_nll():
    best = BestCheckpoint("kl")
    assert best.final_warnings({}) == []
    assert best.fallback_warnings({"nll": 2.0})[0].endswith("best.pt follows nll")
    assert best.update({"nll": 2.0}, 10)
    assert best.record["metric"] == "nll"
    assert best.update({"nll": 3.0, "kl": 1.0}, 20)  # measured now: it selects from here on
    assert best.record == {"metric": "kl", "value": 1.0, "step": 20}
