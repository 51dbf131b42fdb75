"""Selects the figures of a run and their data; `plots` draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ebmtrain.evaluation.diagnostics import MAX_RHAT, MIN_ESS, Diagnostics
from ebmtrain.evaluation.protocol import EvaluationInput
from ebmtrain.models.wrappers import to_data_units
from ebmtrain.runs.sampling import draw_samples, uniform_noise
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.samplers.chain import adaptation_of, temperature_of
from ebmtrain.samplers.draw import restore_adaptation, trajectory
from ebmtrain.types import (
    HasPixels,
    HasTarget,
    ImageEnergy,
    Joint,
    Logger,
    labels_of,
)

if TYPE_CHECKING:  # matplotlib takes half a second to import: only when a figure is due
    from ebmtrain.config.experiment import Experiment
    from ebmtrain.plots.images import PixelRange
    from ebmtrain.plots.style import Figure
    from ebmtrain.plots.window import Window
    from ebmtrain.runs.posterior import DenoisedDraws


_N_CHAINS, _N_FRAMES = 36, 40  # of the animation of chains of images
_N_STRIP_COLUMNS, _N_STRIP_ROWS = 12, 8  # of the strip of the same chains
_MAX_CLASSES, _IMAGES_PER_CLASS = 20, 12


class RunFigures:
    """The figures of one run, in the data's own units.

    Args:
        experiment: of the run; arguments of the methods are in its standardized units.
        run: the files are written to its folder plots.
        loggers: are called with each figure.
    """

    def __init__(self, experiment: Experiment, run: RunDir, loggers: Sequence[Logger] = ()):
        self.experiment = experiment
        self.run = run
        self.loggers = loggers

    @property
    def is_planar(self) -> bool:
        return tuple(self.experiment.standardization.shift.shape) == (2,)

    @cached_property
    def data(self) -> Tensor | None:
        dataset = self.experiment.dataset
        return None if dataset is None else dataset.train

    @cached_property
    def window(self) -> Window:
        from ebmtrain.plots.style import short_label
        from ebmtrain.plots.window import Window, fit_window

        if self.data is not None:
            names, window = self.experiment.data_spec.names, fit_window(self.data)
            if names is None:
                return window
            return window._replace(names=tuple(map(short_label, names)))
        low, high = self.experiment.region.low.tolist(), self.experiment.region.high.tolist()
        return Window((low[0], low[1]), (high[0], high[1]))

    def draw_landscape(self, energy: nn.Module, points: Tensor, title: str, name: str) -> None:
        """Draws plots/landscape_<name>.png, for points of the plane only."""
        if not self.is_planar:
            return
        from ebmtrain.plots.landscape import landscape

        figure = landscape(
            self._reduced_energy(energy), self.window, data=self.data,
            samples=self.to_data(points), title=title,
        )  # fmt: skip
        self._save(f"landscape_{name}", figure)

    def draw_all(
        self, model: EvaluationInput, samples: Tensor, title: str, name: str = "final"
    ) -> list[str]:
        """Draws all figures; returns a notice for each that does not apply.

        Args:
            model: its chains are run unless an evaluation has run them.
            samples: of the model.
            name: of the state, in the names of the files. Figures of the whole training are drawn
                for `final` only.
        """
        from ebmtrain.plots.curves import curves
        from ebmtrain.plots.pairs import pairs
        from ebmtrain.plots.progress import progress
        from ebmtrain.plots.projection import projection
        from ebmtrain.plots.samples import samples as histograms

        rows, x, dataset = self.run.rows(), self.to_data(samples), self.experiment.dataset
        if dataset is not None and name == "final":
            adaptation = adaptation_of(self.experiment.sampler)
            target = adaptation.target if isinstance(adaptation, HasTarget) else None
            self._save("curves", curves(rows, title, target))
        self._draw_chains(model, title, "chains" if name == "final" else f"chains_{name}")
        energy, reduced = model.energy, self._reduced_energy(model.energy)
        no_landscape = [f"no landscape: it is drawn for 2-D data; see plots/samples_{name}.png"]
        if self.pixel_range is not None and self.data is not None:
            self._draw_images(model, x, title, name)
            return no_landscape
        if not self.is_planar:
            names = self.experiment.data_spec.names
            if x.ndim == 3:
                from ebmtrain.plots.traces import traces

                figure = traces(self.data, x, title, energy=reduced)
            else:
                figure = projection(self.data, x, title, energy=reduced, names=names)
            self._save(f"samples_{name}", figure)
            if names is not None and len(names) > 1 and self.data is not None:
                self._save(f"pairs_{name}", pairs(self.data, x, names, title))
            return no_landscape
        n_points = self.experiment.plots.points
        self.draw_landscape(energy, samples[:n_points], title, name)
        figure = histograms(
            self.data, x, self.window, truth=None if dataset is None else dataset.truth,
            energy=reduced if dataset is None else None, title=title,
        )  # fmt: skip
        self._save(f"samples_{name}", figure)
        if dataset is not None:
            figure = progress(
                reduced, self.window, rows, data=self.data, samples=x[:n_points], title=title
            )
            self._save("progress" if name == "final" else f"progress_{name}", figure)
        frames = sorted(self.run.plots.glob("landscape_[0-9]*.png"))
        if self.experiment.plots.gif and name == "final" and len(frames) > 1:
            from ebmtrain.plots.animation import animate

            self._write("landscape", "gif", animate(frames))
        return []

    @cached_property
    def pixel_range(self) -> PixelRange | None:
        """The range of pixel values; None if neither the dataset nor the model is of images."""
        from ebmtrain.plots.images import PixelRange

        dataset, data = self.experiment.dataset, self.data
        pixels = dataset.pixels if isinstance(dataset, HasPixels) else None
        if pixels is None and isinstance(self.experiment.energy, ImageEnergy) and data is not None:
            pixels = float(data.min()), float(data.max())
        return None if pixels is None else PixelRange(*pixels)

    def _draw_images(self, model: EvaluationInput, samples: Tensor, title: str, name: str) -> None:
        """Draws plots/samples_<name>.png, chain_<name>.png, chain.gif and classes_<name>.png, of
        samples in the data's own units."""
        from ebmtrain.plots.images import chain_animation, chain_strip, image_samples

        dataset, pixels = self.experiment.dataset, self.pixel_range
        assert dataset is not None
        assert pixels is not None
        figure = image_samples(dataset.train, samples, pixels, title, dataset.holdout)
        self._save(f"samples_{name}", figure)
        steps = _geometric_steps(max(self.experiment.samples.burn_in, 1), _N_FRAMES)
        generator = model.generator("chain from noise")
        start = uniform_noise(self.experiment, _N_CHAINS, generator)
        adaptation = restore_adaptation(model.method, model.sampler, start)
        points = trajectory(model.sampler, model.energy, start, steps, generator, adaptation)
        frames = self.to_data(points.flatten(0, 1)).view(points.shape)
        few = _evenly_spaced(steps, _N_STRIP_COLUMNS)
        rows = [steps.index(step) for step in few]
        self._save(f"chain_{name}", chain_strip(frames[rows, :_N_STRIP_ROWS], few, pixels, title))
        if self.experiment.plots.gif and name == "final":
            self._write("chain", "gif", chain_animation(frames, steps, pixels))
        self.draw_classes(model, title, name)

    def draw_classes(self, model: EvaluationInput, title: str, name: str) -> None:
        """Draws plots/classes_<name>.png, for a model of classes only."""
        labels = labels_of(self.experiment.dataset)
        if labels is None or self.data is None:
            return
        if not isinstance(model.energy, Joint) or not model.energy.classes:
            return
        from ebmtrain.plots.images import class_panels

        assert self.pixel_range is not None
        wanted = replace(self.experiment.samples, count=_IMAGES_PER_CLASS, chains=_IMAGES_PER_CLASS)
        data, samples = [], []
        for y in range(len(labels.names[:_MAX_CLASSES])):
            generator = model.generator(f"class {y}")
            u = draw_samples(
                self.experiment, model.energy, model.method, wanted, generator, label=y
            )
            samples.append(self.to_data(u))
            data.append(self.data[labels.train == y])
        figure = class_panels(data, samples, labels.names[:_MAX_CLASSES], self.pixel_range, title)
        self._save(f"classes_{name}", figure)

    def denoising_png(self, noisy: Tensor, found: DenoisedDraws, noise: float) -> bytes | None:
        """PNG of noisy and denoised images, in the data's own units; None for other points."""
        if self.pixel_range is None:
            return None
        from ebmtrain.plots.encode import encode_png
        from ebmtrain.plots.images import denoising

        title = f"noise of standard deviation {noise:g}"
        return encode_png(denoising(noisy, found.mean, found.draws[:, 0], self.pixel_range, title))

    def _draw_chains(self, model: EvaluationInput, title: str, name: str) -> None:
        """Draws plots/<name>.png, unless the chains cannot be diagnosed: the evaluation reports
        why."""
        diagnostics = self.experiment.evaluators.get("diagnostics")
        if diagnostics is None or temperature_of(self.experiment.sampler) == 0:
            return
        assert isinstance(diagnostics, Diagnostics)
        summary = diagnostics.summary(model)
        if summary is None:
            return
        from ebmtrain.plots.chains import chains

        self._save(name, chains(summary, {"rhat": MAX_RHAT, "ess": MIN_ESS}, title))

    def draw_energies(self, name: str, groups: Mapping[str, Tensor], title: str) -> None:
        """Draws plots/<name>.png: histograms of energies.

        Args:
            groups: name and energies over T, (n,); those of the data first.
        """
        from ebmtrain.plots.energies import energy_histograms

        self._save(name, energy_histograms(groups, title))

    def _reduced_energy(self, energy: nn.Module):
        """E / T of points on the CPU, in the data's own units."""
        wrapped = to_data_units(energy, self.experiment.standardization).cpu()
        temperature = self.experiment.temperature
        return lambda x: wrapped(x) / temperature

    def to_data(self, points: Tensor) -> Tensor:
        return self.experiment.standardization.to_data(points.detach())

    def _save(self, name: str, figure: Figure) -> None:
        from ebmtrain.plots.encode import encode_png

        self._write(name, "png", encode_png(figure))

    def _write(self, name: str, suffix: str, data: bytes) -> None:
        """Writes plots/<name>.<suffix> and calls the loggers."""
        path = self.run.write_bytes(f"plots/{name}.{suffix}", data)
        for logger in self.loggers:
            logger.figure(name, path)


def _geometric_steps(last: int, count: int) -> list[int]:
    """At most `count` steps from 0 to `last`, dense at first, where a chain from noise changes
    most."""
    grown = (round(last ** (i / max(count - 2, 1))) for i in range(count - 1))
    return sorted({0, last, *grown})


def _evenly_spaced(steps: list[int], count: int) -> list[int]:
    """At most `count` of the steps, evenly, with the first and the last."""
    last = len(steps) - 1
    return [steps[i] for i in sorted({round(i * last / (count - 1)) for i in range(count)})]
