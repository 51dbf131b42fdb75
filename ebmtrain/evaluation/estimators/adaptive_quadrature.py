"""Expectations under a known density of up to three dimensions, by h-adaptive Gauss-Lobatto
cubature: for densities that are finer than a uniform grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ebmtrain.types import Region

_MAX_POINTS = 2_000_000
_MAX_ROUNDS = 200  # of divisions
# Five nodes on (-1, 1) and their weights, exact for polynomials of degree 7. The ends are nodes: a
# jump near the face of a box is between two nodes.
_GAUSS_LOBATTO = torch.tensor(
    [
        [-1.0, -math.sqrt(3 / 7), 0.0, math.sqrt(3 / 7), 1.0],
        [1 / 10, 49 / 90, 32 / 45, 49 / 90, 1 / 10],
    ],
    dtype=torch.float64,
)
_FIRST_BOXES_PER_AXIS = 4
# For densities that are not known as well as their samples.
_INTEGRAL_BOXES_PER_AXIS = {1: 256, 2: 24, 3: 6}
_MAX_INTEGRAL_POINTS = 500_000
_N_NODES_AS_SAMPLES = 4_000
# A box with so many samples, or more, is too wide where their standard deviation along an axis is a
# smaller part of its width. That of a uniform density is 0.29, that of a Gaussian 12 std wide 0.08.
_MIN_SAMPLES = 16
_MIN_RELATIVE_SPREAD = 1 / 12
# A box is too wide where p at a sample, times the volume, is more times its mass, for each axis.
# This is 1 for a uniform density, 4 for a Gaussian in the middle of a box 10 std wide.
_MAX_PEAK_RATIO = 4.0
# Steps from a sample away from one of its nearest neighbours, beyond the outermost samples: without
# them a tail of p in a box without samples is missed.
_NEIGHBOURS = (1, 4, 16, 64)
_STEP_LENGTH = 2.0  # in distances to the neighbour
_TAIL_STD = 6.0  # of f, between its mean and its value in a tail
_MIN_LOG_P = -300.0  # below it p counts as 0
_NEGLIGIBLE_MASS = 1e-3  # in tolerances: a box that has less at the largest p known is not divided


class _Samples(NamedTuple):
    """Points at which p is known, for the choice of boxes."""

    points: Tensor
    """(m, d)"""
    log_p: Tensor
    """(m,)"""
    is_sample: Tensor
    """(m,), bool: drawn from p."""
    owner: Tensor
    """(m,), int64: the box of each."""


class _Expectation(NamedTuple):
    """integral p f / integral p, with its nodes."""

    value: float
    mass: float
    """integral p over the region: 1 where p is normalised, has its mass there and is resolved."""
    error: float
    """Estimated error of `value` and of log `mass`, the larger of both; inf if there are boxes that
    are too wide for the samples in them."""
    points: Tensor
    """(n, d), float64."""
    masses: Tensor
    """(n,): weight of each point times p, divided by `mass`."""
    evaluations: int
    """Of log p, at most."""


class _Boxes(NamedTuple):
    centre: Tensor
    """(n, d)"""
    half: Tensor
    """(n, d), half of the widths."""
    mass: Tensor
    """(n, nodes): weights times p."""
    integrals: Tensor
    """(n, 3), of p, of p f and of p f^2."""
    error: Tensor
    """(n, 2), signed: the change of the parent's integrals by its division, divided by the number
    of its parts. inf: not known, and the box is too wide."""


def expectation(
    log_density: Callable[[Tensor], Tensor],
    function: Callable[[Tensor, Tensor], Tensor],
    region: Region,
    samples: Tensor,
    tolerance: float,
    max_points: int = _MAX_POINTS,
    *,
    normalised: bool = True,
    boxes_per_axis: int = _FIRST_BOXES_PER_AXIS,
) -> _Expectation:
    """E_p[f] over a tree of boxes, each with a product of Gauss-Lobatto rules.

    A box is halved along every axis if it is too wide for the samples of p in it, or if its
    division changes the integral of p or of p f. Boxes with the largest changes come first: each
    round divides so many that the rest has at most half of the sum of the absolute changes. It ends
    when the estimated error is at most half of `tolerance`, or when `max_points` are used. A jump
    of p leaves an error proportional to the width of the boxes that it crosses.

    Args:
        log_density: log p, (n, d) float64 -> (n,).
        function: f of points, (n, d), and of log p there, (n,) -> (n,). It is called where p > 0
            only, and is finite there.
        region: first box; it holds the mass of p.
        samples: of p, and known maxima of p; (m, d), float64, in the region. A part of p without a
            sample may be missed: `mass` is then less than 1.
        tolerance: of the result and of log integral p; > 0.
        max_points: largest number of evaluations of log p.
        normalised: whether p integrates to 1. If not, the error is relative to its integral, and
            the samples are points where p may be large.
        boxes_per_axis: at first.
    """
    d = samples.shape[1]
    nodes, weights = (torch.cartesian_prod(*[row] * d).view(-1, d) for row in _GAUSS_LOBATTO)
    floor = math.log(_NEGLIGIBLE_MASS * tolerance)
    evaluate = partial(_evaluate, log_density, function, nodes, weights.log().sum(1), floor)
    around = torch.cat([samples, _beyond(samples).clamp(region.low, region.high)])
    log_peaks = log_density(around)
    log_peaks = log_peaks.where(log_peaks > -math.inf, -math.inf)  # NaN: no peak
    is_sample = torch.arange(len(around)) < (len(samples) if normalised else 0)
    width = (region.high - region.low).double()
    axis = (torch.arange(boxes_per_axis, dtype=torch.float64) + 0.5) / boxes_per_axis
    centre = region.low.double() + width * torch.cartesian_prod(*[axis] * d).view(-1, d)
    half = (width / boxes_per_axis / 2).expand_as(centre)
    owner = torch.cdist(around / width, centre / width, p=math.inf).argmin(1)
    known = _Samples(around, log_peaks, is_sample, owner)
    boxes = evaluate(centre, half, known)
    boxes = boxes._replace(error=torch.full_like(boxes.error, math.inf))  # each is divided once
    used = len(around) + boxes.mass.numel()
    corners = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5]).double()] * d).view(-1, d)
    for _ in range(_MAX_ROUNDS):
        most = max(0, max_points - used) // (len(corners) * len(nodes))
        if _error(boxes, normalised=normalised) <= tolerance / 2:
            break
        rows = _boxes_to_divide(_changes(boxes))[:most]
        if not len(rows):
            break
        old = _Boxes(*(part[rows] for part in boxes))
        centre = (old.centre[:, None] + corners * old.half[:, None]).view(-1, d)
        half = (old.half / 2).repeat_interleave(len(corners), 0)
        kept = torch.ones(len(boxes.error), dtype=torch.bool)
        kept[rows] = False
        place = kept.cumsum(0) - 1
        place[rows] = torch.arange(len(rows)) * len(corners)
        inside = ~kept[owner]
        upper = around[inside] > boxes.centre[owner[inside]]
        owner = place[owner]
        owner[inside] += (upper * 2 ** torch.arange(d - 1, -1, -1)).sum(1)
        known = known._replace(owner=owner)
        new = evaluate(centre, half, _Samples(*(part[inside] for part in known)))
        used += new.mass.numel()
        sums = new.integrals.view(len(rows), len(corners), 3).sum(1)
        change = ((sums - old.integrals)[:, :2] / len(corners)).repeat_interleave(len(corners), 0)
        new = new._replace(error=new.error + change)
        owner[inside] += int(kept.sum())
        boxes = _Boxes(*(torch.cat([a[kept], b]) for a, b in zip(boxes, new, strict=True)))
    mass, value, _ = boxes.integrals.sum(0).tolist()
    return _Expectation(
        value=value / mass if mass > 0 else math.nan,
        mass=mass,
        error=_error(boxes, normalised=normalised),
        points=(boxes.centre[:, None] + boxes.half[:, None] * nodes).view(-1, d),
        masses=boxes.mass.flatten() / mass,
        evaluations=used,
    )


def integrate_adaptively(
    energy: Callable[[Tensor], Tensor],
    region: Region,
    samples: Tensor,
    log_z: float,
    tolerance: float,
    max_points: int = _MAX_INTEGRAL_POINTS,
) -> tuple[float, _Expectation]:
    """log integral of exp(-energy) over a region by the tree of boxes of `expectation`, and the
    tree: for an integrand that is finer than a uniform grid. `mass` of the tree is not 1.

    A box all of whose nodes miss a thin ridge has no change. Therefore nodes of the tree, chosen by
    their masses, are samples of a second integration, and the error is at least its difference.

    Args:
        energy: (n, d) float64 -> (n,); NaN counts as infinite.
        samples: where exp(-energy) may be large, (m, d), float64, in the region.
        log_z: a first estimate, which sets the scale.
        tolerance: of the result, in nats.
    """
    log_z, found = _integrate(energy, region, samples, log_z, tolerance, max_points)
    if not found.error <= tolerance:
        return log_z, found
    generator = torch.Generator().manual_seed(0)
    rows = torch.multinomial(
        found.masses, _N_NODES_AS_SAMPLES, replacement=True, generator=generator
    )
    again = torch.cat([samples, found.points[rows.unique()]])
    value, found = _integrate(energy, region, again, log_z, tolerance, max_points)
    return value, found._replace(error=max(found.error, abs(value - log_z)))


def _integrate(
    energy: Callable[[Tensor], Tensor],
    region: Region,
    samples: Tensor,
    log_z: float,
    tolerance: float,
    max_points: int,
) -> tuple[float, _Expectation]:
    """As `integrate_adaptively`, with the changes of boxes as the only error."""
    d, found = samples.shape[1], None
    for points in (max_points // 4, max_points, max_points):

        def log_density(x: Tensor, shift: float = log_z) -> Tensor:
            return -energy(x).double().nan_to_num(math.inf, posinf=math.inf) - shift

        found = expectation(
            log_density, lambda x, _: torch.zeros_like(x[:, 0]), region, samples, tolerance, points,
            normalised=False, boxes_per_axis=_INTEGRAL_BOXES_PER_AXIS[d],
        )  # fmt: skip
        change = math.log(found.mass) if 0 < found.mass < math.inf else math.nan
        log_z += change
        if (found.error <= tolerance and abs(change) < 1) or math.isnan(change):
            break
    assert found is not None
    return log_z, found


def _error(boxes: _Boxes, *, normalised: bool = True) -> float:
    """The largest of: the sum of the changes, with their signs, as those at jumps have either one;
    their root sum of squares; the difference of the mass to 1; and what the mass that is missing
    contributes to the result if it is in tails, where f is some standard deviations from its mean.
    The first two relative to the mass, without the others, if p is not normalised.
    """
    changes = _changes(boxes)
    change = torch.maximum(changes.sum(0).abs(), changes.square().sum(0).sqrt())
    mass, value, square = boxes.integrals.sum(0).tolist()
    if not mass > 0:
        return math.inf
    if not normalised:
        return float(change.max()) / mass
    std = math.sqrt(max(0.0, square / mass - (value / mass) ** 2))
    missing = abs(math.log(mass)) * max(1.0, _TAIL_STD * std)
    return max(float(change.max()), missing)


def _changes(boxes: _Boxes) -> Tensor:
    """What the change of each box contributes to P = integral p and to the result F / P, (n, 2),
    where F = integral p f and P is about 1: d(F / P) = dF - F / P dP. It is the same for f plus any
    constant."""
    mass, value, _ = boxes.integrals.sum(0)
    mean = value / mass.clamp(min=torch.finfo(mass.dtype).tiny)
    of_mass, of_value = boxes.error.unbind(1)
    of_result = torch.where(of_value.isinf(), of_value, of_value - mean * of_mass)
    return torch.stack([of_mass, of_result], 1)


def _beyond(samples: Tensor) -> Tensor:
    """Points on the far side of each sample from some of its neighbours, (k m, d)."""
    m = len(samples)
    ranks = [rank for rank in _NEIGHBOURS if rank < m]
    if not ranks:
        return samples[:0]
    parts = []
    for rows in samples.split(512):
        order = torch.cdist(rows, samples).topk(max(ranks) + 1, largest=False).indices
        parts += [rows + _STEP_LENGTH * (rows - samples[order[:, rank]]) for rank in ranks]
    return torch.cat(parts)


def _evaluate(
    log_density: Callable[[Tensor], Tensor],
    function: Callable[[Tensor, Tensor], Tensor],
    nodes: Tensor,
    log_weights: Tensor,
    floor: float,
    centre: Tensor,
    half: Tensor,
    samples: _Samples,
) -> _Boxes:
    """Boxes with the error 0, or inf where they are too wide for their samples. Those that are too
    wide by the spread of the samples have integrals of 0 and take no points of log p.

    Args:
        nodes, log_weights: of the rule on (-1, 1)^d, (nodes, d) and (nodes,).
        floor: log of the mass below which a box is not too wide.
    """
    n, d = centre.shape
    resolved = ~_too_wide(samples, half)
    points = (centre[resolved, None] + half[resolved, None] * nodes).view(-1, d)
    log_p = log_density(points) if len(points) else points[:, 0]
    f = torch.zeros_like(log_p)
    positive = log_p > _MIN_LOG_P
    if positive.any():
        f[positive] = function(points[positive], log_p[positive])
    log_p, f = (part.view(-1, len(nodes)) for part in (log_p, f))
    log_scale = half.log().sum(1)
    p = (log_p + log_weights + log_scale[resolved, None]).exp()
    mass = p.new_zeros(n, len(nodes))
    mass[resolved] = p
    integrals = p.new_zeros(n, 3)
    integrals[resolved] = torch.stack([(p * f**k).sum(1) for k in range(3)], 1)
    peak = p.new_full((n,), -math.inf).scatter_reduce(0, samples.owner, samples.log_p, "amax")
    log_volume = log_scale + d * math.log(2)
    expected = integrals[:, 0].log() + d * math.log(_MAX_PEAK_RATIO)
    far = peak + log_volume > expected.clamp(min=floor)
    error = torch.where((far | ~resolved)[:, None], math.inf, p.new_zeros(n, 2))
    return _Boxes(centre, half, mass, integrals, error)


def _too_wide(samples: _Samples, half: Tensor) -> Tensor:
    """For each box, whether its samples cover a small part of it along an axis, (n,)."""
    x, owner = samples.points[samples.is_sample], samples.owner[samples.is_sample]
    count = torch.bincount(owner, minlength=len(half))
    zeros = half.new_zeros(half.shape)
    mean = zeros.index_add(0, owner, x) / count[:, None]
    variance = zeros.index_add(0, owner, (x - mean[owner]).square()) / count[:, None]
    narrow = variance.sqrt() < _MIN_RELATIVE_SPREAD * 2 * half
    return narrow.any(1) & (count >= _MIN_SAMPLES)


def _boxes_to_divide(error: Tensor) -> Tensor:
    """Rows of the largest errors, in descending order: those that are infinite, and of the others
    so many that what is left is at most half of their sum."""
    size, order = error.abs().amax(1).sort(descending=True)
    rest = size.flip(0).cumsum(0).flip(0)
    finite = size[size < math.inf].sum()
    return order[rest > finite / 2]
