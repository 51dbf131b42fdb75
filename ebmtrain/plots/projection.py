"""Figures of points that are not two-dimensional: principal axes and marginals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ebmtrain.plots.grid import evaluate
from ebmtrain.plots.points import draw_data, scatter_samples, thin
from ebmtrain.plots.samples import bin_count, normalized_density
from ebmtrain.plots.style import DATA, MODEL, SMALL_SIZE, TRUTH, escape_math, label_axes, new_figure
from ebmtrain.plots.window import fit_interval, fit_window

_MAX_AXES_POINTS = 1000  # from which the principal axes are computed
_MAX_MARGINALS = 6
_CURVE_POINTS = 600


def projection(
    data: Tensor | None,
    model_samples: Tensor,
    title: str = "",
    *,
    energy: Callable[[Tensor], Tensor] | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Figure of points of any dimension.

    In one dimension: histograms, and the normalised exp(-E) if `energy` is given. Otherwise: a
    scatter plot on the first two principal axes of the data (of the samples if `data` is None),
    with each coordinate divided by its standard deviation, so that no unit dominates; and the
    marginals of the coordinates of largest spread.

    Args:
        data: (n, *event) or None.
        model_samples: (m, *event).
        energy: (batch, *event) -> (batch,); used in one dimension only.
        names: of the coordinates, in the order of a flattened point.
    """
    shape = model_samples.shape[1:]
    flat = model_samples.detach().cpu().double().flatten(1) if shape else model_samples[:, None]
    if data is not None:
        data = data.detach().cpu().double().reshape(len(data), -1)
    if flat.shape[1] == 1:
        figure = new_figure(7.2, 4.6, title)
        axes = figure.add_subplot()
        draw_marginal(axes, data, flat, 0)
        if energy is not None:
            _draw_density(axes, energy, shape)
        axes.legend(fontsize=SMALL_SIZE, frameon=False)
        label_axes(axes, x=escape_math(names[0]) if names else "x", y="probability density")
        return figure
    return _project_many(data, flat, title, names)


def _project_many(
    data: Tensor | None, samples: Tensor, title: str, names: Sequence[str] | None = None
) -> Figure:
    """The figure for two and more dimensions, of flattened points, (n, dimensions)."""
    reference = finite_points(samples if data is None else data)
    chosen = _widest_coordinates(reference)
    whose = "samples" if data is None else "data"
    notice = (
        f"projection of {reference.shape[1]} dimensions on the first two principal axes of the "
        f"{whose}"
    )
    figure = new_figure(12.0, 5.2, f"{title}\n{notice}" if title else notice)
    columns = -(-len(chosen) // 2)
    grid = figure.add_gridspec(2, 2 + columns, width_ratios=[1.15, 1.15] + [1.0] * columns)
    _draw_plane(figure.add_subplot(grid[:, :2]), reference, data, samples)
    for i, coordinate in enumerate(chosen):
        axes = figure.add_subplot(grid[i // columns, 2 + i % columns])
        draw_marginal(axes, data, samples, coordinate)
        label_axes(
            axes, title=names[coordinate] if names else f"coordinate {coordinate + 1}",
            y="" if i % columns else "density",
        )  # fmt: skip
        axes.set_yticks([])
    return figure


def finite_points(points: Tensor) -> Tensor:
    """The finite ones of the points, (n, d).

    Raises:
        ValueError: no point is finite.
    """
    finite = points[points.isfinite().all(dim=1)]
    if len(finite) == 0:
        raise ValueError(f"a projection needs a finite point, got none of {len(points)}")
    return finite


def _widest_coordinates(points: Tensor) -> list[int]:
    """Indices of the coordinates of largest spread, at most six, in increasing order. The first
    coordinates would not do: corners of images are constant.
    """
    points = torch.from_numpy(thin(points, _MAX_AXES_POINTS))
    low, high = (points.quantile(q, dim=0) for q in (0.05, 0.95))
    spread = high - low + points.std(dim=0, correction=0)
    return sorted(spread.topk(min(_MAX_MARGINALS, points.shape[1])).indices.tolist())


def _principal_axes(points: Tensor) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """The first two principal axes of the standardized coordinates of points, (n, d); constant
    coordinates are ignored.

    Returns:
        (mean (d,), projection matrix (d, 2), fractions of the standardized variance along both
            axes).
    """
    subset = torch.from_numpy(thin(points, _MAX_AXES_POINTS))
    mean = subset.mean(dim=0)
    std = (subset - mean).square().mean(dim=0).sqrt()
    scale = torch.where(std > 1e-12 * subset.abs().amax(dim=0), std, torch.inf)
    _, singular, axes = torch.linalg.svd((subset - mean) / scale, full_matrices=False)
    variance = singular.square()
    share = variance / variance.sum().clamp_min(1e-300)
    if len(axes) < 2:  # a single point spans no plane: the second axis is 0
        axes = torch.cat([axes, torch.zeros_like(axes)])
        share = torch.cat([share, torch.zeros(1)])
    return mean, axes[:2].T / scale[:, None], (float(share[0]), float(share[1]))


def _draw_plane(axes: Axes, reference: Tensor, data: Tensor | None, samples: Tensor) -> None:
    """Data and samples on the plane of the principal axes of `reference`."""
    mean, plane, share = _principal_axes(reference)
    window = fit_window((reference - mean) @ plane).enclosing_square()
    if data is not None:
        draw_data(axes, (data - mean) @ plane, window, DATA)
    scatter_samples(axes, (samples - mean) @ plane, window, MODEL)
    left, right, bottom, top = window.extent
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    label_axes(
        axes, x=f"principal axis 1 ({share[0]:.0%} of the standardized variance)",
        y=f"principal axis 2 ({share[1]:.0%})",
    )  # fmt: skip
    axes.legend(fontsize=SMALL_SIZE, loc="upper right", markerscale=1.8)


def draw_marginal(axes: Axes, data: Tensor | None, samples: Tensor, coordinate: int) -> None:
    """Histograms of one coordinate on the same bins: data filled, samples as a line."""
    sample_values = samples[:, coordinate]
    data_values = None if data is None else data[:, coordinate]
    reference = sample_values if data_values is None else data_values
    view = fit_interval(reference[reference.isfinite()], 0.1)
    bins = np.linspace(*view, bin_count(len(reference)) + 1).tolist()
    for values, name, style in (
        (data_values, "data", {"histtype": "stepfilled", "color": DATA, "alpha": 0.45}),
        (sample_values, "model samples", {"histtype": "step", "color": MODEL, "linewidth": 1.5}),
    ):
        if values is not None:
            inside = values[(values >= view[0]) & (values <= view[1])].numpy()
            weight = np.full(len(inside), 1 / (len(values) * (bins[1] - bins[0])))
            axes.hist(inside, bins=bins, weights=weight, label=name, **style)
    axes.set_xlim(*view)
    label_axes(axes)


def _draw_density(axes: Axes, energy: Callable[[Tensor], Tensor], shape: torch.Size) -> None:
    """The normalised exp(-E) over the range of the axes."""
    x = torch.linspace(*axes.get_xlim(), _CURVE_POINTS)
    density = normalized_density(evaluate(energy, x.reshape(-1, *shape)), float(x[1] - x[0]))
    if density.any():
        axes.plot(x.numpy(), density, color=TRUTH, linewidth=1.2, label="density of the energy")
