"""Selects the figures of a run and their data; `plots` draws them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from ebmtrain.evaluation.diagnostics import MAX_RHAT, MIN_ESS, Diagnostics
from ebmtrain.evaluation.protocol import EvaluationInput
from ebmtrain.models.wrappers import to_data_units
from ebmtrain.plots.attempt import attempt
from ebmtrain.runs.loggers.console import LOG
from ebmtrain.runs.sampling import draw_samples, uniform_noise
from ebmtrain.runs.storage.rundir import RunDir
from ebmtrain.samplers.chain import adaptation_of, temperature_of
from ebmtrain.samplers.draw import restore_adaptation, trajectory
from ebmtrain.types import (
    Bipartite,
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
        warn: is called once for each reason for which a figure could not be drawn; None: logs it.
    """

    def __init__(
        self,
        experiment: Experiment,
        run: RunDir,
        loggers: Sequence[Logger] = (),
        warn: Callable[[str], None] | None = None,
    ):
        self.experiment = experiment
        self.run = run
        self.loggers = loggers
        self.warn = warn or partial(LOG.warning, "warning: %s")
        self.failures: dict[str, str] = {}
        """Reason and warning of figures that could not be drawn."""

    @property
    def is_planar(self) -> bool:
        is_real = self.experiment.data_spec.support.space == "real"
        return is_real and tuple(self.experiment.standardization.shift.shape) == (2,)

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
        with self._picture(f"landscape_{name}") as save:
            from ebmtrain.plots.landscape import landscape

            figure = landscape(
                self._reduced_energy(energy), self.window, data=self.data,
                samples=self.to_data(points), title=title,
            )  # fmt: skip
            save(figure)

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
        x, dataset = self.to_data(samples), self.experiment.dataset
        if dataset is not None and name == "final":
            self._draw_curves(title)
        self._draw_chains(model, title, "chains" if name == "final" else f"chains_{name}")
        if self._pixels is not None:
            self._draw_images(model, x, title, name)
        elif self.is_planar:
            self._draw_plane(model, samples, title, name)
            return []
        else:
            self._draw_samples(model, x, title, name)
        return [f"no landscape: it is drawn for 2-D data; see plots/samples_{name}.png"]

    def _draw_curves(self, title: str) -> None:
        """Draws plots/curves.png."""
        adaptation = adaptation_of(self.experiment.sampler)
        target = adaptation.target if isinstance(adaptation, HasTarget) else None
        with self._picture("curves") as save:
            from ebmtrain.plots.curves import curves

            save(curves(self.run.rows(), title, target))

    def _draw_samples(self, model: EvaluationInput, x: Tensor, title: str, name: str) -> None:
        """Draws plots/samples_<name>.png and pairs_<name>.png, of samples in the data's units that
        are neither images nor in the plane."""
        energy, names = self._reduced_energy(model.energy), self.experiment.data_spec.names
        with self._picture(f"samples_{name}") as save:
            from ebmtrain.plots.projection import projection
            from ebmtrain.plots.traces import traces

            if x.ndim == 3:
                save(traces(self.data, x, title, energy=energy))
            else:
                save(projection(self.data, x, title, energy=energy, names=names))
        if names is not None and len(names) > 1 and self.data is not None:
            with self._picture(f"pairs_{name}") as save:
                from ebmtrain.plots.pairs import pairs

                save(pairs(self.data, x, names, title))

    def _draw_plane(self, model: EvaluationInput, samples: Tensor, title: str, name: str) -> None:
        """Draws plots/landscape_<name>.png, samples_<name>.png, progress.png and landscape.gif, of
        standardized samples in the plane."""
        n_points, dataset = self.experiment.plots.points, self.experiment.dataset
        energy, x = self._reduced_energy(model.energy), self.to_data(samples)
        self.draw_landscape(model.energy, samples[:n_points], title, name)
        with self._picture(f"samples_{name}") as save:
            from ebmtrain.plots.samples import samples as histograms

            figure = histograms(
                self.data, x, self.window, truth=None if dataset is None else dataset.truth,
                energy=energy if dataset is None else None, title=title,
            )  # fmt: skip
            save(figure)
        if dataset is not None:
            with self._picture("progress" if name == "final" else f"progress_{name}") as save:
                from ebmtrain.plots.progress import progress

                rows = self.run.rows()
                figure = progress(
                    energy, self.window, rows, data=self.data, samples=x[:n_points], title=title
                )
                save(figure)
        frames = sorted(self.run.plots.glob("landscape_[0-9]*.png"))
        if self.experiment.plots.gif and name == "final" and len(frames) > 1:
            with self._picture("landscape", "gif"):
                from ebmtrain.plots.animation import animate

                self._write("landscape", "gif", animate(frames))

    @property
    def pixel_range(self) -> PixelRange | None:
        """The range of pixel values; None if neither the dataset nor the model is of images."""
        from ebmtrain.plots.images import PixelRange

        return None if self._pixels is None else PixelRange(*self._pixels)

    @cached_property
    def _pixels(self) -> tuple[float, float] | None:
        """The least and the largest value of a pixel; None as for `pixel_range`."""
        dataset, data = self.experiment.dataset, self.data
        if data is None:
            return None
        if isinstance(dataset, HasPixels) and dataset.pixels is not None:
            return dataset.pixels
        is_image = isinstance(self.experiment.energy, ImageEnergy)
        return (float(data.min()), float(data.max())) if is_image else None

    def _draw_images(self, model: EvaluationInput, samples: Tensor, title: str, name: str) -> None:
        """Draws plots/samples_<name>.png, chain_<name>.png, chain.gif, classes_<name>.png and, of a
        model with hidden units, filters_<name>.png; of samples in the data's own units."""
        dataset = self.experiment.dataset
        assert dataset is not None
        with self._picture(f"samples_{name}") as save:
            from ebmtrain.plots.images import image_samples

            pixels = self.pixel_range
            assert pixels is not None
            save(image_samples(dataset.train, samples, pixels, title, dataset.holdout))
        if isinstance(model.energy, Bipartite):
            with self._picture(f"filters_{name}") as save:
                from ebmtrain.plots.images import receptive_fields

                save(receptive_fields(model.energy.filters, title))
        self._draw_chain(model, title, name)
        self.draw_classes(model, title, name)

    def _draw_chain(self, model: EvaluationInput, title: str, name: str) -> None:
        """Draws plots/chain_<name>.png and chain.gif: chains of images from noise."""
        steps = _geometric_steps(max(self.experiment.samples.burn_in, 1), _N_FRAMES)
        generator = model.generator("chain from noise")
        start = uniform_noise(self.experiment, _N_CHAINS, generator)
        adaptation = restore_adaptation(model.method, model.sampler, start)
        points = trajectory(model.sampler, model.energy, start, steps, generator, adaptation)
        frames = self.to_data(points.flatten(0, 1)).view(points.shape)
        few = _evenly_spaced(steps, _N_STRIP_COLUMNS)
        rows = [steps.index(step) for step in few]
        with self._picture(f"chain_{name}") as save:
            from ebmtrain.plots.images import chain_animation, chain_strip

            pixels = self.pixel_range
            assert pixels is not None
            save(chain_strip(frames[rows, :_N_STRIP_ROWS], few, pixels, title))
            if self.experiment.plots.gif and name == "final":
                self._write("chain", "gif", chain_animation(frames, steps, pixels))

    def draw_classes(self, model: EvaluationInput, title: str, name: str) -> None:
        """Draws plots/classes_<name>.png, for a model of classes only."""
        labels = labels_of(self.experiment.dataset)
        if labels is None or self.data is None:
            return
        if not isinstance(model.energy, Joint) or not model.energy.classes:
            return
        wanted = replace(self.experiment.samples, count=_IMAGES_PER_CLASS, chains=_IMAGES_PER_CLASS)
        data, samples = [], []
        for y in range(len(labels.names[:_MAX_CLASSES])):
            generator = model.generator(f"class {y}")
            u = draw_samples(
                self.experiment, model.energy, model.method, wanted, generator, label=y
            )
            samples.append(self.to_data(u))
            data.append(self.data[labels.train == y])
        with self._picture(f"classes_{name}") as save:
            from ebmtrain.plots.images import class_panels

            pixels, names = self.pixel_range, labels.names[:_MAX_CLASSES]
            assert pixels is not None
            save(class_panels(data, samples, names, pixels, title))

    def draw_denoising(self, file: Path, noisy: Tensor, found: DenoisedDraws, noise: float) -> bool:
        """Draws noisy and denoised images, in the data's own units, into a file that the user
        names; False if the points are no images or the picture failed."""
        if self._pixels is None:
            return False
        with attempt(file.name, self._on_failure):
            from ebmtrain.plots.encode import encode_png
            from ebmtrain.plots.images import denoising

            pixels = self.pixel_range
            assert pixels is not None
            title = f"noise of standard deviation {noise:g}"
            figure = denoising(noisy, found.mean, found.draws[:, 0], pixels, title)
            self.run.write_output(file, encode_png(figure))
            return True
        return False

    def _draw_chains(self, model: EvaluationInput, title: str, name: str) -> None:
        """Draws plots/<name>.png, unless the chains cannot be diagnosed: the evaluation reports
        why."""
        diagnostics = self.experiment.evaluators.get("diagnostics")
        if diagnostics is None or temperature_of(self.experiment.sampler) == 0:
            return
        assert isinstance(diagnostics, Diagnostics)
        with self._picture(name) as save:
            from ebmtrain.plots.chains import chains

            if (summary := diagnostics.summary(model)) is not None:
                save(chains(summary, {"rhat": MAX_RHAT, "ess": MIN_ESS}, title))

    def draw_energies(self, name: str, groups: Mapping[str, Tensor], title: str) -> None:
        """Draws plots/<name>.png: histograms of energies.

        Args:
            groups: name and energies over T, (n,); those of the data first.
        """
        with self._picture(name) as save:
            from ebmtrain.plots.energies import energy_histograms

            save(energy_histograms(groups, title))

    def _reduced_energy(self, energy: nn.Module):
        """E / T of points on the CPU, in the data's own units."""
        temperature = self.experiment.temperature
        wrapped = to_data_units(energy, self.experiment.standardization, temperature).cpu()
        return lambda x: wrapped(x) / temperature

    def to_data(self, points: Tensor) -> Tensor:
        return self.experiment.standardization.to_data(points.detach())

    @contextmanager
    def _picture(self, name: str, suffix: str = "png") -> Iterator[Callable[[Figure], None]]:
        """Within this context plots/<name> is drawn; yields the function that saves the figure. A
        failure is a warning."""
        with attempt(f"plots/{name}.{suffix}", self._on_failure):
            yield partial(self._save, name)

    def write_page(self) -> None:
        """Writes report.html, with the figures in it."""
        with attempt("report.html", self._on_failure):
            from ebmtrain.runs.report.write import write_run_page

            write_run_page(self.run)

    def _on_failure(self, file: str, why: str) -> None:
        if why not in self.failures:
            self.failures[why] = f"{file} could not be drawn: {why}"
            self.warn(self.failures[why])

    def _save(self, name: str, figure: Figure) -> None:
        from ebmtrain.plots.encode import encode_png, encode_vector

        plots = self.experiment.plots
        self._write(name, "png", encode_png(figure, plots.dpi))
        if plots.format != "png":
            self._write(name, plots.format, encode_vector(figure, plots.format, plots.dpi))

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
