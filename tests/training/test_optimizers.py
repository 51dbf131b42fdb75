"""Each optimizer is its formula, with every option that it offers; so is its written-out form."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from ebmtrain.training.compiled import decompositions
from ebmtrain.training.optimizers import Adam, AdamW, OptimizerSpec, Sgd
from ebmtrain.training.torch_optimizers import fused_adam, without_dynamo

LR = 0.1


def gradients() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return list(torch.randn(6, 5, generator=generator, dtype=torch.float64))


def initial_weights() -> Tensor:
    return torch.linspace(-2, 3, 5, dtype=torch.float64)


def adam(spec: Adam | AdamW, w: Tensor) -> Iterator[Tensor]:
    """m and v are means of g and g^2 with weights that sum to 1 - beta^t, which is divided out."""
    m = v = torch.zeros_like(w)
    for t, g in enumerate(gradients(), 1):
        if isinstance(spec, AdamW):
            w = w - LR * spec.weight_decay * w
        else:
            g = g + spec.weight_decay * w
        m = spec.beta1 * m + (1 - spec.beta1) * g
        v = spec.beta2 * v + (1 - spec.beta2) * g**2
        root = (v / (1 - spec.beta2**t)).sqrt()
        w = w - LR * m / (1 - spec.beta1**t) / (root + spec.eps)
        yield w


def sgd(spec: Sgd, w: Tensor) -> Iterator[Tensor]:
    """b = momentum * b + g moves w; nesterov looks one momentum ahead. The first b is g."""
    b = torch.zeros_like(w)
    for g in gradients():
        g = g + spec.weight_decay * w
        b = spec.momentum * b + g
        w = w - LR * (g + spec.momentum * b if spec.nesterov else b)
        yield w


CASES = pytest.mark.parametrize(
    ("spec", "formula"),
    [
        (Adam(lr=LR), adam),
        (Adam(lr=LR, beta1=0.7, beta2=0.8, eps=0.3, weight_decay=0.2), adam),
        (AdamW(lr=LR), adam),
        (AdamW(lr=LR, beta1=0.7, beta2=0.8, eps=0.3, weight_decay=0.4), adam),
        (Sgd(lr=LR, momentum=0.0), sgd),
        (Sgd(lr=LR, momentum=0.0, weight_decay=0.2), sgd),
        (Sgd(lr=LR, momentum=0.6, weight_decay=0.2), sgd),
        (Sgd(lr=LR, momentum=0.6, weight_decay=0.2, nesterov=True), sgd),
    ],
    ids=[
        "adam",
        "adam-options",
        "adamw",
        "adamw-options",
        "sgd",
        "sgd-decay",
        "sgd-momentum",
        "sgd-nesterov",
    ],
)


@CASES
def test_updates_are_the_formula(
    spec: OptimizerSpec, formula: Callable[..., Iterator[Tensor]]
) -> None:
    w = initial_weights().requires_grad_()
    optimizer = spec.build([w])
    for g, expected in zip(gradients(), formula(spec, initial_weights()), strict=True):
        w.grad = g
        optimizer.step()
        torch.testing.assert_close(w.detach(), expected)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD])
def test_foreach_updates_agree_with_torch(kind: type[torch.optim.Optimizer]) -> None:
    ends = []
    for made in (kind, without_dynamo(kind)):
        w = initial_weights().requires_grad_()
        optimizer, hooked = made([w], lr=LR), []  # pyright: ignore[reportCallIssue]  # its defaults
        optimizer.register_step_post_hook(lambda *_, hooked=hooked: hooked.append(1))
        for g in gradients():
            optimizer.zero_grad()
            w.grad = g.clone()
            optimizer.step()
        assert isinstance(optimizer, kind)
        assert len(hooked) == len(gradients())
        ends.append((w.detach(), optimizer.state_dict()["state"]))
    (w, state), (other, others) = ends
    assert torch.equal(w, other)
    assert state.keys() == others.keys()
    for name, value in state.get(0, {}).items():
        assert value is None or torch.equal(value, others[0][name])


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_short_adam_step_agrees_with_torch(decoupled: bool) -> None:
    """To the bit: weights and state, with a parameter whose first gradient comes late, one without
    one for a while, two groups, a rate that changes and a state that is loaded."""
    options = {"lr": LR, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
    kind: Any = torch.optim.AdamW if decoupled else torch.optim.Adam
    ends = []
    for short in (False, True):
        ws = [initial_weights().requires_grad_() for _ in range(3)]

        def build(ws: list[Tensor], short: bool = short) -> torch.optim.Optimizer:
            groups: Any = [{"params": ws[:1]}, {"params": ws[1:]}]
            if short:
                return fused_adam(groups, decoupled=decoupled, **options)
            return kind(groups, fused=True, **options)

        optimizer = build(ws)
        for i, g in enumerate([*gradients(), *gradients()]):
            ws[0].grad = g.clone()
            ws[1].grad = 2 * g if i >= 2 else None
            ws[2].grad = 3 * g if i != 4 else None
            optimizer.param_groups[0]["lr"] = LR / (1 + i)
            optimizer.step()
            if i == 3:
                saved = copy.deepcopy(optimizer.state_dict())
                optimizer = build(ws)
                optimizer.load_state_dict(saved)
        ends.append((ws, optimizer.state_dict()))
    (ws, state), (others, other_state) = ends
    for one, other in zip(ws, others, strict=True):
        assert torch.equal(one, other)
    assert state["param_groups"] == other_state["param_groups"]
    assert state["state"].keys() == other_state["state"].keys() == {0, 1, 2}
    for i, kept in state["state"].items():
        for name, value in kept.items():
            assert torch.equal(value, other_state["state"][i][name])


@CASES
def test_functional_updates_are_the_formula(
    spec: OptimizerSpec, formula: Callable[..., Iterator[Tensor]]
) -> None:
    """What a compiler is given in place of torch's one operation."""
    w, lr = initial_weights(), torch.tensor(LR, dtype=torch.float64)
    m, v, step = torch.zeros_like(w), torch.zeros_like(w), torch.zeros(())
    for g, expected in zip(gradients(), formula(spec, initial_weights()), strict=True):
        step += 1  # as torch does before its operation
        if isinstance(spec, Sgd):
            decompositions.sgd(
                [w], [g], [m], lr=lr, weight_decay=spec.weight_decay, momentum=spec.momentum,
                dampening=0.0, nesterov=spec.nesterov, maximize=False,
                is_first_step=bool(step == 1),
            )  # fmt: skip
        else:
            decompositions.adam(
                [w], [g], [m], [v], [], [step], lr=lr, beta1=spec.beta1, beta2=spec.beta2,
                weight_decay=spec.weight_decay, eps=spec.eps, amsgrad=False, maximize=False,
                decoupled=isinstance(spec, AdamW),
            )  # fmt: skip
        torch.testing.assert_close(w, expected)


@pytest.mark.parametrize("late", [0, 3])
def test_one_step_count_is_shared_if_all_agree(late: int) -> None:
    """A parameter may have come to the optimizer later than another."""
    ws = [initial_weights().requires_grad_(), initial_weights().requires_grad_()]
    optimizer = Adam(lr=LR).build(ws)
    for i, g in enumerate(gradients()):
        for w, since in zip(ws, (0, late), strict=True):
            w.grad = g.clone() if i >= since else None
        optimizer.step()
        agree = decompositions._has_shared_step_count(optimizer)
        assert agree == (late == 0 or i < late)
    kept = [optimizer.state[w] for w in ws]
    written = [[s[name].clone() for s in kept] for name in ("exp_avg", "exp_avg_sq", "step")]
    copies = [w.detach().clone() for w in ws]
    g = next(iter(gradients()))
    for w in ws:
        w.grad = g.clone()
    optimizer.step()
    decompositions.adam(
        copies, [g, g], *written[:2], [], [t + 1 for t in written[2]], lr=torch.tensor(LR),
        beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        shared_step=agree,
    )  # fmt: skip
    for one, other in zip(copies, ws, strict=True):
        torch.testing.assert_close(one, other.detach())


@pytest.mark.parametrize("others", [{"amsgrad": True}, {"maximize": True}])
def test_unsupported_options_are_refused(others: dict[str, bool]) -> None:
    """Else it would be left out in silence."""
    spec, w = Adam(lr=0.1), initial_weights()
    flags = {"amsgrad": False, "maximize": False} | others
    with pytest.raises(ValueError, match="not implemented"):
        decompositions.adam(
            [w], [w], [w], [w], [], [torch.ones(())], lr=torch.tensor(0.1), beta1=spec.beta1,
            beta2=spec.beta2, weight_decay=0.0, eps=spec.eps, **flags,
        )  # fmt: skip


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999, 0.999999])
def test_one_minus_power_is_precise(beta):
    """1 - beta^t in float32, also where it is tiny."""
    t = torch.tensor([1.0, 2.0, 10.0, 1000.0, 1e6])
    exact = 1 - torch.tensor(beta, dtype=torch.float64) ** t.double()
    assert torch.allclose(
        decompositions._one_minus_power(beta, t).double(), exact, rtol=1e-6, atol=0
    )
