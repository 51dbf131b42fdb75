"""A multilayer perceptron as an energy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear, pad, silu, softplus, tanh
from torch.nn.utils import parametrizations

from ebmtrain.models.layers import (
    BaseStd,
    FourierFeatures,
    add_base_energy,
    base_precision,
    marginal_energy,
)
from ebmtrain.models.perceptron import dispatch as perceptron
from ebmtrain.models.perceptron import functional
from ebmtrain.models.perceptron.ops import Network
from ebmtrain.score import attach_gradient
from ebmtrain.types import (
    Affine,
    Count,
    LossDerivatives,
    NonNegative,
    Positive,
    QuadraticLoss,
    Space,
    Tensors,
    WholeNumber,
)

# name: (f, (df, z) -> df * f'(z)), for the closed-form input gradient. leaky_relu is there for
# comparisons alone: its second derivative is zero, which silently breaks score matching.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "silu": (silu, torch.ops.aten.silu_backward),
    "softplus": (softplus, lambda df, z: torch.ops.aten.softplus_backward(df, z, 1.0, 20.0)),
    "leaky_relu": (
        leaky_relu,
        lambda df, z: torch.ops.aten.leaky_relu_backward(df, z, 0.01, False),
    ),
    "tanh": (tanh, lambda df, z: df * (1 - tanh(z).square())),
}
INITIALISATIONS: dict[str, Callable[[Tensor], object]] = {
    "lecun": lambda w: nn.init.normal_(w, std=1 / math.sqrt(w.shape[1])),
    "kaiming": lambda w: nn.init.kaiming_normal_(w),
    "xavier": lambda w: nn.init.xavier_normal_(w),
    "orthogonal": lambda w: nn.init.orthogonal_(w),
}


class MLP(nn.Module):
    """E(x) = f(embed(x)) + ||x||^2 / (2 * base_std^2), f a perceptron with one output; or, with
    classes y, E(x, y) = f_y(embed(x)) + ||x||^2 / (2 * base_std^2) and
    E(x) = -log sum_y exp(-E(x, y)) (Grathwohl et al., ICLR 2020).

    A plain perceptron of low-dimensional points is slow to learn fine structure (spectral bias:
    Tancik et al., NeurIPS 2020): with inputs of unit variance, eight modes on a ring stay a ring.
    `input_scale` or Fourier features set the scale that is learnt first. The Gaussian base measure
    makes exp(-E) normalisable if f grows more slowly than quadratically, and pulls chains back from
    far away.

    Args:
        event_shape: shape of one point; its elements are the inputs.
        width: units of each hidden layer.
        depth: number of hidden layers.
        activation: silu, softplus, tanh or leaky_relu.
        initialisation: distribution of the initial weights: lecun (variance 1 / inputs), kaiming
            (2 / inputs), xavier or orthogonal; biases start at zero.
        input_scale: factor on the (standardized) input.
        fourier_features: number m of random frequencies W ~ N(0, 2 / d * fourier_scale^2) in d
            dimensions; cos(Wx) and sin(Wx) are further inputs of the perceptron. 0: none.
        fourier_scale: in radians per unit of x in the plane; see `FourierFeatures` for other d.
        base_std: standard deviation of the base measure in units of x, at least 1e-6; null: none.
        spectral_norm: divides each weight matrix by its largest singular value (Miyato et al.,
            ICLR 2018), so that f is Lipschitz.
        classes: number of classes y, each an output of f; null: one output and no classes.

    Shapes: (batch, *event_shape) -> (batch,).
    """

    spaces: ClassVar[frozenset[Space]] = frozenset({"real", "binary"})

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...],
        width: Count = 128,
        depth: Count = 2,
        activation: Literal["silu", "softplus", "tanh", "leaky_relu"] = "silu",
        initialisation: Literal["lecun", "kaiming", "xavier", "orthogonal"] = "lecun",
        input_scale: Positive = 4.0,
        fourier_features: WholeNumber = 64,
        fourier_scale: NonNegative = 2.0,
        base_std: BaseStd | None = 1.5,
        spectral_norm: bool = False,
        classes: Count | None = None,
    ):
        super().__init__()
        self.embedding = FourierFeatures(
            math.prod(event_shape), input_scale, fourier_features, fourier_scale
        )
        sizes = [self.embedding.n_features, *[width] * depth]
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.output = nn.Linear(width, classes or 1)
        self.classes = classes
        for layer in self.layers():
            INITIALISATIONS[initialisation](layer.weight)
            nn.init.zeros_(layer.bias)
            if spectral_norm:
                parametrizations.spectral_norm(layer)
        self.activation, self.activation_backward = ACTIVATIONS[activation]
        self.activation_name = activation
        self.base_precision = base_precision(base_std)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        network = self.network()
        if self.native_supports(x, network) and perceptron.is_faster(x, network):
            (f,) = functional.derivatives(x, network)
        else:
            f = marginal_energy(self.outputs(x, network))
        return add_base_energy(f, x, self.base_precision)

    def joint(self, x: Tensor) -> Tensor:
        """E(x, y) of every class, (batch, classes)."""
        x = x.flatten(1)
        return add_base_energy(self.outputs(x, self.network()).T, x, self.base_precision).T

    def outputs(self, x: Tensor, network: Network) -> Tensor:
        """f(x), (batch, classes), or (batch, 1) without classes."""
        h = self.embedding(x)
        *hidden, output = zip(network.weights, network.biases, strict=True)
        for layer in hidden:
            h = self.activation(linear(h, *layer))
        return linear(h, *output)

    def differentiable_gradient(self, x: Tensor) -> Tensor | None:
        """dE/dx, differentiable once in the parameters; None: not supported, use autograd."""
        flat, network = x.flatten(1), self.network()
        if not self.native_supports(flat, network):
            return None
        _, gradient = functional.derivatives(flat, network, 1)
        if self.base_precision:
            gradient = gradient.add(flat, alpha=self.base_precision)
        return gradient.view_as(x)

    def differentiable_gradient_and_curvatures(
        self, x: Tensor, directions: Tensor
    ) -> tuple[Tensor, Tensor] | None:
        """dE/dx and the curvatures v' (d2E/dx2) v, (n, batch), along directions v,
        (n, batch, *event), both differentiable once in the parameters; None: not supported, use
        autograd."""
        flat, v, network = x.flatten(1), directions.flatten(2), self.network()
        if directions.requires_grad or not self.native_supports(flat, network):
            return None
        repeated = flat.expand(v.shape).flatten(0, 1)
        _, gradient, curvatures = functional.derivatives(repeated, network, 2, v.flatten(0, 1))
        gradient, curvatures = gradient[: len(x)], curvatures.view(v.shape[:2])
        if self.base_precision:
            gradient = gradient.add(flat, alpha=self.base_precision)
            curvatures = curvatures.add(v.square().sum(2), alpha=self.base_precision)
        return gradient.view_as(x), curvatures

    def quadratic_loss(
        self, x: Tensor, loss: QuadraticLoss, derivatives: LossDerivatives
    ) -> tuple[Tensor, Tensors] | None:
        """See `score.quadratic_loss`; None: not supported, use autograd."""
        flat, network = x.flatten(1), self.network()
        if not functional.needs_parameter_gradient(network):
            return None
        if not self.native_supports(flat, network):
            return None
        if derivatives.gradient is None and not perceptron.is_faster(flat, network):
            return None
        with torch.no_grad():
            if derivatives.energy is not None:
                quantities, vjp = self._energy_and_vjp(flat, network, derivatives.energy)
            else:
                *quantities, vjp = self._gradient_and_vjp(flat, network, derivatives)
                quantities[0] = quantities[0].view_as(x)
            value, metrics = loss(*quantities)
        pairs = zip(network.weights, network.biases, strict=True)
        return attach_gradient(value, vjp, [t for pair in pairs for t in pair]), metrics

    def _energy_and_vjp(
        self, x: Tensor, network: Network, derivative: Affine
    ) -> tuple[tuple[Tensor], Tensor]:
        """E(x), and the gradient in the parameters of a loss with this derivative in E(x)."""
        offset, slope = derivative
        if slope is not None and self.base_precision:
            base = add_base_energy(x.new_zeros(len(x)), x, self.base_precision)
            offset, slope = _shift(derivative, base)
        f, *_, vjp = functional.forward_and_vjp(x, network, offset, slopes=(slope, None, None))
        return (add_base_energy(f, x, self.base_precision),), vjp

    def _gradient_and_vjp(
        self, x: Tensor, network: Network, derivatives: LossDerivatives
    ) -> list[Tensor]:
        """dE/dx; the curvatures, if there are directions; and the gradient in the parameters of a
        loss with these derivatives."""
        _, by_gradient, by_curvature, v = derivatives
        assert by_gradient is not None
        points, w, b, curvature_slope = x, None, None, None
        base_gradient = self.base_precision * x
        u, slope = _shift(_map(by_gradient, lambda t: t.flatten(1)), base_gradient)
        if v is not None and by_curvature is not None:
            v = v.flatten(2)
            base_curvature = self.base_precision * v.square().sum(2)
            b, curvature_slope = _map(_shift(by_curvature, base_curvature), torch.flatten)
            w, points = v.flatten(0, 1), x.expand(v.shape).flatten(0, 1)
            # The loss depends on dE/dx of the first n points only.
            u, slope = _map(Affine(u, slope), lambda t: pad(t, (0, 0, 0, len(points) - len(t))))
        zeros = x.new_zeros(len(points))
        _, gradient, curvatures, vjp = functional.forward_and_vjp(
            points, network, zeros, u, w, b, (None, slope, curvature_slope)
        )
        quantities = [gradient[: len(x)] + base_gradient]
        if w is not None and v is not None:
            quantities.append(curvatures.view(v.shape[:2]) + base_curvature)
        return [*quantities, vjp]

    def energy_and_gradient(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """E(x) and dE/dx without autograd."""
        flat = x.flatten(1)
        network = self.network()
        if self.native_supports(flat, network):
            f, gradient = functional.derivatives(flat, network, 1)
        else:
            f, gradient = self._chain_rule_gradient(flat, network)
        if self.base_precision:
            gradient = gradient.add(flat, alpha=self.base_precision)
        return add_base_energy(f, flat, self.base_precision), gradient.view_as(x)

    def supports_chains(self, x: Tensor) -> bool:
        """See `ChainKernels`."""
        return self.classes is None and perceptron.supports_chains(x.flatten(1), self.network())

    def langevin(
        self, x: Tensor, noise: Tensor, sizes: Sequence[float], scales: Sequence[float]
    ) -> Tensor:
        ends = functional.langevin(
            x.flatten(1), self.network(), noise.flatten(2), self.base_precision, sizes, scales
        )
        return ends.view_as(x)

    def leapfrog(
        self, x: Tensor, momentum: Tensor, gradient: Tensor, eps: Tensor, temperature: float,
        steps: int,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        *flat, f = functional.leapfrog(
            x.flatten(1), self.network(), momentum.flatten(1), gradient.flatten(1), eps,
            self.base_precision, temperature, steps,
        )  # fmt: skip
        end, momentum, gradient = (t.view_as(x) for t in flat)
        return end, momentum, gradient, add_base_energy(f, flat[0], self.base_precision)

    def _chain_rule_gradient(self, x: Tensor, network: Network) -> tuple[Tensor, Tensor]:
        """f, marginal over classes, and df/dx by the chain rule, one matrix product per layer."""
        h = features = self.embedding(x)
        preactivations = []
        *hidden, (weight, bias) = zip(network.weights, network.biases, strict=True)
        for w, b in hidden:
            preactivations.append(linear(h, w, b))
            h = self.activation(preactivations[-1])
        f = linear(h, weight, bias)
        g = weight.expand(len(x), -1) if self.classes is None else torch.softmax(-f, 1) @ weight
        for (w, _), z in zip(reversed(hidden), reversed(preactivations), strict=True):
            g = self.activation_backward(g, z) @ w
        return marginal_energy(f), self.embedding.pullback(features, g)

    def native_supports(self, x: Tensor, network: Network) -> bool:
        """Whether the C++ perceptron is used for these points."""
        return self.classes is None and perceptron.supports(x, network)

    def network(self) -> Network:
        """The arguments of the native operations.

        Each weight is read once, because under `spectral_norm` reading a weight computes it.
        """
        layers = self.layers()
        return Network(
            self.embedding.scale,
            self.activation_name,
            self.embedding.frequencies,
            [layer.weight for layer in layers],
            [layer.bias for layer in layers],
        )

    def layers(self) -> list[nn.Linear]:
        return [*self.hidden, self.output]  # type: ignore[list-item]


def _map(values: Affine, function: Callable[[Tensor], Tensor]) -> Affine:
    slope = None if values.slope is None else function(values.slope)
    return Affine(function(values.offset), slope)


def _shift(derivative: Affine, base: Tensor) -> Affine:
    """The derivative, given as a function of y + base, as a function of y."""
    offset, slope = derivative
    return Affine(offset if slope is None else offset + slope * base, slope)
