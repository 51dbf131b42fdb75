import pytest
import torch

from ebmtrain.plots.window import Window, fit_window


def cloud(count: int) -> torch.Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("count", [7, 10, 100, 5000])
def test_one_outlier_does_not_change_the_view(count):
    points = cloud(count)
    runaway = torch.cat([points, torch.tensor([[1e6, -1e9], [float("nan"), 0.0]])])
    assert fit_window(runaway).contains(points).double().mean() > 0.9
    assert max(fit_window(runaway).size) < 3 * max(fit_window(points).size)


def test_small_samples_are_shown_completely():
    assert fit_window(cloud(20)).contains(cloud(20)).all()


def test_a_small_mode_next_to_a_narrow_large_one_is_in_view():
    small = torch.tensor([[50.0, 50.0]]) + 0.1 * cloud(30)
    assert fit_window(torch.cat([0.01 * cloud(970), small])).contains(small).double().mean() > 0.9


def test_margin_is_a_fraction_of_the_width():
    square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    window = fit_window(square, margin=0.25)
    assert window.low == pytest.approx((-0.25, -0.25))
    assert window.high == pytest.approx((1.25, 1.25))


def test_view_of_a_single_point():
    window = fit_window(torch.tensor([[3.0, -7.0]] * 5))
    assert min(window.size) > 0
    assert window.contains(torch.tensor([[3.0, -7.0]])).all()


@pytest.mark.parametrize(
    ("size", "shape", "aspect"),
    [((4.0, 1.0), (4.0, 1.0), "equal"), ((1.0, 5.0), (1.0, 5.0), "equal"),
     ((6.0, 1.0), (1.0, 1.0), "auto"), ((1e-5, 1e6), (1.0, 1.0), "auto")],
)  # fmt: skip
def test_axes_have_equal_scales_unless_one_is_too_short(size, shape, aspect):
    window = Window((0.0, 0.0), size)
    assert (window.shape, window.aspect) == (shape, aspect)


def test_enclosing_square_keeps_centre_and_longer_side():
    assert Window((0.0, 0.0), (4.0, 2.0)).enclosing_square() == Window((0.0, -1.0), (4.0, 3.0))


@pytest.mark.parametrize("bad", [torch.full((3, 2), float("nan")), torch.zeros(0, 2)])
def test_no_finite_point_is_an_error(bad):
    with pytest.raises(ValueError, match="finite point"):
        fit_window(bad)


def test_points_of_other_dimensions_are_an_error():
    with pytest.raises(ValueError, match=r"\(5, 3\)"):
        fit_window(torch.zeros(5, 3))
