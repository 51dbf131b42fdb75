"""The energies of data with Gaussian noise of every variance, in one module."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import silu

from ebmtrain.types import NoiseRange

Field = Callable[[Tensor, Tensor], Tensor]
"""z (batch, d) and e (batch, n) -> F, (batch, d)."""


class GaussianPath(nn.Module):
    """U(y, t) = -log N(y; centre, C + variance * t * I) + <z, F(z, e)> + b(e),
    z = (y - centre) / sqrt(variance * (1 + t)),  of y = x + sqrt(variance * t) xi, xi ~ N(0, I).

    centre and C are the mean and the covariance of the training points, and variance is the mean of
    the diagonal of C. At F = b = 0 exp(-U) is therefore the normalised Gaussian with the moments of
    y at every t. e is an embedding of log t: a layer of the features cos(k pi c / 2) and
    sin(k pi c / 2), k = 1, ..., 8, with c from -1 at t_min to 1 at t_max.

    Source: Guth, Kadkhodaie & Simoncelli (2025), arXiv 2506.05310, without the Gaussian part.

    Args:
        event_shape: shape of one point, d elements.
        t_min, t_max: least and largest variance of the noise, in units of `variance`.
        training_points: (n, *event_shape); None: the moments will be loaded.

    Raises:
        ValueError: t_min is not less than t_max.
    """

    # Of 3 frequencies U had spurious mass where no data are: KL 0.6 of five Gaussians after 1,500
    # updates at lr 3e-3, and 0.014 of 8.
    N_FREQUENCIES, N_FEATURES = 8, 64

    centre: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor

    def __init__(
        self,
        event_shape: tuple[int, ...],
        t_min: float,
        t_max: float,
        training_points: Tensor | None,
    ):
        super().__init__()
        if t_min >= t_max:
            raise ValueError(f"t_min={t_min} must be less than t_max={t_max}: lower model.t_min")
        self.t_min, self.t_max = t_min, t_max
        d = math.prod(event_shape)
        moments = torch.zeros(d), torch.ones(d), torch.eye(d)
        if training_points is not None:
            moments = _moments(training_points.flatten(1).double())
        for name, value in zip(("centre", "eigenvalues", "eigenvectors"), moments, strict=True):
            self.register_buffer(name, value.to(torch.get_default_dtype()))
        self.embedding = nn.Linear(2 * self.N_FREQUENCIES, self.N_FEATURES)
        self.offset = nn.Linear(self.N_FEATURES, 1)
        nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(self.N_FREQUENCIES))
        for zero in (self.embedding.bias, self.offset.weight, self.offset.bias):
            nn.init.zeros_(zero)

    @property
    def noise(self) -> NoiseRange:
        return NoiseRange(self.eigenvalues.mean(), self.t_min, self.t_max)

    def gaussian_points(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """See `TimeConditional`; flattened points, (count, d)."""
        v = self._variances(self.centre.new_full((1,), math.log(self.t_max)))
        z = v.new_empty(count, v.shape[1]).normal_(generator=generator)
        log_q = -(z.square() + (2 * math.pi * v).log()).sum(1) / 2
        return self.centre + (z * v.sqrt()) @ self.eigenvectors.T, log_q

    def energy(self, y: Tensor, log_t: Tensor | None, field: Field) -> Tensor:
        """U(y, t), (batch,).

        Args:
            y: (batch, *event).
            log_t: (batch,), or (1,) for all; None: log t_min.
        """
        if log_t is None:
            log_t = y.new_full((1,), math.log(self.t_min))
        v, e, r = self._variances(log_t), self._embed(log_t), y.flatten(1) - self.centre
        z = r / v.mean(1, keepdim=True).sqrt()
        network = (z * field(z, e)).sum(1) + self.offset(e).squeeze(1)
        return network + ((r @ self.eigenvectors).square() / v + (2 * math.pi * v).log()).sum(1) / 2

    def _variances(self, log_t: Tensor) -> Tensor:
        """Eigenvalues of C + variance * t * I, (batch, d)."""
        return self.eigenvalues + self.eigenvalues.mean() * log_t.exp()[:, None]

    def _embed(self, log_t: Tensor) -> Tensor:
        """e, (batch, N_FEATURES)."""
        middle = math.log(self.t_min * self.t_max) / 2
        c = (log_t - middle) / (math.log(self.t_max / self.t_min) / 2)
        k = torch.arange(1, self.N_FREQUENCIES + 1, dtype=c.dtype, device=c.device)
        phase = math.pi / 2 * c[:, None] * k
        return silu(self.embedding(torch.cat([phase.cos(), phase.sin()], 1)))


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (d,), eigenvalues (d,) and eigenvectors (d, d) of the covariance of points (n, d); equal
    eigenvalues of 1 if all points are one."""
    centred = x - x.mean(0)
    eigenvalues, eigenvectors = torch.linalg.eigh(centred.T @ centred / len(x))
    eigenvalues = eigenvalues.clamp(min=0)
    return x.mean(0), torch.where(eigenvalues.sum() > 0, eigenvalues, 1.0), eigenvectors


class FilmLayer(nn.Module):
    """silu((1 + a(e)) * W h + s(e)), with a and s linear in the embedding e (feature-wise linear
    modulation: Perez et al., AAAI 2018); h is added to it where it has the same width.

    Args:
        layer: W, (batch, inputs, ...) -> (batch, outputs, ...).
        n_features: of the embedding.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, n_features: int = GaussianPath.N_FEATURES):
        super().__init__()
        self.layer = layer
        inputs, outputs = layer.weight.shape[1], layer.weight.shape[0]
        self.residual = inputs == outputs
        self.modulation = nn.Linear(n_features, 2 * outputs)
        nn.init.normal_(self.modulation.weight, std=0.1 / math.sqrt(n_features))
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        u = self.layer(h)
        scale, shift = self.modulation(e).view(len(e), -1, *[1] * (u.ndim - 2)).chunk(2, 1)
        u = silu(torch.addcmul(u + shift, u, scale))
        return h + u if self.residual else u
