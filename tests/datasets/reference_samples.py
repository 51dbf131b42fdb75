"""The toys as their authors wrote them: FFJORD's toy_data.py and scikit-learn, in numpy.

An independent implementation to test ours against; only the samples are shared, no density.
"""

from __future__ import annotations

import numpy as np


def moons(n, rng):
    t = np.linspace(0, np.pi, n // 2)
    outer = np.stack([np.cos(t), np.sin(t)], 1)
    inner = np.stack([1 - np.cos(t), 1 - np.sin(t) - 0.5], 1)
    x = np.concatenate([outer, inner])
    return (x + rng.normal(scale=0.1, size=x.shape)) * 2 + np.array([-1, -0.2])


def circles(n, rng):
    t = np.linspace(0, 2 * np.pi, n // 2, endpoint=False)
    outer = np.stack([np.cos(t), np.sin(t)], 1)
    x = np.concatenate([outer, 0.5 * outer])
    return (x + rng.normal(scale=0.08, size=x.shape)) * 3


def rings(n, rng):
    t = np.linspace(0, 2 * np.pi, n // 4, endpoint=False)
    circle = np.stack([np.cos(t), np.sin(t)], 1)
    x = 3 * np.concatenate([circle, 0.75 * circle, 0.5 * circle, 0.25 * circle])
    return x + rng.normal(scale=0.08, size=x.shape)


def swissroll(n, rng):
    t = 1.5 * np.pi * (1 + 2 * rng.uniform(size=n))
    x = np.stack([t * np.cos(t), t * np.sin(t)], 1) + rng.normal(size=(n, 2))
    return x / 5


def spirals(n, rng):
    t = np.sqrt(rng.random((n // 2, 1))) * 540 * (2 * np.pi) / 360
    d1x = -np.cos(t) * t + rng.random((n // 2, 1)) * 0.5
    d1y = np.sin(t) * t + rng.random((n // 2, 1)) * 0.5
    x = np.vstack((np.hstack((d1x, d1y)), np.hstack((-d1x, -d1y)))) / 3
    return x + rng.standard_normal(x.shape) * 0.1


def pinwheel(n, rng):
    rads = np.linspace(0, 2 * np.pi, 5, endpoint=False)
    features = rng.standard_normal((n // 5 * 5, 2)) * np.array([0.3, 0.1])
    features[:, 0] += 1.0
    labels = np.repeat(np.arange(5), n // 5)
    angles = rads[labels] + 0.25 * np.exp(features[:, 0])
    rotations = np.stack([np.cos(angles), -np.sin(angles), np.sin(angles), np.cos(angles)])
    rotations = np.reshape(rotations.T, (-1, 2, 2))
    return 2 * np.einsum("ti,tij->tj", features, rotations)


def checkerboard(n, rng):
    x1 = rng.random(n) * 4 - 2
    x2 = rng.random(n) - rng.integers(0, 2, n) * 2 + np.floor(x1) % 2
    return np.stack([x1, x2], 1) * 2


def eight_gaussians(n, rng):
    d = 1 / np.sqrt(2)
    centres = 4 * np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (d, d), (d, -d), (-d, d), (-d, -d)])
    return (rng.standard_normal((n, 2)) * 0.5 + centres[rng.integers(0, 8, n)]) / 1.414


def twenty_five_gaussians(n, rng):
    centres = 2 * np.array([(i, j) for i in range(-2, 3) for j in range(-2, 3)])
    return (rng.standard_normal((n, 2)) * 0.2 + centres[rng.integers(0, 25, n)]) / 1.414


def five_gaussians(n, rng):
    centres = np.array([(0, 0), (2, 2), (2, -2), (-2, 2), (-2, -2)])
    return rng.standard_normal((n, 2)) * 0.3 + centres[rng.integers(0, 5, n)]


BY_NAME = {
    "moons": moons,
    "circles": circles,
    "rings": rings,
    "swissroll": swissroll,
    "2spirals": spirals,
    "pinwheel": pinwheel,
    "checkerboard": checkerboard,
    "8gaussians": eight_gaussians,
    "25gaussians": twenty_five_gaussians,
    "five_gaussians": five_gaussians,
}
