"""No model of data has a smaller NLL than their entropy; an estimate that says so has failed."""

from __future__ import annotations

from collections.abc import Mapping

from ebmtrain.evaluation.subject import Evaluation, Metric

ERRORS = 4.0  # standard errors beyond which chance explains it no longer
BEST = ("kl", "regret")


def held_to_floor(
    metrics: Mapping[str, Metric], entropy: float, error: float, what: str
) -> Evaluation:
    """The metrics with `entropy` and `regret`; without regret and KL where they mean nothing.

    Args:
        metrics: with `nll`.
        entropy: of the true density, in nats.
        error: standard error of the NLL.
        what: in the warning, what failed and which option to change.
    """
    nll = metrics["nll"]
    assert isinstance(nll, float)
    full = {**metrics, "entropy": entropy, "regret": nll - entropy}
    if not nll < entropy - ERRORS * error:
        return Evaluation(full, [])
    warning = (
        f"the NLL of {nll:.4f} is {entropy - nll:.2g} nats beneath the entropy of the data, where "
        f"no model can be: {what}"
    )
    return Evaluation({k: v for k, v in full.items() if k not in BEST}, [warning])
