"""Annealed importance sampling on models with known log Z: writes docs/evaluation.md.

    python benchmarks/ais.py                       100 repeats of both targets
    python benchmarks/ais.py --repeats 3 --print   a quick look

Two models, which differ from the density of the data that the base distribution is fitted to:

mixture     10 dimensions, five Gaussians of std 0.7 at N(0, 2^2 I), weights 0.1 to 0.3; the data
            have equal weights and std 0.9
gaussian    50 dimensions, standard deviations from 0.5 to 2 along random axes, mean at 0.3 from
            that of the data along each axis; the data are N(0, I)

Each repeat draws new data, pilot chains, chains and bootstrap samples, with the options of
configs/evaluation/ais.yaml. Reverse chains start from exact samples of the model.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator, Tensor, nn

from ebmtrain.config import presets
from ebmtrain.config.instantiate import instantiate_part
from ebmtrain.datasets.gaussian_mixture import GaussianMixture as Density
from ebmtrain.datasets.points import Points
from ebmtrain.datasets.standardization import fit_standardization
from ebmtrain.evaluation.ais import AnnealedImportanceSampling
from ebmtrain.evaluation.protocol import EvaluationInput, Trace
from ebmtrain.models.gaussian import Gaussian
from ebmtrain.models.gaussian_mixture import GaussianMixture
from ebmtrain.runtime.seeding import stream
from ebmtrain.samplers.mala import Mala
from ebmtrain.types import Region

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- ais: begin -->", "<!-- ais: end -->"


class Target(NamedTuple):
    name: str
    energy: nn.Module
    log_z: float
    data: Callable[[int, Generator], Tensor]
    model: Callable[[int, Generator], Tensor]


def mixture() -> Target:
    centres = (2 * torch.randn(5, 10, generator=stream(0, "centres"))).tolist()
    weights = [0.1, 0.15, 0.2, 0.25, 0.3]
    energy = GaussianMixture(centres=centres, weights=weights, std=0.7)
    model = Density(centres=centres, weights=weights, std=0.7)
    return Target(
        "mixture, 10-D", energy, 0.0, Density(centres=centres, std=0.9).sample, model.sample
    )


def gaussian() -> Target:
    d = 50
    g = stream(0, "axes")
    axes = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64, generator=g)).Q
    stds = torch.logspace(-1, 1, d, base=2, dtype=torch.float64)
    factor = torch.linalg.cholesky(axes @ stds.pow(-2).diag() @ axes.T)
    energy = Gaussian(event_shape=(d,)).double()
    with torch.no_grad():
        energy.mean.fill_(0.3)
        energy.lower.copy_(factor.tril(-1))
        energy.log_diagonal.copy_(factor.diagonal().log())

    def normal(n: int, g: Generator) -> Tensor:
        return torch.randn(n, d, dtype=torch.float64, generator=g)

    def model(n: int, g: Generator) -> Tensor:
        return 0.3 + torch.linalg.solve_triangular(factor, normal(n, g), upper=False, left=False)

    return Target("Gaussian, 50-D", energy, float(energy.log_z(1.0).detach()), normal, model)


def unused(*_: int) -> Trace:
    raise AssertionError("annealed importance sampling records no chains")


def evaluation_input(target: Target, repeat: int) -> EvaluationInput:
    g = stream(repeat, target.name)
    x = target.data(2000, g)
    points = Points(x, target.data(500, g), standardization=fit_standardization(x, False))
    return EvaluationInput(
        energy=target.energy.double().requires_grad_(False),
        temperature=1.0,
        region=Region(x.amin(0), x.amax(0)),
        standardization=points.standardization,
        dataset=points,
        draw=lambda n: target.model(n, g),
        sampler=Mala(step_size=0.1),  # not used: annealed importance sampling has its own chains
        method={},
        trace=unused,
        generator=lambda purpose: stream(repeat, f"{target.name} {purpose}"),
    )


def ais(words: list[str]) -> AnnealedImportanceSampling:
    return instantiate_part(
        presets.to_plain(presets.compose_config(["evaluation=ais", *words])), "evaluation"
    )


def measured(target: Callable[[], Target], words: list[str], repeat: int) -> dict[str, float]:
    """Metrics and seconds of one repeat, with one thread; runs in a separate process."""
    torch.set_num_threads(1)
    evaluation, one = ais(words), evaluation_input(target(), repeat)
    began = time.perf_counter()
    return evaluation(one).metrics | {"seconds": time.perf_counter() - began}


def row(make: Callable[[], Target], repeats: int, words: list[str], jobs: int) -> str:
    target, chains = make(), ais(words).chains
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(partial(measured, make, words), range(repeats)))
    seconds = statistics.median(m["seconds"] for m in found)
    inside = sum(m["log_z_lower"] <= target.log_z <= m["log_z_upper"] for m in found)
    widths = [m["log_z_upper"] - m["log_z_lower"] for m in found]
    errors = [m["log_z"] - target.log_z for m in found]
    rms = statistics.fmean(e**2 for e in errors) ** 0.5
    within = sum(abs(e) <= 2 * m["log_z_se"] for e, m in zip(errors, found, strict=True))
    ess = statistics.median(m["ess"] for m in found)
    return (
        f"| {target.name} | {target.log_z:.4f} | {inside} of {repeats} | "
        f"{statistics.median(widths):.3f} ({max(widths):.3f}) | {statistics.fmean(errors):+.4f} | "
        f"{rms:.4f} | {within} of {repeats} | {ess:.0f} of {chains} | {seconds:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=1, help="repeats in parallel (1)")
    parser.add_argument("--print", action="store_true", help="write no file")
    parser.add_argument("words", nargs="*", help="evaluation.KEY=VALUE")
    given = parser.parse_args()
    command = f"python benchmarks/ais.py --repeats {given.repeats} {' '.join(given.words)}".strip()
    lines = [
        "| model | log Z | inside [lower, upper] | width: median (largest) | mean error of log_z |"
        " its rms | within 2 log_z_se | ess: median | seconds each |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for target in (mixture, gaussian):
        lines.append(row(target, given.repeats, given.words, given.jobs))
        print(lines[-1], flush=True)
    lines += [
        "",
        f"`{command}`, {date.today()}, {platform.machine()}, one thread of {os.cpu_count()} CPUs, "
        f"Python {platform.python_version()}, torch {torch.__version__}.",
    ]
    if not given.print:
        path = ROOT / "docs" / "evaluation.md"
        before, _, rest = path.read_text().partition(BEGIN)
        after = rest.partition(END)[2]
        path.write_text(before + "\n".join([BEGIN, *lines, END]) + after)


if __name__ == "__main__":
    main()
