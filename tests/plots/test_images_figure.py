"""Images next to each other: the right pixels at the right positions."""

from __future__ import annotations

import re
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ebmtrain.plots.encode import encode_png
from ebmtrain.plots.images import (
    PixelRange,
    _mosaic,
    _nearest_images,
    chain_animation,
    chain_strip,
    class_panels,
    image_samples,
)


def images(n: int, *event: int) -> Tensor:
    return torch.rand(n, *event, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_pixels_run_from_black_to_white():
    x = torch.tensor([[[-5.0, 0.0, 8.5], [17.0, 99.0, float("nan")]]])
    found = PixelRange(0.0, 17.0).to_rgb(x)
    assert found.shape == (1, 2, 3, 3)
    assert found[0, :, :, 0].tolist() == [[0, 0, 128], [255, 255, 0]]
    assert (found == found[..., :1]).all()  # gray


def test_three_channels_are_colours_and_others_their_mean():
    x = torch.zeros(1, 3, 2, 2)
    x[0, 1] = 1.0
    assert PixelRange(0.0, 1.0).to_rgb(x)[0, 0, 0].tolist() == [0, 255, 0]
    two = torch.stack([torch.zeros(2, 2), torch.ones(2, 2)])[None]
    assert PixelRange(0.0, 1.0).to_rgb(two)[0, 0, 0].tolist() == [128, 128, 128]


def test_mosaic_positions():
    tiles = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    paper = _mosaic(tiles, 3)
    assert paper.shape == (2 * 3 - 1, 3 * 4 - 1, 3)
    assert paper[0, :, 0].tolist() == [0, 0, 0, 255, 1, 1, 1, 255, 2, 2, 2]
    assert paper[3, :, 0].tolist() == [3, 3, 3, 255, 4, 4, 4, 255, 255, 255, 255]
    assert (paper[2] == 255).all()


def test_nearest_images():
    train = images(50, 4, 5)
    order = torch.tensor([7, 3, 49])
    found = _nearest_images(train[order] + 1e-3, train)
    assert torch.equal(found.images, train[order])
    torch.testing.assert_close(found.distance, torch.full((3,), 1e-3 * 20**0.5).double())
    lost = _nearest_images(torch.full((1, 4, 5), float("nan")), train)
    assert lost.distance.tolist() == [float("inf")]


@pytest.mark.parametrize("event", [(8, 8), (1, 8, 8), (3, 6, 9), (2, 5, 5)])
def test_samples_next_to_data_and_neighbours(event):
    data = images(70, *event)
    figure = image_samples(
        data, data[:20] + 0.001, PixelRange(0, 1), "digits", holdout=data[:5] + 0.5
    )
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    assert len(shown) == 3
    assert np.abs(shown[1].astype(int) - shown[2]).max() <= 1  # each sample's own source
    assert "median distance" in figure.axes[2].get_title()
    assert "of held-out ones" in figure.axes[2].get_title()
    assert encode_png(figure, 30)


def test_median_distances_are_not_cut_off():
    """Distances of pixels from 0 to 255 are in the thousands; an exponent would not fit in the
    title.
    """
    data = images(20, 3, 64, 64) * 255
    figure = image_samples(data, data.flip(1) + 3e3, PixelRange(0, 256), holdout=data + 9e3)
    assert encode_png(figure, 30)  # lays it out
    box = figure.axes[2].title.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert not re.search(r"e\+\d", figure.axes[2].get_title())


@pytest.mark.parametrize("event", [(4, 5), (3, 4, 5)])
def test_each_class_has_a_row_with_its_name(event):
    """A class with too few training images leaves positions empty; of one with more the first are
    shown.
    """
    look, samples = PixelRange(0, 1), list(images(9, *event).view(3, 3, *event))
    data = [images(7, *event), images(1, *event), images(0, *event)]
    figure = class_panels(data, samples, ["cat", "2", "a $"], look, "classes")
    left, right = (np.asarray(axes.images[0].get_array()) for axes in figure.axes)
    assert left.shape == right.shape == (3 * 5 - 1, 3 * 6 - 1, 3)
    assert np.array_equal(right[5:9, 12:17], look.to_rgb(samples[1])[2])
    assert np.array_equal(left[:4, 12:17], look.to_rgb(data[0])[2])
    assert np.array_equal(left[5:9, :5], look.to_rgb(data[1])[0])
    assert (left[5:9, 6:] == 255).all()
    assert (left[10:] == 255).all()
    for axes in figure.axes:
        assert [tick.get_text() for tick in axes.get_yticklabels()] == ["cat", "2", r"a \$"]
        assert axes.get_yticks().tolist() == [1.5, 6.5, 11.5]
    assert encode_png(figure, 30)


def test_chain_strip_has_a_row_for_each_chain():
    frames = images(15, 4, 4).view(5, 3, 4, 4)  # 5 steps of 3 chains
    figure = chain_strip(frames, [0, 1, 2, 5, 10], PixelRange(0, 1), "chains")
    (axes,) = figure.axes
    picture = np.asarray(axes.images[0].get_array())
    assert picture.shape == (3 * 5 - 1, 5 * 5 - 1, 3)
    block = PixelRange(0, 1).to_rgb(frames[3, 1:2])[0]
    assert np.array_equal(picture[5:9, 15:19], block)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1", "2", "5", "10"]
    assert encode_png(figure, 30)


def test_chain_animation_has_a_frame_for_each_step():
    frames = images(12, 4, 4).view(4, 3, 4, 4)
    gif: Any = Image.open(BytesIO(chain_animation(frames, [0, 1, 4, 9], PixelRange(0, 1))))
    assert gif.n_frames == 4
    assert gif.size[0] > 400
