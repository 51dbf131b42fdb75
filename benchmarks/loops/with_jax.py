"""JAX: the whole epoch in one jitted lax.scan."""

from __future__ import annotations

import math
from typing import Any

import jax as j
import jax.numpy as jnp
import optax

from loops.setting import EPS, ETA, RATE, SIGMA, VARIANCE, Epoch, M, Setting, common

Weights = list[Any]


class Losses:
    """(weights, points, chains, key) -> loss and the chains, advanced if the method has any."""

    def __init__(self, s: Setting):
        self.k = s.k
        self.act = j.nn.silu if s.smooth else j.nn.leaky_relu
        self.value_and_slope = j.value_and_grad(self.total, has_aux=True)

    def energies(self, weights: Weights, x: Any) -> Any:
        w1, b1, w2, b2, w3, b3 = weights
        return (self.act(self.act(x @ w1.T + b1) @ w2.T + b2) @ w3.T + b3)[:, 0]

    def total(self, x: Any, weights: Weights) -> Any:
        energies = self.energies(weights, x)
        return energies.sum(), energies

    def slope(self, x: Any, weights: Weights) -> tuple[Any, Any]:
        """Energies and their gradient in x."""
        (_, energies), gradient = self.value_and_slope(x, weights)
        return energies, gradient

    def langevin(self, weights: Weights, y: Any, key: Any) -> Any:
        def move(y: Any, noise: Any) -> Any:
            return y - ETA * self.slope(y, weights)[1] + (2 * ETA) ** 0.5 * noise, None

        return j.lax.scan(move, y, j.random.normal(key, (self.k, *y.shape)))[0]

    def hmc(self, weights: Weights, x: Any, key: Any) -> Any:
        for_momentum, for_choice = j.random.split(key)
        p = j.random.normal(for_momentum, x.shape)
        energy, force = self.slope(x, weights)
        before = energy + (p**2).sum(1) / 2

        def leap(state: Any, _: Any) -> Any:
            y, p, _, force = state
            p = p - EPS / 2 * force
            y = y + EPS * p
            energy, force = self.slope(y, weights)
            return (y, p - EPS / 2 * force, energy, force), None

        (y, p, energy, _), _ = j.lax.scan(leap, (x, p, energy, force), length=self.k)
        log_ratio = before - energy - (p**2).sum(1) / 2
        taken = jnp.log(j.random.uniform(for_choice, energy.shape)) < log_ratio
        return jnp.where(taken[:, None], y, x)

    def contrastive(self, move: Any, weights: Weights, x: Any, chains: Any, key: Any) -> Any:
        chains = j.lax.stop_gradient(move(weights, chains, key))
        e = self.energies(weights, jnp.concatenate([x, chains]))
        return e[: len(x)].mean() - e[len(x) :].mean(), chains

    def pcd(self, *arguments: Any) -> Any:
        return self.contrastive(self.langevin, *arguments)

    def with_hmc(self, *arguments: Any) -> Any:
        return self.contrastive(self.hmc, *arguments)

    def dsm(self, weights: Weights, x: Any, chains: Any, key: Any) -> Any:
        xi = j.random.normal(key, x.shape)
        gradient = self.slope(x + SIGMA * xi, weights)[1]
        return ((xi - SIGMA * gradient) ** 2).sum(1).mean() / 2, chains

    def ssm(self, weights: Weights, x: Any, chains: Any, key: Any) -> Any:
        v = j.random.normal(key, x.shape)
        gradient, turned = j.jvp(lambda y: self.slope(y, weights)[1], (x,), (v,))
        along = (gradient * v).sum(1)
        return (along**2 / 2 - (turned * v).sum(1)).mean(), chains

    def ed(self, weights: Weights, x: Any, chains: Any, key: Any) -> Any:
        std, (one, other) = math.sqrt(VARIANCE), j.random.split(key)
        others = x + std * j.random.normal(one, x.shape)
        others = others + std * j.random.normal(other, (M, *x.shape))
        e = self.energies(weights, jnp.concatenate([x, others.reshape(-1, x.shape[1])]))
        terms = e[: len(x)] - e[len(x) :].reshape(M, -1)
        terms = jnp.concatenate([terms, jnp.zeros((1, len(x)))])
        return j.scipy.special.logsumexp(terms, axis=0).mean() - math.log(M), chains


def jax(s: Setting) -> Epoch:
    points, first, flat = common(s)
    data = jnp.asarray(points)
    optimizer = optax.adam(RATE)
    losses = Losses(s)
    one = {
        "pcd": losses.pcd, "hmc": losses.with_hmc, "dsm": losses.dsm, "ssm": losses.ssm,
        "ed": losses.ed,
    }[s.method]  # fmt: skip

    @j.jit
    def run(carry: Any, key: Any) -> Any:
        order, noise = j.random.split(key)
        rows = j.random.permutation(order, s.points)[: s.steps * s.batch].reshape(s.steps, s.batch)

        def body(carry: Any, what: Any) -> Any:
            weights, moments, chains = carry
            index, key = what
            (value, chains), gradient = j.value_and_grad(one, has_aux=True)(
                weights, data[index], chains, key
            )
            updates, moments = optimizer.update(gradient, moments)
            return (optax.apply_updates(weights, updates), moments, chains), value

        return j.lax.scan(body, carry, (rows, j.random.split(noise, s.steps)))

    weights = [jnp.asarray(w) for w in flat]
    carry: Any = (weights, optimizer.init(weights), jnp.asarray(first))
    key = j.random.key(0)

    def epoch() -> None:
        nonlocal carry, key
        key, now = j.random.split(key)
        carry, values = run(carry, now)
        values.block_until_ready()

    return epoch
