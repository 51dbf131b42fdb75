"""Triton kernels for all steps of chains on the perceptron of mlp.py, in float32 on NVIDIA GPUs.

They have not run on a GPU yet: see docs/adr/0017.

A program makes all steps of POINTS chains. Points are columns of blocks (rows, POINTS), units of
blocks (width, POINTS). No step writes to memory, so the compiler loads the weights once and keeps
them in shared memory. Each matrix is the left factor in the forward pass and the right factor in
the backward pass, so one copy serves both. Rows beyond a layer's units are zero in all matrices.

Matrix products are bf16x6: each number is split into three of bfloat16, with the 24 bits of
float32, and six products of these are summed in float32. This uses tensor cores and 6 bytes for
each weight; tf32x3 would need four copies of 4 bytes, and plain float32 more registers than exist.

Importing triton is slow, and it is optional: cuda.py imports this module at first use.
"""

# Kernels are written in Triton's language, which has the syntax of Python.
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

POINTS = tl.constexpr(16)  # chains of a program: the smallest size of a product, for most programs
WARPS = 8


class _Parameters(NamedTuple):
    """Parameters of one network, or of several of the same sizes, contiguous in memory."""

    scale: float
    frequencies: Tensor
    matrices: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]


@triton.jit
def matrix(first, n_rows, n_columns, stride, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The matrix at pointer `first`, padded with zeros."""
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    mask = (row < n_rows) & (column < n_columns)
    return tl.load(first + row * stride + column, mask=mask, other=0.0)


@triton.jit
def column(first, n_rows, stride, ROWS: tl.constexpr):
    """The column vector at pointer `first`, padded with zeros."""
    row = tl.arange(0, ROWS)
    return tl.load(first + row * stride, mask=row < n_rows, other=0.0)[:, None]


@triton.jit
def times(w, h):
    """w h."""
    return tl.dot(w, h, input_precision="bf16x6")


@triton.jit
def _times_transposed(w, g):
    """w' g, as (g' w)'."""
    return tl.trans(tl.dot(tl.trans(g), w, input_precision="bf16x6"))


@triton.jit
def _activate(z, LAYOUT: tl.constexpr):
    """f(z) and f'(z)."""
    if LAYOUT.activation == "silu":
        s = 1.0 / (1.0 + tl.exp(-z))
        slope = s * (1.0 + z * (1.0 - s))
    else:
        s = tl.where(z > 0, 1.0, 0.01)
        slope = s
    return z * s, slope


@triton.jit
def _energy_gradient(x, net, i, precision, LAYOUT: tl.constexpr):
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
    h, slope = _activate(z, LAYOUT)
    slopes = (slope,)
    for k in tl.static_range(1, depth):
        w = hidden(net.matrices[k], i, k, LAYOUT)
        b = column(net.biases[k] + i * LAYOUT.units[k], LAYOUT.units[k], 1, LAYOUT.width)
        h, slope = _activate(times(w, h) + b, LAYOUT)
        slopes = slopes + (slope,)  # noqa: RUF005
    last = column(net.matrices[depth] + i * LAYOUT.units[-1], LAYOUT.units[-1], 1, LAYOUT.width)
    f = tl.sum(last * h, 0) + tl.load(net.biases[depth] + i)

    g = last * slopes[depth - 1]
    for k in tl.static_range(depth - 1, 0, -1):
        g = _times_transposed(hidden(net.matrices[k], i, k, LAYOUT), g) * slopes[k - 1]
    if m > 0:
        of_phase = _times_transposed(of_sin, g) * cos - _times_transposed(of_cos, g) * sin
    gradient = precision * x
    # Sums, row by row: the compiler would let each warp compute a product of so few rows.
    for d in tl.static_range(dims):
        along = net.scale * tl.sum(column(first + d, n_out, n_in, LAYOUT.width) * g, 0)
        if m > 0:
            along += tl.sum(column(frequencies + d, m, dims, LAYOUT.phases) * of_phase, 0)
        gradient += tl.where(tl.arange(0, LAYOUT.rows)[:, None] == d, along[None, :], 0.0)
    return f, gradient


@triton.jit
def hidden(matrices, i, k, LAYOUT: tl.constexpr):
    """The k-th matrix of the i-th network, between hidden layers."""
    n_out, n = LAYOUT.units[k], LAYOUT.units[k - 1]
    return matrix(matrices + i * n_out * n, n_out, n, n, LAYOUT.width, LAYOUT.width)


@triton.jit
def _program_points(n, LAYOUT: tl.constexpr):
    """Of this program: the member, the indices of its points, and the offsets and the mask of their
    coordinates in memory."""
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    row = tl.arange(0, LAYOUT.rows)[:, None]
    mask = (point[None, :] < n) & (row < LAYOUT.dims)
    return tl.program_id(1).to(tl.int64), point, point[None, :] * LAYOUT.dims + row, mask


# One compilation for each layout: other values would compile again in the middle of a run.
UNSPECIALIZED = ["n", "begin", "end", "n_steps", "steps"]
POINTERS = ["net", "noise", "x", "momentum", "gradient", "eps", "f"]


@triton.jit(do_not_specialize=UNSPECIALIZED, do_not_specialize_on_alignment=POINTERS)
def _langevin_kernel(
    net, noise, x, n, begin, end, n_steps, precision, size, scale_of_noise, LAYOUT: tl.constexpr
):  # fmt: skip
    """x <- x - size dE/dx + scale_of_noise noise[t], begin <= t < end."""
    member, _point, at, mask = _program_points(n, LAYOUT)
    x += member * n * LAYOUT.dims
    y = tl.load(x + at, mask=mask, other=0.0)
    for t in range(begin, end):
        _f, gradient = _energy_gradient(y, net, member, precision, LAYOUT)
        step = (member * n_steps + t) * n * LAYOUT.dims
        xi = tl.load(noise + step + at, mask=mask, other=0.0)
        y = y - size * gradient + scale_of_noise * xi
    tl.store(x + at, y, mask=mask)


@triton.jit(do_not_specialize=UNSPECIALIZED, do_not_specialize_on_alignment=POINTERS)
def _leapfrog_kernel(
    net, x, momentum, gradient, eps, f, n, steps, precision, inverse_temperature,
    LAYOUT: tl.constexpr,
):  # fmt: skip
    """Leapfrog steps, in place. Successive half kicks are merged into one, as in chains.h."""
    member, point, at, mask = _program_points(n, LAYOUT)
    at += member * n * LAYOUT.dims
    chain = member * n + point
    y = tl.load(x + at, mask=mask, other=0.0)
    p = tl.load(momentum + at, mask=mask, other=0.0)
    slope = tl.load(gradient + at, mask=mask, other=0.0)
    step = tl.load(eps + chain, mask=point < n, other=0.0)
    size = (inverse_temperature * step)[None, :]
    e = tl.zeros_like(step)
    for t in range(steps):
        p = p - tl.where(t > 0, 1.0, 0.5) * size * slope
        y = y + step[None, :] * p
        e, slope = _energy_gradient(y, net, member, precision, LAYOUT)
    p = p - 0.5 * size * slope
    tl.store(x + at, y, mask=mask)
    tl.store(momentum + at, p, mask=mask)
    tl.store(gradient + at, slope, mask=mask)
    tl.store(f + chain, e, mask=point < n)


def run_langevin(
    x: Tensor,
    network: Network,
    noise: Tensor,
    precision: float,
    sizes: Sequence[float],
    scales: Sequence[float],
) -> Tensor:
    """See `functional.langevin`; tensors are contiguous.

    Step sizes are arguments of the kernel, which a CUDA graph stores, and not a tensor, which would
    be copied from the host. Successive steps of the same size are one launch.
    """
    x, layout = x.clone(), Layout.of(x, network)
    end = 0
    for (size, scale), same in groupby(zip(sizes, scales, strict=True)):
        begin, end = end, end + len(list(same))
        _launch(
            _langevin_kernel, x, _parameters(network), noise, x, x.shape[-2], begin, end,
            len(sizes), precision, size, scale, layout,
        )  # fmt: skip
    return x


def run_leapfrog(
    x: Tensor,
    network: Network,
    momentum: Tensor,
    gradient: Tensor,
    eps: Tensor,
    precision: float,
    temperature: float,
    steps: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `functional.leapfrog`; tensors are contiguous."""
    outputs = x.clone(), momentum.clone(), gradient.clone(), x.new_empty(x.shape[:-1])
    *state, f = outputs
    _launch(
        _leapfrog_kernel, x, _parameters(network), *state, eps, f, x.shape[-2], steps, precision,
        1 / temperature, Layout.of(x, network),
    )  # fmt: skip
    return outputs


def _launch(kernel: Any, x: Tensor, *arguments: Any) -> None:
    """Runs the kernel with one program for POINTS points of a member."""
    members = len(x) if x.dim() == 3 else 1
    with torch.cuda.device_of(x):
        kernel[triton.cdiv(x.shape[-2], POINTS.value), members](*arguments, num_warps=WARPS)


def _parameters(network: Network) -> _Parameters:
    scale, _, frequencies, matrices, biases = network
    return _Parameters(scale, frequencies, tuple(matrices), tuple(biases))
