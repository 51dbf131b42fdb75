import numpy as np
import pytest
import torch

from ebmtrain.plots.encode import encode_png
from ebmtrain.plots.projection import _principal_axes, _widest_coordinates, projection


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(), (1,), (2,), (3,), (10,), (4, 5, 5)])
@pytest.mark.parametrize("with_data", [True, False])
def test_points_of_any_shape(shape, with_data):
    data = normal(200, *shape) if with_data else None
    figure = projection(data, normal(50, *shape), "points")
    dimensions = int(np.prod(shape))
    assert len(figure.axes) == (1 if dimensions == 1 else 1 + min(dimensions, 6))
    said = figure.get_suptitle()
    if dimensions > 1:
        source = "data" if with_data else "samples"
        wanted = f"projection of {dimensions} dimensions on the first two principal axes"
        assert f"{wanted} of the {source}" in said
        assert figure.axes[0].get_aspect() == 1.0
    assert encode_png(figure, 30)


def test_one_dimension_shows_the_density_on_the_scale_of_the_histogram():
    data = normal(5000, 1)
    axes = projection(data, data, "normal", energy=lambda x: x.square().sum(1) / 2 + 7).axes[0]
    assert np.max(axes.lines[0].get_ydata()) == pytest.approx((2 * np.pi) ** -0.5, rel=0.02)
    assert axes.get_ylim()[1] < 0.6


def test_discrete_and_constant_coordinates():
    data = (normal(200, 12) > 0).float()
    data[:, 3:] = 1.0
    assert encode_png(projection(data, torch.ones(20, 12), "bits"), 30)
    assert encode_png(projection(torch.ones(1, 4), torch.ones(1, 4), "one point"), 30)


def test_diverged_samples_do_not_change_the_view():
    samples = normal(50, 3)
    samples[0], samples[1] = float("nan"), 1e9
    figure = projection(normal(200, 3), samples, "runaway")
    assert figure.axes[0].get_xlim()[1] < 10
    assert encode_png(figure, 30)


def test_principal_axes_do_not_depend_on_units():
    """Coordinates 1, 2, 3 share one factor, 4 and 5 another: variances 2.8 and 1.9 of 6, with
    correlation 0.9 within both.
    """
    factors, noise = (
        normal(4000, 2),
        torch.randn(4000, 6, generator=torch.Generator().manual_seed(1)),
    )
    points = 0.1**0.5 * noise
    points[:, :3] += 0.9**0.5 * factors[:, :1]
    points[:, 3:5] += 0.9**0.5 * factors[:, 1:]
    points[:, 5] *= 10**0.5
    units = torch.tensor([1e6, 1.0, 1e-6, 1.0, 1e3, 1e9])
    _, plane, share = _principal_axes(points * units)
    loadings = (plane * points.std(0)[:, None] * units[:, None]).square()
    assert loadings[:3, 0].sum() > 0.9  # 1000 points turn the axes by 0.1 or so
    assert loadings[3:5, 1].sum() > 0.9
    assert share == pytest.approx((2.8 / 6, 1.9 / 6), abs=0.08)  # 4 standard errors


def test_coordinates_are_numbered():
    figure = projection(normal(200, 3), normal(50, 3), "named")
    titles = [f"coordinate {i}" for i in (1, 2, 3)]
    assert [axes.get_title() for axes in figure.axes[1:]] == titles
    assert encode_png(figure, 30)


def test_marginals_are_of_the_widest_coordinates_in_order():
    points = normal(500, 20)
    points[:, [2, 5, 7, 11, 13, 19]] *= 4
    assert _widest_coordinates(points) == [2, 5, 7, 11, 13, 19]


def test_no_finite_point_is_an_error():
    with pytest.raises(ValueError, match="none of 5"):
        projection(None, torch.full((5, 3), float("nan")), "lost")
