"""What a run says of its model."""

import math

from ebmtrain.drawing import finite
from ebmtrain.evaluation.subject import Evaluation


def test_what_is_no_number_is_not_sold_as_one():
    metrics = {"log_z": 1.0, "nll": -math.inf, "nll_se": math.nan, "mode_weights": [0.5, math.nan]}
    kept, warnings = finite(Evaluation(metrics, ["log Z is uncertain"]))
    assert kept == {"log_z": 1.0}
    assert [warning.split()[0] for warning in warnings] == ["log", "nll", "nll_se", "mode_weights"]
    assert "nll is -inf, left out" in warnings[1]
