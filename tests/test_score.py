"""score.py against explicit Hessians, and what `freeze` must put back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ebmtrain.methods.contrast import contrastive_loss
from ebmtrain.models.mlp import MLP
from ebmtrain.score import (
    attached_gradient,
    count_evaluations,
    energies,
    energy_and_gradient,
    freeze,
    gradients,
    in_chunks,
    score,
    score_and_divergence,
    score_and_products,
)


class Quartic(nn.Module):
    """E(x) = (x'Ax)^2 / 4 + sum sin(x), of events of any shape; no closed form."""

    def __init__(self, size: int):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        a = torch.randn(size, size, generator=generator, dtype=torch.float64)
        self.a = nn.Parameter(a + a.T)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return ((flat @ self.a) * flat).sum(1).square() / 4 + flat.sin().sum(1)


EVENTS = pytest.mark.parametrize("event", [(3,), (2, 2)])


def case(event: tuple[int, ...]) -> tuple[Quartic, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(5, *event, generator=generator, dtype=torch.float64)
    return Quartic(x[0].numel()), x


def hessians(energy: nn.Module, x: Tensor) -> Tensor:
    """(batch, d, d), one point at a time."""
    d = x[0].numel()
    one = [torch.autograd.functional.hessian(lambda u: energy(u[None])[0], point) for point in x]
    return torch.stack([h.reshape(d, d) for h in one])  # type: ignore[union-attr]


@EVENTS
def test_divergence_is_minus_the_trace_of_the_hessian(event):
    """tr(ds/dx) = -tr(d2E), and s = -dE."""
    energy, x = case(event)
    s, divergence = score_and_divergence(energy, x)
    assert s.shape == x.shape
    torch.testing.assert_close(s, -energy_and_gradient(energy, x)[1])
    trace = hessians(energy, x).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(divergence, -trace)


@EVENTS
def test_product_is_minus_the_quadratic_form_of_the_hessian(event):
    """v'(ds/dx)v = -v'(d2E)v for each of three v, from a single pass through the energy."""
    energy, x = case(event)
    v = torch.randn(3, *x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
    passes = []
    energy.register_forward_hook(lambda *_: passes.append(1))
    s, products = score_and_products(energy, x, v)
    assert len(passes) == 1
    torch.testing.assert_close(s, -energy_and_gradient(energy, x)[1])
    flat = v.flatten(2)
    form = torch.einsum("nbi,bij,nbj->nb", flat, hessians(energy, x), flat)
    torch.testing.assert_close(products, -form)


@EVENTS
def test_divergence_carries_a_gradient_to_the_parameters(event):
    """d/dA of tr(ds/dx) is a central difference's."""
    energy, x = case(event)
    score_and_divergence(energy, x)[1].sum().backward()
    assert energy.a.grad is not None
    direction = torch.randn(
        energy.a.shape, generator=torch.Generator().manual_seed(3), dtype=x.dtype
    )
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            energy.a.add_(direction, alpha=sign * 1e-5)
        values.append(score_and_divergence(energy, x)[1].sum().item())
        with torch.no_grad():
            energy.a.sub_(direction, alpha=sign * 1e-5)
    expected = (values[0] - values[1]) / 2e-5
    assert (energy.a.grad * direction).sum().item() == pytest.approx(expected, rel=1e-6)


def test_gradient_of_a_point_alone_is_the_gradient_in_a_batch():
    """A sum over the batch, not a mean."""
    energy, x = case((3,))
    gradient = energy_and_gradient(energy, x)[1]
    for i in range(len(x)):
        torch.testing.assert_close(
            energy_and_gradient(energy, x[i : i + 1])[1], gradient[i : i + 1]
        )


def test_chain_gradient_is_detached_and_leaves_its_input_alone():
    energy, x = case((3,))
    with torch.no_grad():  # as in a chain
        e, gradient = energy_and_gradient(energy, x)
    assert e.grad_fn is None
    assert gradient.grad_fn is None
    assert not x.requires_grad
    assert energy.a.grad is None


def test_closed_form_is_used_where_there_is_one():
    class Known(Quartic):
        def energy_and_gradient(self, x):
            return self(x) + 100, torch.full_like(x, 7.0)

    x = case((3,))[1]
    e, gradient = energy_and_gradient(Known(3), x)
    assert e.grad_fn is None
    assert (gradient == 7).all()


def test_score_keeps_the_graph_to_a_point_that_requires_a_gradient():
    energy, x = case((3,))
    x.requires_grad_()
    (back,) = torch.autograd.grad(score(energy, x).sum(), x)
    torch.testing.assert_close(back, -hessians(energy, x.detach()).sum(2))


class Boom(Exception):
    pass


def test_frozen_puts_everything_back_even_after_an_exception():
    """requires_grad of each parameter and the mode of each part, both as they were."""
    net = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.5), nn.BatchNorm1d(4), nn.Linear(4, 1))
    net.train()
    net[2].eval()  # a part that its owner froze
    net[0].bias.requires_grad_(False)
    modes = [module.training for module in net.modules()]
    wanted = [p.requires_grad for p in net.parameters()]

    def use() -> None:
        with freeze(net):
            assert not any(module.training for module in net.modules())
            assert not any(p.requires_grad for p in net.parameters())
            raise Boom

    with pytest.raises(Boom):
        use()
    assert [module.training for module in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == wanted


def test_frozen_takes_an_energy_that_is_no_module():
    x = torch.ones(3, 2, requires_grad=True)
    with freeze(lambda u: u.square().sum(1)):
        x.square().sum().backward()  # points keep their gradient in it
    assert torch.equal(x.grad, torch.full((3, 2), 2.0))


def test_evaluations_are_counted_once_each():
    model = MLP(event_shape=(2,), width=4)
    x = torch.randn(7, 2)
    with count_evaluations(model) as tally:
        model(x)
        assert tally.points == 7
        energy_and_gradient(model, x)  # the closed form does not pass through forward
        assert tally.points == 14
        energy_and_gradient(lambda u: model(u), x)  # autograd does
        assert tally.points == 21
        score_and_divergence(model, x)  # d + 1 derivatives of one pass
        assert tally.points == 28
    model(x)
    energy_and_gradient(model, x)
    assert tally.points == 28
    assert "energy_and_gradient" not in vars(model)


def test_a_closed_form_that_passes_through_forward_counts_once():
    class Quadratic(nn.Module):
        def forward(self, x):
            return x.square().sum(1) / 2

        def energy_and_gradient(self, x):
            return self(x), x

    model = Quadratic()
    with count_evaluations(model) as tally:
        energy_and_gradient(model, torch.randn(5, 3))
    assert tally.points == 5


@pytest.mark.parametrize("n", [1, 4, 8, 9])
def test_many_points_are_evaluated_a_few_at_a_time(n):
    """In their order, whether or not the size divides their number."""
    sizes = []

    def function(part: Tensor) -> Tensor:
        sizes.append(len(part))
        return part.square().sum(1)

    x = torch.arange(2.0 * n).view(n, 2)
    assert torch.equal(in_chunks(function, x, 4), x.square().sum(1))
    assert max(sizes) <= 4
    assert sum(sizes) == n


def test_energies_and_gradients_of_many_points():
    """Without a graph, in eval mode, and the mode is put back."""
    energy, x = case((3,))
    energy.train()
    seen = []
    energy.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    e, gradient = energy_and_gradient(energy, x)
    seen.clear()
    found = energies(energy, x, size=2)
    assert seen == [False] * 3
    assert energy.training
    assert not found.requires_grad
    torch.testing.assert_close(found, e)
    torch.testing.assert_close(gradients(energy, x, size=2), gradient)


class TestAttachedGradient:
    """A loss whose gradient is known: the same gradient with and without autograd's engine."""

    def loss(self, energy: nn.Module, batch: int = 4096) -> Tensor:
        x, y = torch.randn(2, batch, 2, generator=torch.Generator().manual_seed(0))
        return contrastive_loss(energy, x, y, 0.01)[0]

    def energy(self) -> MLP:
        return MLP(event_shape=(2,), width=16, depth=2)

    def test_it_is_the_gradient_of_autograd(self):
        energy = self.energy()
        tensors = list(energy.parameters())
        loss = self.loss(energy)
        flat = attached_gradient(loss, tensors)
        assert flat is not None
        expected = torch.autograd.grad(loss, tensors, retain_graph=True)
        assert torch.equal(flat, torch.cat([g.flatten() for g in expected]))
        scaled = torch.autograd.grad(3 * loss, tensors)
        assert torch.equal(3 * flat, torch.cat([g.flatten() for g in scaled]))

    def test_another_loss_or_other_tensors_have_none(self):
        energy = self.energy()
        tensors = list(energy.parameters())
        loss = self.loss(energy)
        assert attached_gradient(2 * loss, tensors) is None
        assert attached_gradient(loss, tensors[:-1]) is None
        assert attached_gradient(loss, [*tensors[1:], tensors[0]]) is None
        assert attached_gradient(energy(torch.zeros(3, 2)).sum(), tensors) is None
        assert attached_gradient(torch.zeros(()), tensors) is None
        normed = MLP(event_shape=(2,), width=16, depth=2, spectral_norm=True)
        assert attached_gradient(self.loss(normed), list(normed.parameters())) is None
