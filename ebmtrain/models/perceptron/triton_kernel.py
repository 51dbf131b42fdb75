"""Steps of chains on the perceptron of mlp.py, all of them in one kernel of Triton's: for float32
on NVIDIA's GPUs. No GPU has run it yet: docs/adr/0017 says what is known.

A program takes POINTS chains through all steps, side by side as columns: of points (rows, POINTS),
of units (width, POINTS). The compiler reads weights once, as no step writes to memory, and keeps
them in shared memory. Each matrix is the left factor on the way there and the right one on the way
back, so that one copy serves both ways. Rows beyond a layer's units are zero in all matrices.

Products are bf16x6: each number is split in three of bfloat16, whose 24 bits are float32's, and six
products of these are summed in float32. So tensor cores do it, and 6 bytes hold a weight; tf32x3
would want four copies of 4 bytes, and float32's own products more registers than there are.

This imports triton, which takes a while and is not everywhere: see perceptron_gpu.py.
"""

# Kernels are of Triton's own language, which looks like Python.
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false
# pyright: reportGeneralTypeIssues=false, reportAssignmentType=false
from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ebmtrain.models.perceptron.layout import Layout
from ebmtrain.models.perceptron.ops import Network

POINTS = tl.constexpr(16)  # the least that products take, so that few chains fill many processors
WARPS = 8


class Weights(NamedTuple):
    """Of one network, or of several of the same sizes, one after another in memory."""

    scale: float
    frequencies: Tensor
    matrices: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]


@triton.jit
def matrix(first, n_rows, n_columns, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    there = (row < n_rows) & (column < n_columns)
    return tl.load(first + row * stride + column, mask=there, other=0.0)


@triton.jit
def column(first, n_rows, stride, ROWS: tl.constexpr):
    row = tl.arange(0, ROWS)
    return tl.load(first + row * stride, mask=row < n_rows, other=0.0)[:, None]


@triton.jit
def times(w, h):
    return tl.dot(w, h, input_precision="bf16x6")


@triton.jit
def times_transposed(w, g):
    """w' g, as (g' w)'."""
    return tl.trans(tl.dot(tl.trans(g), w, input_precision="bf16x6"))


@triton.jit
def activate(z, LAYOUT: tl.constexpr):
    """f(z) and f'(z)."""
    if LAYOUT.activation == "silu":
        s = 1.0 / (1.0 + tl.exp(-z))
        slope = s * (1.0 + z * (1.0 - s))
    else:
        s = tl.where(z > 0, 1.0, 0.01)
        slope = s
    return z * s, slope


@triton.jit
def energy_gradient(x, net, i, precision, LAYOUT: tl.constexpr):
    """f, (POINTS,), and dE/dx of the i-th network at points x, (rows, POINTS)."""
    depth: tl.constexpr = len(LAYOUT.units)
    dims: tl.constexpr = LAYOUT.dims
    m: tl.constexpr = LAYOUT.n_frequencies
    n_in: tl.constexpr = dims + 2 * m
    n_out: tl.constexpr = LAYOUT.units[0]
    first = net.matrices[0] + i * n_out * n_in
    frequencies = net.frequencies + i * m * dims
    direct = matrix(first, n_out, dims, n_in, LAYOUT.width, LAYOUT.rows)
    z = times(direct, net.scale * x) + column(net.biases[0] + i * n_out, n_out, 1, LAYOUT.width)
    if m > 0:
        of_x = matrix(frequencies, m, dims, dims, LAYOUT.phases, LAYOUT.rows)
        of_cos = matrix(first + dims, n_out, m, n_in, LAYOUT.width, LAYOUT.phases)
        of_sin = matrix(first + dims + m, n_out, m, n_in, LAYOUT.width, LAYOUT.phases)
        phase = times(of_x, x)
        cos, sin = tl.cos(phase), tl.sin(phase)
        z += times(of_cos, cos) + times(of_sin, sin)
    h, slope = activate(z, LAYOUT)
    slopes = (slope,)
    for k in tl.static_range(1, depth):
        w = hidden(net.matrices[k], i, k, LAYOUT)
        b = column(net.biases[k] + i * LAYOUT.units[k], LAYOUT.units[k], 1, LAYOUT.width)
        h, slope = activate(times(w, h) + b, LAYOUT)
        slopes = slopes + (slope,)  # noqa: RUF005
    last = column(net.matrices[depth] + i * LAYOUT.units[-1], LAYOUT.units[-1], 1, LAYOUT.width)
    f = tl.sum(last * h, 0) + tl.load(net.biases[depth] + i)

    g = last * slopes[depth - 1]
    for k in tl.static_range(depth - 1, 0, -1):
        g = times_transposed(hidden(net.matrices[k], i, k, LAYOUT), g) * slopes[k - 1]
    if m > 0:
        of_phase = times_transposed(of_sin, g) * cos - times_transposed(of_cos, g) * sin
    gradient = precision * x
    # By sums, row after row: of a product of so few rows the compiler would give each warp all.
    for d in tl.static_range(dims):
        along = net.scale * tl.sum(column(first + d, n_out, n_in, LAYOUT.width) * g, 0)
        if m > 0:
            along += tl.sum(column(frequencies + d, m, dims, LAYOUT.phases) * of_phase, 0)
        gradient += tl.where(tl.arange(0, LAYOUT.rows)[:, None] == d, along[None, :], 0.0)
    return f, gradient


@triton.jit
def hidden(matrices, i, k, LAYOUT: tl.constexpr):
    """The k-th matrix of the i-th network, from hidden units to hidden units."""
    n_out, n = LAYOUT.units[k], LAYOUT.units[k - 1]
    return matrix(matrices + i * n_out * n, n_out, n, n, LAYOUT.width, LAYOUT.width)


@triton.jit
def program_points(n, LAYOUT: tl.constexpr):
    """Of this program: its member, its points among those of it, where their numbers are, and
    which of these there are."""
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    row = tl.arange(0, LAYOUT.rows)[:, None]
    there = (point[None, :] < n) & (row < LAYOUT.dims)
    return tl.program_id(1).to(tl.int64), point, point[None, :] * LAYOUT.dims + row, there


# One compilation for each network, whatever else: another one would come in the midst of a run.
UNSPECIALIZED = ["n", "begin", "end", "n_steps", "steps"]
POINTERS = ["net", "noise", "x", "momentum", "gradient", "eps", "f"]


@triton.jit(do_not_specialize=UNSPECIALIZED, do_not_specialize_on_alignment=POINTERS)
def langevin_kernel(
    net, noise, x, n, begin, end, n_steps, precision, size, scale_of_noise, LAYOUT: tl.constexpr
):  # fmt: skip
    """x <- x - size dE/dx + scale_of_noise noise[t], begin <= t < end."""
    member, _point, at, there = program_points(n, LAYOUT)
    x += member * n * LAYOUT.dims
    y = tl.load(x + at, mask=there, other=0.0)
    for t in range(begin, end):
        _f, gradient = energy_gradient(y, net, member, precision, LAYOUT)
        step = (member * n_steps + t) * n * LAYOUT.dims
        xi = tl.load(noise + step + at, mask=there, other=0.0)
        y = y - size * gradient + scale_of_noise * xi
    tl.store(x + at, y, mask=there)


@triton.jit(do_not_specialize=UNSPECIALIZED, do_not_specialize_on_alignment=POINTERS)
def leapfrog_kernel(
    net, x, momentum, gradient, eps, f, n, steps, precision, inverse_temperature,
    LAYOUT: tl.constexpr,
):  # fmt: skip
    """Two half kicks in a row are one, as in chains.h."""
    member, point, at, there = program_points(n, LAYOUT)
    at += member * n * LAYOUT.dims
    own = member * n + point
    y = tl.load(x + at, mask=there, other=0.0)
    p = tl.load(momentum + at, mask=there, other=0.0)
    slope = tl.load(gradient + at, mask=there, other=0.0)
    step = tl.load(eps + own, mask=point < n, other=0.0)
    size = (inverse_temperature * step)[None, :]
    e = tl.zeros_like(step)
    for t in range(steps):
        p = p - tl.where(t > 0, 1.0, 0.5) * size * slope
        y = y + step[None, :] * p
        e, slope = energy_gradient(y, net, member, precision, LAYOUT)
    p = p - 0.5 * size * slope
    tl.store(x + at, y, mask=there)
    tl.store(momentum + at, p, mask=there)
    tl.store(gradient + at, slope, mask=there)
    tl.store(f + own, e, mask=point < n)


def langevin(
    x: Tensor,
    network: Network,
    noise: Tensor,
    precision: float,
    sizes: Sequence[float],
    scales: Sequence[float],
) -> Tensor:
    """As of perceptron.py; tensors without gaps in memory.

    Sizes are arguments of the kernel, which a CUDA graph keeps, and not a tensor, which would have
    to come from the host. So steps of the same size in a row are one launch.
    """
    x, layout = x.clone(), Layout.of(x, network)
    end = 0
    for (size, scale), same in groupby(zip(sizes, scales, strict=True)):
        begin, end = end, end + len(list(same))
        launch(
            langevin_kernel, x, weights_of(network), noise, x, x.shape[-2], begin, end,
            len(sizes), precision, size, scale, layout,
        )  # fmt: skip
    return x


def leapfrog(
    x: Tensor,
    network: Network,
    momentum: Tensor,
    gradient: Tensor,
    eps: Tensor,
    precision: float,
    temperature: float,
    steps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As of perceptron.py; tensors without gaps in memory."""
    found = x.clone(), momentum.clone(), gradient.clone(), x.new_empty(x.shape[:-1])
    *moved, f = found
    launch(
        leapfrog_kernel, x, weights_of(network), *moved, eps, f, x.shape[-2], steps, precision,
        1 / temperature, Layout.of(x, network),
    )  # fmt: skip
    return found


def launch(kernel: Any, x: Tensor, *arguments: Any) -> None:
    members = len(x) if x.dim() == 3 else 1
    with torch.cuda.device_of(x):
        kernel[triton.cdiv(x.shape[-2], POINTS.value), members](*arguments, num_warps=WARPS)


def weights_of(network: Network) -> Weights:
    scale, _, frequencies, matrices, biases = network
    return Weights(scale, frequencies, tuple(matrices), tuple(biases))
