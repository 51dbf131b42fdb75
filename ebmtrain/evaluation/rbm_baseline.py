"""scikit-learn's restricted Boltzmann machine on the same data, for comparison with the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ebmtrain.evaluation.protocol import Evaluation, EvaluationInput, Evaluator, float64_copy
from ebmtrain.evaluation.quality import pseudo_likelihood_metrics
from ebmtrain.models.rbm import Rbm
from ebmtrain.runtime.optional import import_sklearn
from ebmtrain.types import Bipartite, Dataset, Positive, SmallCount, Space, labels_of

_WANTED_BY = "evaluation=rbm_peers"


@dataclass(frozen=True, kw_only=True)
class RbmBaseline:
    """An evaluation of an RBM, and scikit-learn's BernoulliRBM with as many hidden units, fitted to
    the same training points by its own persistent contrastive divergence.

    peer_pseudo_likelihood   of BernoulliRBM at the held-out points, in nats; see `Quality`
    feature_accuracy, peer_feature_accuracy   where the data have classes: of logistic regression
                             from p(h = 1 | v) of the training points, at the held-out points

    The features are those of the evaluated weights.

    Args:
        ours: the evaluation of the model; its period is that of the whole.
        iterations: passes of BernoulliRBM over the training points.
        learning_rate: of BernoulliRBM.
        inverse_penalty: C of the logistic regression, of both features.

    Raises:
        ConfigError: scikit-learn is not installed.
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"binary"})
    at_start: ClassVar[bool] = False

    ours: Evaluator
    iterations: SmallCount = 10
    learning_rate: Positive = 0.06
    inverse_penalty: Positive = 1.0
    _cache: WeakKeyDictionary[Dataset, dict[str, float]] = field(
        init=False, repr=False, compare=False, default_factory=WeakKeyDictionary
    )

    def __post_init__(self) -> None:
        import_sklearn("neural_network", _WANTED_BY)

    @staticmethod
    def conflicts(config: Mapping[str, Any]) -> list[str]:
        """One line if the model has no hidden units."""
        if "hidden" in config["model"]:
            return []
        return [f"{_WANTED_BY} compares hidden units, and this model has none: model=rbm"]

    @property
    def every(self) -> int:
        """Updates between two evaluations."""
        return self.ours.every

    def __call__(self, inputs: EvaluationInput) -> Evaluation:
        metrics, notices = self.ours(inputs)
        dataset, energy = inputs.dataset, float64_copy(inputs.energy).cpu()
        if dataset is None or not isinstance(energy, Bipartite):
            return Evaluation(metrics, notices)
        own: dict[str, float] = {}
        if labels_of(dataset) is not None:
            with torch.no_grad():
                features = energy.hidden(dataset.train), energy.hidden(dataset.holdout)
            own["feature_accuracy"] = self._accuracy(dataset, *features)
        if dataset not in self._cache:  # fitted once, since the data do not change
            self._cache[dataset] = self._fit_peer(
                dataset, energy.hidden(dataset.train[:1]).shape[1]
            )
        return Evaluation({**metrics, **own, **self._cache[dataset]}, notices)

    def _fit_peer(self, dataset: Dataset, hidden: int) -> dict[str, float]:
        """The metrics of BernoulliRBM."""
        train, holdout = dataset.train.flatten(1), dataset.holdout.flatten(1)
        peer = import_sklearn("neural_network", _WANTED_BY).BernoulliRBM(
            hidden, learning_rate=self.learning_rate, n_iter=self.iterations, random_state=0
        )
        peer.fit(train.numpy())
        with torch.random.fork_rng(devices=[]):
            same = Rbm(hidden=hidden, event_shape=(train.shape[1],)).double()
        same.requires_grad_(False)
        for parameter, value in (
            (same.weight, peer.components_.T),
            (same.visible_bias, peer.intercept_visible_),
            (same.hidden_bias, peer.intercept_hidden_),
        ):
            parameter.copy_(torch.from_numpy(value))
        found = pseudo_likelihood_metrics(same, holdout, 1.0)["pseudo_likelihood"]
        assert isinstance(found, float)
        metrics = {"peer_pseudo_likelihood": found}
        if labels_of(dataset) is not None:
            features = same.hidden(train), same.hidden(holdout)
            metrics["peer_feature_accuracy"] = self._accuracy(dataset, *features)
        return metrics

    def _accuracy(self, dataset: Dataset, train: Tensor, holdout: Tensor) -> float:
        """Accuracy of logistic regression at held-out features."""
        labels = labels_of(dataset)
        assert labels is not None
        model = import_sklearn("linear_model", _WANTED_BY).LogisticRegression(
            C=self.inverse_penalty, max_iter=1000
        )
        model.fit(train.numpy(), labels.train.numpy())
        return float(model.score(holdout.numpy(), labels.holdout.numpy()))
