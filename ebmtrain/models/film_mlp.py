"""A perceptron that is conditioned on the variance of the noise, for points."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Generator, Tensor, nn

from ebmtrain.models.gaussian_path import FilmLayer, GaussianPath
from ebmtrain.models.layers import FourierFeatures, init_lecun
from ebmtrain.types import Count, NoiseRange, NonNegative, Positive, WholeNumber


class FilmMLP(nn.Module):
    """The energy U(y, t) of `GaussianPath`, whose F is a residual perceptron of `FilmLayer`s on
    Fourier features of z. Without t it is U(y, t_min): that of the data with noise of variance
    t_min, which sampling, figures and evaluation use.

    Args:
        event_shape: shape of one point; its elements are the inputs.
        t_min, t_max: least and largest variance of the noise, in units of the variance of the
            training points; t_min < t_max.
        width: units of each hidden layer.
        depth: number of hidden layers.
        fourier_features, fourier_scale: see `MLP`.
        training_points: (n, *event_shape), whose moments it takes.

    Shapes: (batch, *event_shape) and, for log t, (batch,) -> (batch,).

    Raises:
        ValueError: t_min is not less than t_max.
    """

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...],
        t_min: Positive = 3e-4,
        t_max: Positive = 10.0,
        width: Count = 128,
        depth: Count = 2,
        fourier_features: WholeNumber = 64,
        fourier_scale: NonNegative = 2.0,
        training_points: Tensor | None = None,
    ):
        super().__init__()
        self.event_shape = event_shape
        self.path = GaussianPath(event_shape, t_min, t_max, training_points)
        d = math.prod(event_shape)
        self.features = FourierFeatures(d, 1.0, fourier_features, fourier_scale)
        sizes = [self.features.n_features, *[width] * depth]
        layers = [nn.Linear(*pair) for pair in pairwise(sizes)]
        self.hidden = nn.ModuleList(FilmLayer(layer) for layer in layers)
        self.output = nn.Linear(width, d)
        for layer in layers:
            init_lecun(layer)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    @property
    def noise(self) -> NoiseRange:
        return self.path.noise

    def gaussian_points(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        y, log_q = self.path.gaussian_points(count, generator)
        return y.view(count, *self.event_shape), log_q

    def forward(self, x: Tensor, log_t: Tensor | None = None) -> Tensor:
        return self.path.energy(x, log_t, self._field)

    def _field(self, z: Tensor, e: Tensor) -> Tensor:
        h = self.features(z)
        for layer in self.hidden:
            h = layer(h, e)
        return self.output(h)
