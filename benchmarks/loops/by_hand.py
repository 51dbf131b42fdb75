"""Training loops as in tutorials, in eager torch: derivatives of the energy by autograd, one
optimizer step. `net` returns energies of shape (batch, 1) or (batch,)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from loops.setting import EPS, ETA, RATE, SIGMA, VARIANCE, Epoch, M, Setting, common, network

Net = Callable[[Tensor], Tensor]
Move = Callable[[Net, Tensor, int], Tensor]


def slope(net: Net, y: Tensor) -> tuple[Tensor, Tensor]:
    """Energies and their gradient in y, both detached."""
    y = y.detach().requires_grad_()
    energies = net(y)
    (gradient,) = torch.autograd.grad(energies.sum(), y)
    return energies.detach().flatten(), gradient


def langevin(net: Net, y: Tensor, k: int) -> Tensor:
    for _ in range(k):
        y = y - ETA * slope(net, y)[1] + (2 * ETA) ** 0.5 * torch.randn_like(y)
    return y


def hmc(net: Net, x: Tensor, k: int, eps: float = EPS) -> Tensor:
    """One trajectory of k leapfrog steps, accepted or rejected."""
    y, p = x, torch.randn_like(x)
    energy, force = slope(net, y)
    before = energy + p.square().sum(1) / 2
    for _ in range(k):
        p = p - eps / 2 * force
        y = y + eps * p
        energy, force = slope(net, y)
        p = p - eps / 2 * force
    taken = torch.rand(len(x)).log() < before - energy - p.square().sum(1) / 2
    return torch.where(taken[:, None], y, x)


def contrastive(net: Any, move: Move, chains: Tensor, k: int) -> Callable[[Tensor], Tensor]:
    def loss(x: Tensor) -> Tensor:
        nonlocal chains
        for p in net.parameters():
            p.requires_grad_(False)
        chains = move(net, chains, k)
        for p in net.parameters():
            p.requires_grad_(True)
        return net(x).mean() - net(chains).mean()

    return loss


def denoising(net: Net, x: Tensor) -> Tensor:
    xi = torch.randn_like(x)
    y = (x + SIGMA * xi).requires_grad_()
    (gradient,) = torch.autograd.grad(net(y).sum(), y, create_graph=True)
    return (xi - SIGMA * gradient).square().sum(1).mean() / 2


def sliced(net: Net, x: Tensor) -> Tensor:
    v, y = torch.randn_like(x), x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(net(y).sum(), y, create_graph=True)
    along = -(gradient * v).sum(1)
    (turned,) = torch.autograd.grad(along.sum(), y, create_graph=True)
    return (along.square() / 2 + (turned * v).sum(1)).mean()


def discrepancy(net: Net, x: Tensor) -> Tensor:
    std = math.sqrt(VARIANCE)
    others = x + std * torch.randn_like(x) + std * torch.randn(M, *x.shape)
    energies = net(torch.cat([x, others.flatten(0, 1)])).flatten()
    terms = energies[: len(x)] - energies[len(x) :].view(M, -1)
    terms = torch.cat([terms, torch.zeros_like(terms[:1])])  # the term of the data point
    return terms.logsumexp(0).mean() - math.log(M)


def loss_of(s: Setting, net: Any, chains: Tensor) -> Callable[[Tensor], Tensor]:
    moves: dict[str, Move] = {"pcd": langevin, "hmc": hmc}
    if s.method in moves:
        return contrastive(net, moves[s.method], chains, s.k)
    of_points = {"dsm": denoising, "ssm": sliced, "ed": discrepancy}[s.method]
    return lambda x: of_points(net, x)


def by_hand(s: Setting) -> Epoch:
    points, first, weights = common(s)
    data, net = torch.from_numpy(points), network(s, weights)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    loss = loss_of(s, net, torch.from_numpy(first))

    def epoch() -> None:
        for rows in torch.randperm(s.points)[: s.steps * s.batch].view(s.steps, s.batch):
            value = loss(data[rows])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()

    return epoch
