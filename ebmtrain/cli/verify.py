"""`ebmtrain verify [key=value ...]`: laws that the chosen model, sampler and method must obey."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ebmtrain.cli.arguments import parse_overrides
from ebmtrain.config import presets
from ebmtrain.errors import ConfigError

if TYPE_CHECKING:
    from ebmtrain.config.experiment import Experiment
    from ebmtrain.evaluation.properties.result import PropertyResult


_N_POINTS = 64  # that energies are tried at


def main(arguments: list[str]) -> int:
    overrides, folder = parse_overrides(arguments)
    presets.extend_import_path(folder)
    chosen = presets.Presets(user=folder)
    config = chosen.compose(overrides)

    from ebmtrain.config.build import build

    chosen.check_targets(config)
    failed = 0
    for finding in check_properties(build(presets.to_plain(config), set_up_process=True)):
        print(_format_finding(finding), flush=True)
        failed += finding.holds is False
    print("all laws hold" if not failed else f"{failed} broken")
    return 1 if failed else 0


def check_properties(experiment: Experiment) -> Iterator[PropertyResult]:
    """All that apply to what a configuration names."""
    import torch

    from ebmtrain.evaluation.properties.energies import check_energy
    from ebmtrain.evaluation.properties.methods import check_method
    from ebmtrain.evaluation.properties.samplers import check_sampler
    from ebmtrain.runs.sampling import uniform_noise
    from ebmtrain.types import labels_of

    if experiment.data_spec.ragged:
        raise ConfigError(
            "the laws are those of points of one shape, and these sequences are of different "
            "lengths: verify the same parts on sequences of one length, say dataset=sine_waves"
        )
    x = uniform_noise(experiment, _N_POINTS, experiment.generator("verify"))
    yield from check_energy(experiment.energy, x)
    yield from check_sampler(experiment.sampler, experiment.energy, x)
    if experiment.train_spec is not None:
        data = experiment.train_spec.dataset
        points = data.standardization.to_standard(data.train).to(
            experiment.device, experiment.dtype
        )
        labels = labels_of(data)
        y = None if labels is None else labels.train.to(experiment.device)
        method, size = experiment.train_spec.method, experiment.train_spec.batch_size
        with torch.random.fork_rng(devices=[]):
            yield from check_method(method, experiment.energy, points, y, size)


def _format_finding(finding: PropertyResult) -> str:
    status = {True: "pass", False: "FAIL", None: "n/a "}[finding.holds]
    expected = f"  (expected {finding.expected})" if finding.expected else ""
    return f"{status}  {finding.name}: {finding.observed}{expected}"
