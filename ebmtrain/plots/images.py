"""Figures of images: training images, samples and chains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ebmtrain.plots.animation import encode_gif
from ebmtrain.plots.contact_sheet import FONT, LINE_PX, TEXT_PX
from ebmtrain.plots.style import (
    LABEL_SIZE,
    SMALL_SIZE,
    label_axes,
    new_figure,
    short_label,
)

_BACKGROUND = 255  # between the images
_MAX_IMAGES = 64  # per panel
_ANIMATION_WIDTH_PX = 480  # approximately


class PixelRange(NamedTuple):
    """The range of pixel values that is shown, and the conversion of events to images."""

    low: float
    """Value shown as black; lower values are black too."""
    high: float
    """Value shown as white; higher values are white too."""

    def to_rgb(self, x: Tensor) -> np.ndarray:
        """(n, *event) -> (n, height, width, 3), uint8. Events with one channel are grey, with three
        RGB, with other numbers the grey mean of the channels. NaN is black.
        """
        x = x.detach().cpu().double()
        x = x[:, None] if x.ndim == 3 else x
        if x.shape[1] != 3:
            x = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        scaled = 255 * (x - self.low) / (self.high - self.low)
        scaled = scaled.nan_to_num(0.0, 255.0, 0.0).clamp(0, 255)
        return scaled.round().byte().permute(0, 2, 3, 1).numpy()


def _mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """(n, height, width, 3) -> one image, row by row, with lines of one pixel between images."""
    n, height, width, _ = images.shape
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), _BACKGROUND, np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * (height + 1), i % columns * (width + 1)
        canvas[y : y + height, x : x + width] = image
    return canvas


class _NearestImages(NamedTuple):
    images: Tensor
    distance: Tensor


def _nearest_images(x: Tensor, train: Tensor) -> _NearestImages:
    """The nearest training image of each image, (n, *event), and its Euclidean distance in units of
    the pixels, (n,). An image that is not finite gets the first training image, at distance inf.
    """
    x, train = x.detach().cpu().double(), train.detach().cpu().double()
    flat = train.flatten(1)
    pairs = (torch.cdist(part, flat).min(1) for part in x.flatten(1).split(64))
    distance, index = (torch.cat(nearest) for nearest in zip(*pairs, strict=True))
    invalid = ~distance.isfinite()
    return _NearestImages(
        train[index.masked_fill(invalid, 0)], distance.masked_fill(invalid, torch.inf)
    )


def image_samples(
    data: Tensor,
    model_samples: Tensor,
    pixels: PixelRange,
    title: str = "",
    holdout: Tensor | None = None,
) -> Figure:
    """Training images, samples, and the training image nearest to each sample at the same position.

    Both median distances to the nearest training image, of samples and of held-out images, are
    given: a model whose samples are closer than held-out images overfits.

    Args:
        data: training images, (n, *event), in the data's own units.
        model_samples: (m, *event).
        holdout: (k, *event).
    """
    n = min(_MAX_IMAGES, len(data), len(model_samples))
    # Evenly spaced: neighbours in a chain are similar, and files may be sorted.
    shown, samples = (x[torch.linspace(0, len(x) - 1, n).long()] for x in (data, model_samples))
    nearest = _nearest_images(samples, data)
    distances = f"median distance {_format_distance(float(nearest.distance.median()))}"
    if holdout is not None and len(holdout):
        median = float(_nearest_images(holdout[:1000], data).distance.median())
        distances += f"; of held-out ones {_format_distance(median)}"
    last = f"training image nearest to each sample\n{distances}"
    groups = {"training images": shown, "model samples": samples, last: nearest.images}
    return _mosaics(groups, pixels, title)


def receptive_fields(filters: Tensor, title: str) -> Figure:
    """The weights of hidden units as images, (hidden, *event), those of the largest norm first, all
    on one scale, which is symmetric about 0 (grey)."""
    filters = filters.detach().cpu()
    order = filters.flatten(1).norm(dim=1).argsort(descending=True)[:_MAX_IMAGES]
    bound = float(filters.abs().max()) or 1.0
    shown = f"{len(order)} of {len(filters)} hidden units, weights from -{bound:.2g} to {bound:.2g}"
    return _mosaics({shown: filters[order]}, PixelRange(-bound, bound), title)


def _mosaics(groups: Mapping[str, Tensor], pixels: PixelRange, title: str) -> Figure:
    """Panels, by title, of at most 64 images, (n, *event), each."""
    figure = new_figure(4.2 * len(groups), 5.0, title)
    panels = figure.subplots(1, len(groups), gridspec_kw={"wspace": 0.06}, squeeze=False)
    for axes, (name, images) in zip(panels[0], groups.items(), strict=True):
        columns = math.ceil(math.sqrt(min(_MAX_IMAGES, len(images))))
        _draw_image(axes, _mosaic(pixels.to_rgb(images[:_MAX_IMAGES]), columns), name)
    return figure


def _format_distance(distance: float) -> str:
    """Without an exponent, so that the title fits in one line: distances of images with 256 levels
    are in the thousands.
    """
    return f"{distance:,.0f}" if distance >= 1000 else f"{distance:.3g}"


def class_panels(
    data: Sequence[Tensor],
    samples: Sequence[Tensor],
    names: Sequence[str],
    pixels: PixelRange,
    title: str = "",
) -> Figure:
    """A row for each class, of training images on the left and samples of p(x | y) on the right.

    Args:
        data: for each class (n, *event), in the data's own units; n may be 0.
        samples: for each class (m, *event), with the same m.
        names: of the classes.
    """
    columns = len(samples[0])
    height, width = samples[0].shape[-2:]
    figure = new_figure(12.6, 5.9 * len(names) * height / (columns * width) + 0.7, title)
    panels = figure.subplots(1, 2, gridspec_kw={"wspace": 0.06})
    named = {"training images": data, "model samples of each class, from p(x | y)": samples}
    for axes, (name, rows) in zip(panels, named.items(), strict=True):
        images = np.full((len(names), columns, height, width, 3), _BACKGROUND, np.uint8)
        for row, images_of_class in zip(images, rows, strict=True):
            row[: len(images_of_class)] = pixels.to_rgb(images_of_class[:columns])
        _draw_image(axes, _mosaic(images.reshape(-1, height, width, 3), columns), name)
        places = (np.arange(len(names)) * (height + 1) + (height - 1) / 2).tolist()
        axes.set_yticks(places, list(map(short_label, names)), fontsize=SMALL_SIZE)
        axes.tick_params(length=0)
    return figure


def denoising(
    noisy: Tensor, mean: Tensor, draws: Tensor, pixels: PixelRange, title: str = ""
) -> Figure:
    """Noisy images, the posterior mean of each, and one posterior sample of each, at the same
    positions.

    Args:
        noisy, mean, draws: (n, *event), in the data's own units; the first 64 are shown.
    """
    groups = {"noisy": noisy, "denoised: the mean of p(x | y)": mean, "a draw of p(x | y)": draws}
    return _mosaics(groups, pixels, title)


def chain_strip(
    frames: Tensor, steps: Sequence[int], pixels: PixelRange, title: str = ""
) -> Figure:
    """Chains at several steps, one chain per row.

    Args:
        frames: (len(steps), chains, *event), in the data's own units.
        steps: number of chain steps of each frame.
    """
    columns, rows = frames.shape[:2]
    images = pixels.to_rgb(frames.transpose(0, 1).flatten(0, 1))
    height, width = images.shape[1:3]
    figure = new_figure(10.0, 9.8 * rows * height / (columns * width) + 0.85, title)
    axes = figure.add_subplot()
    _draw_image(axes, _mosaic(images, columns))
    places = (np.arange(columns) * (width + 1) + (width - 1) / 2).tolist()
    axes.set_xticks(places, [str(step) for step in steps], fontsize=SMALL_SIZE)
    axes.tick_params(length=0)
    axes.set_xlabel("steps of the chain", fontsize=LABEL_SIZE)
    axes.set_ylabel("one chain per row, from noise", fontsize=LABEL_SIZE)
    return figure


def chain_animation(frames: Tensor, steps: Sequence[int], pixels: PixelRange) -> bytes:
    """The chains of `chain_strip` as an animated GIF, all chains in one picture; arguments as of
    `chain_strip`.
    """
    font = ImageFont.truetype(str(FONT), TEXT_PX)
    columns = math.ceil(math.sqrt(frames.shape[1]))
    pictures = []
    for x, step in zip(frames, steps, strict=True):
        tiles = _mosaic(pixels.to_rgb(x), columns)
        factor = max(1, _ANIMATION_WIDTH_PX // tiles.shape[1])
        large = Image.fromarray(tiles.repeat(factor, 0).repeat(factor, 1))
        canvas = Image.new("RGB", (large.width, large.height + LINE_PX + 4), "white")
        canvas.paste(large, (0, LINE_PX + 4))
        ImageDraw.Draw(canvas).text((4, 2), f"step {step}", "black", font)
        pictures.append(canvas)
    return encode_gif(pictures)


def _draw_image(axes: Axes, picture: np.ndarray, title: str = "") -> None:
    """The image without ticks and frame, without interpolation."""
    axes.imshow(picture, interpolation="nearest")
    label_axes(axes, title=title)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
