"""The NLL with a log Z that the training objective has learnt, and its comparison with others."""

from __future__ import annotations

from collections.abc import Mapping

from ebmtrain.evaluation.exact import log_density, mean_nll
from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Metric

_MAX_DIFFERENCE_SE = 4.0
_MAX_DIFFERENCE_NATS = 0.1
_REMEDY = "the learnt one is not a normaliser: raise train.steps, or use nll"


def check_learnt_log_z(metrics: Mapping[str, Metric], model: EvaluationInput) -> Evaluation:
    """`nll_learnt`, the NLL of the held-out points at T = 1 with `log_z_learnt`; and a warning
    where log Z by quadrature or by annealing differs from it by more than 0.1 nats and 4 standard
    errors, or its bounds exclude it.

    Args:
        metrics: `log_z_learnt` and, where they are known, `log_z`, `log_z_se`, `log_z_lower` and
            `log_z_upper`, all in the data's units.
    """
    known = {k: v for k, v in metrics.items() if isinstance(v, float)}
    learnt, units, dataset = known["log_z_learnt"], model.standardization, model.dataset
    found: dict[str, Metric] = {}
    if dataset is not None:
        u = units.to_standard(dataset.holdout)
        log_p = log_density(model.reduced_energy(), u, learnt) + units.log_slope(dataset.holdout)
        found["nll_learnt"] = mean_nll(log_p)[0]
    margin = max(_MAX_DIFFERENCE_NATS, _MAX_DIFFERENCE_SE * known.get("log_z_se", 0.0))
    low = known.get("log_z", known.get("log_z_lower", learnt))
    high = known.get("log_z", known.get("log_z_upper", learnt))
    if low - margin <= learnt <= high + margin:
        return Evaluation(found, [])
    other = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
    return Evaluation(
        found, [f"log_z_learnt is {learnt:.4g} nats, and log Z is {other} by evaluation: {_REMEDY}"]
    )
