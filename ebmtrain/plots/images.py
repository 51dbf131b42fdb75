"""Images: of the data, of the model, and of chains on their way."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    PANEL_SIZE,
    SMALL_SIZE,
    label_axes,
    new_figure,
    short_label,
)

_BACKGROUND = 255  # between the images
_MAX_IMAGES = 64  # images of a panel
_ANIMATION_WIDTH_PX = 480  # width of an animation, about


class PixelRange(NamedTuple):
    """How events are shown as images."""

    low: float
    """Black; what is lower is black too."""
    high: float
    """White."""

    def to_rgb(self, x: Tensor) -> np.ndarray:
        """(n, *event) -> (n, height, width, 3). Events of one channel are gray, of three coloured,
        of others the gray mean of the channels. NaN is black."""
        x = x.detach().cpu().double()
        x = x[:, None] if x.ndim == 3 else x
        if x.shape[1] != 3:
            x = x.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        scaled = 255 * (x - self.low) / (self.high - self.low)
        scaled = scaled.nan_to_num(0.0, 255.0, 0.0).clamp(0, 255)
        return scaled.round().byte().permute(0, 2, 3, 1).numpy()


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """(n, height, width, 3) -> one picture, row by row, with lines of a pixel between them."""
    n, height, width, _ = images.shape
    rows = math.ceil(n / columns)
    paper = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, 3), _BACKGROUND, np.uint8)
    for i, image in enumerate(images):
        y, x = i // columns * (height + 1), i % columns * (width + 1)
        paper[y : y + height, x : x + width] = image
    return paper


class NearestImages(NamedTuple):
    """Of some images, the training image nearest to each."""

    images: Tensor
    distance: Tensor
    """Euclidean, (n,), in the units of the pixels."""


def nearest_images(x: Tensor, train: Tensor) -> NearestImages:
    """Of (n, *event); those that are not finite have the first one, at distance inf."""
    x, train = x.detach().cpu().double(), train.detach().cpu().double()
    flat = train.flatten(1)
    pairs = (torch.cdist(part, flat).min(1) for part in x.flatten(1).split(64))
    distance, index = (torch.cat(found) for found in zip(*pairs, strict=True))
    lost = ~distance.isfinite()
    return NearestImages(train[index.masked_fill(lost, 0)], distance.masked_fill(lost, torch.inf))


def image_samples(
    data: Tensor,
    model_samples: Tensor,
    look: PixelRange,
    title: str = "",
    holdout: Tensor | None = None,
) -> Figure:
    """Training images, samples, and the training image nearest to each sample, place by place.

    Where samples are no nearer to the training images than held-out images are, the model has not
    learnt them by heart: both median distances are said.

    Args:
        data: (n, *event), training images in the data's own units.
        model_samples: (m, *event).
        holdout: (k, *event).
    """
    n = min(_MAX_IMAGES, len(data), len(model_samples))
    columns = math.ceil(math.sqrt(n))
    # Evenly from all of them: neighbours in a chain are alike, and files may be sorted.
    shown, samples = (x[torch.linspace(0, len(x) - 1, n).long()] for x in (data, model_samples))
    found = nearest_images(samples, data)
    said = f"median distance {_format_distance(float(found.distance.median()))}"
    if holdout is not None and len(holdout):
        apart = float(nearest_images(holdout[:1000], data).distance.median())
        said += f"; of held-out ones {_format_distance(apart)}"
    figure = new_figure(12.6, 5.0, title)
    panels = figure.subplots(1, 3, gridspec_kw={"wspace": 0.06})
    names = ("training images", "model samples", f"training image nearest to each sample\n{said}")
    for axes, images, name in zip(panels, (shown, samples, found.images), names, strict=True):
        _draw_image(axes, mosaic(look.to_rgb(images), columns))
        axes.set_title(name, fontsize=PANEL_SIZE)
    return figure


def _format_distance(distance: float) -> str:
    """Without an exponent: pixels of 256 values are thousands apart, and a title has one line."""
    return f"{distance:,.0f}" if distance >= 1000 else f"{distance:.3g}"


def class_panels(
    data: Sequence[Tensor],
    samples: Sequence[Tensor],
    names: Sequence[str],
    look: PixelRange,
    title: str = "",
) -> Figure:
    """A row for each class: training images beside draws of p(x | y).

    Args:
        data: of each class, (n, *event), in the data's own units; n may be 0.
        samples: of each class, (m, *event), as many of all.
        names: of the classes.
    """
    columns = len(samples[0])
    height, width = samples[0].shape[-2:]
    figure = new_figure(12.6, 5.9 * len(names) * height / (columns * width) + 0.7, title)
    panels = figure.subplots(1, 2, gridspec_kw={"wspace": 0.06})
    named = {"training images": data, "model samples of each class, from p(x | y)": samples}
    for axes, (name, rows) in zip(panels, named.items(), strict=True):
        images = np.full((len(names), columns, height, width, 3), _BACKGROUND, np.uint8)
        for row, some in zip(images, rows, strict=True):
            row[: len(some)] = look.to_rgb(some[:columns])
        _draw_image(axes, mosaic(images.reshape(-1, height, width, 3), columns))
        axes.set_title(name, fontsize=PANEL_SIZE)
        places = (np.arange(len(names)) * (height + 1) + (height - 1) / 2).tolist()
        axes.set_yticks(places, list(map(short_label, names)), fontsize=SMALL_SIZE)
        axes.tick_params(length=0)
    return figure


def denoising(
    noisy: Tensor, mean: Tensor, draws: Tensor, look: PixelRange, title: str = ""
) -> Figure:
    """Noisy images, what each is taken to have been, and one draw of that, place by place.

    Args:
        noisy, mean, draws: (n, *event), in the data's own units; the first `_MAX_IMAGES` are shown.
    """
    figure = new_figure(12.6, 5.0, title)
    panels = figure.subplots(1, 3, gridspec_kw={"wspace": 0.06})
    named = {"noisy": noisy, "denoised: the mean of p(x | y)": mean, "a draw of p(x | y)": draws}
    for axes, (name, images) in zip(panels, named.items(), strict=True):
        columns = math.ceil(math.sqrt(min(_MAX_IMAGES, len(images))))
        _draw_image(axes, mosaic(look.to_rgb(images[:_MAX_IMAGES]), columns))
        axes.set_title(name, fontsize=PANEL_SIZE)
    return figure


def chain_strip(frames: Tensor, steps: Sequence[int], look: PixelRange, title: str = "") -> Figure:
    """Chains from step to step, a row a chain.

    Args:
        frames: (len(steps), chains, *event), in the data's own units.
        steps: behind each.
    """
    columns, rows = frames.shape[:2]
    images = look.to_rgb(frames.transpose(0, 1).flatten(0, 1))
    height, width = images.shape[1:3]
    figure = new_figure(10.0, 9.8 * rows * height / (columns * width) + 0.85, title)
    axes = figure.add_subplot()
    _draw_image(axes, mosaic(images, columns))
    places = (np.arange(columns) * (width + 1) + (width - 1) / 2).tolist()
    axes.set_xticks(places, [str(step) for step in steps], fontsize=SMALL_SIZE)
    axes.tick_params(length=0)
    axes.set_xlabel("steps of the chain", fontsize=LABEL_SIZE)
    axes.set_ylabel("a row a chain, from noise", fontsize=LABEL_SIZE)
    return figure


def chain_animation(frames: Tensor, steps: Sequence[int], look: PixelRange) -> bytes:
    """The same as an animated GIF, all chains side by side; arguments as those of `chain_strip`."""
    font = ImageFont.truetype(str(FONT), TEXT_PX)
    columns = math.ceil(math.sqrt(frames.shape[1]))
    pictures = []
    for x, step in zip(frames, steps, strict=True):
        tiles = mosaic(look.to_rgb(x), columns)
        times = max(1, _ANIMATION_WIDTH_PX // tiles.shape[1])
        large = Image.fromarray(tiles.repeat(times, 0).repeat(times, 1))
        paper = Image.new("RGB", (large.width, large.height + LINE_PX + 4), "white")
        paper.paste(large, (0, LINE_PX + 4))
        ImageDraw.Draw(paper).text((4, 2), f"step {step}", "black", font)
        pictures.append(paper)
    return encode_gif(pictures)


def _draw_image(axes: Axes, picture: np.ndarray) -> None:
    """Without ticks or frame, every pixel as it is."""
    axes.imshow(picture, interpolation="nearest")
    label_axes(axes)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
