"""What the metrics of all evaluators say together about samples and model."""

from __future__ import annotations

from collections.abc import Mapping

from ebmtrain.datasets.extremes import extreme_values
from ebmtrain.evaluation.diagnostics import MAX_RHAT, MIN_ESS
from ebmtrain.types import Dataset

# Multiples of the floor, the 95 % quantile for perfect samples. The null distribution of the first
# two is sum_k lambda_k (chi^2_1 - 1). Its tail is heaviest where one eigenvalue dominates: then the
# floor is (3.84 - 1) lambda and the quantile of one in a thousand (10.83 - 1) lambda, 3.46 times as
# large. The third has a positive mean, and with heavy tails no such bound: perfect samples of them
# exceed 1.5 times its floor in 6 to 24 % of the cases.
_DISTANCES = {
    "energy_distance": ("energy distance", 3.5),
    "mmd2": ("MMD^2", 3.5),
    "sliced_wasserstein": ("sliced Wasserstein distance", 2.0),
}
_MAX_WEIGHT_ERROR_SE, _MAX_WEIGHT_ERROR = 4.0, 0.05
_GOOD_KL_NATS = 0.05
# Objectives that compare scores, on which the weights of separated modes have no influence.
_SCORE_METHODS = {
    "DenoisingScoreMatching", "FiniteDifferenceScoreMatching", "KernelSteinDiscrepancy",
    "ScoreMatching", "SlicedScoreMatching",
}  # fmt: skip


def distance_text(metrics: Mapping[str, object]) -> str:
    """The distances of samples from held-out points beside their floors, on one line; empty if they
    were not measured."""
    parts = []
    for name, (words, _) in _DISTANCES.items():
        value, floor = metrics.get(name), metrics.get(f"{name}_floor")
        if isinstance(value, float) and isinstance(floor, float):
            parts.append(f"{words} {value:.4g} (floor {floor:.4g})")
    return "  ".join(parts)


def verdict(metrics: Mapping[str, object], method: str, dataset: Dataset | None) -> list[str]:
    """Warnings, each with its cause and an option to change, where samples and held-out points
    differ by more than chance: by a distance well above its floor, or by the weights of modes.

    Args:
        metrics: of all evaluators.
        method: name of the class of the method.
    """

    def number(name: str) -> float | None:
        value = metrics.get(name)
        return float(value) if isinstance(value, int | float) else None

    worst = None
    for name, (words, limit) in _DISTANCES.items():
        value, floor = number(name), number(f"{name}_floor")
        if value is not None and floor is not None and value > limit * floor:
            ratio = value / floor if floor > 0 else float("inf")
            worst = max(worst or (0.0, ""), (ratio, words))
    error, se = number("mode_weight_error"), number("mode_weight_error_se")
    wrong_weights = (
        error is not None
        and se is not None
        and error > max(_MAX_WEIGHT_ERROR_SE * se, _MAX_WEIGHT_ERROR)
    )
    if worst is None and not wrong_weights:
        return []
    rhat, ess, kl = number("rhat"), number("ess_bulk"), number("kl")
    mixes = (rhat is None or rhat <= MAX_RHAT) and (ess is None or ess >= MIN_ESS)
    if rhat is None and "chain_acceptance" in metrics:  # measured, and no chain moved
        mixes = False
    model_is_good = kl is not None and kl < _GOOD_KL_NATS
    chains = "raise samples.burn_in, or give sampler=tempering"
    warnings = []
    if wrong_weights:
        remedy = "raise train.steps, or give sampler=tempering"
        if method in _SCORE_METHODS and not model_is_good:
            remedy = (
                f"{method} does not see the weights of modes that are far apart: give method=pcd, "
                "or method=nce"
            )
        elif model_is_good or not mixes:
            remedy = f"the chains do not move between the modes: {chains}"
        warnings.append(
            f"the weights of the modes are wrong: one differs by {error:.2f} between samples and "
            f"data, see mode_weights_samples; {remedy}"
        )
    if worst is not None:
        cause = "the model has not learnt the data: raise train.steps or model.width"
        if model_is_good:
            cause = f"the model itself is close to the data, its chains are not: {chains}"
        elif not mixes:
            cause = f"the chains do not mix, so that they may not show the model: {chains}"
        times = f"{worst[0]:.2g} times" if worst[0] < 1e6 else "far above"
        extremes = [] if dataset is None else extreme_values(dataset)
        warnings += [
            f"samples and held-out points differ: the {worst[1]} is {times} its floor; {cause}",
            *extremes,
        ]
    return warnings
