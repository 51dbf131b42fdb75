"""The members of an ensemble: one configuration and one experiment per run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, open_dict

from ebmtrain.config import presets
from ebmtrain.config.trust import Trust
from ebmtrain.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ebmtrain.config.experiment import Experiment


def member_configs(config: DictConfig, trust: Trust = None) -> list[dict[str, Any]]:
    """The plain configuration, or one for each member of an ensemble, with interpolations of its
    seed.

    Args:
        trust: see `validate`.

    Raises:
        ConfigError: it describes an ensemble and is not valid.
        DataError: it leaves classes out and the data have none, or cannot be read.
    """
    whole = presets.to_plain(config)
    train = whole.get("train")
    if not isinstance(train, dict):
        return [whole]
    leave_one_out = train.get("leave_one_out") not in (None, False)
    if not leave_one_out and train.get("ensemble") in (None, 1):
        return [whole]

    from ebmtrain.config.validate import validate

    validate(whole, trust)
    if leave_one_out:
        return _leave_one_out_configs(config, whole)
    last = whole["seed"] + train["ensemble"] - 1
    if last >= 2**63:
        raise ConfigError(
            f"train.ensemble is {train['ensemble']}, and the last seed would be {last}, beyond 64 "
            "bits: lower seed"
        )
    found = []
    for i in range(train["ensemble"]):
        member = config.copy()
        with open_dict(member):
            member.seed, member.train.ensemble = whole["seed"] + i, None
        found.append(presets.to_plain(member))
    return found


def _leave_one_out_configs(config: DictConfig, whole: dict[str, Any]) -> list[dict[str, Any]]:
    """One configuration for each class of the data, which leaves it out."""
    from ebmtrain.config.instantiate import instantiate_part
    from ebmtrain.types import labels_of

    labels = labels_of(instantiate_part(whole, "dataset"))
    if labels is None:
        raise DataError(
            "train.leave_one_out=true leaves out one class in each run, and these data have no "
            "classes: train.leave_one_out=false, or data with labels (dataset=digits)"
        )
    found = []
    for i in range(len(labels.names)):
        member = config.copy()
        with open_dict(member):
            member.dataset.without, member.train.leave_one_out = i, False
        found.append(presets.to_plain(member))
    return found


def build_members(config: DictConfig, trust: Trust = None) -> list[Experiment]:
    """One experiment for each configuration of `member_configs`.

    Args:
        trust: see `validate`.

    Raises:
        ConfigError, DataError, UnsafeError: with a remedy.
    """
    from ebmtrain.config.build import build
    from ebmtrain.config.validate import validate

    # All are validated before the first is built. They have the same section `device`.
    valid = [validate(one, trust) for one in member_configs(config, trust)]
    members = [build(one, set_up_process=i == 0) for i, one in enumerate(valid)]
    if len(members) > 1 and members[0].train_spec is None:
        whole = config.train
        word = "leave_one_out" if whole.get("leave_one_out") else "ensemble"
        raise ConfigError(
            f"train.{word} is {whole[word]}, but model {type(members[0].energy).__name__} has "
            "nothing to train and would be the same in all runs: train.ensemble=null "
            "train.leave_one_out=false"
        )
    return members
