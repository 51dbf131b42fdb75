"""What is a * x + b of a tensor in a graph is told from what is not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ebmtrain.training.compiled.affine import Parting
from ebmtrain.training.compiled.fusion import after, before

Function = Callable[[Tensor, Tensor], Tensor]


def parts(function: Function, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """Slope and offset of function(x, y) as one of x, by the graph; None: it is not affine."""
    graph = make_fx(lambda x, y: function(x * 1, y))(x, y).graph
    middle = next(node for node in graph.nodes if node.op == "call_function")
    output = next(iter(graph.find_nodes(op="output")))
    (end,) = output.all_input_nodes
    found = Parting([middle], after(middle), output).of(before([end]))
    if found is None:
        return None
    output.args = ((found.slope, found.offset),)
    module = torch.fx.GraphModule({}, graph)
    graph.lint()
    return module(torch.full_like(x, torch.nan), y)  # what the parts do not depend on


AFFINE: list[Function] = [
    lambda x, y: -x,
    lambda x, y: 3 * x,
    lambda x, y: x * y,
    lambda x, y: y * x,
    lambda x, y: x / y,
    lambda x, y: x + y,
    lambda x, y: y - x,
    lambda x, y: 2 - (x - 5),
    lambda x, y: x - x * y,
    lambda x, y: (x + y[:1]) * y.sum(),
    lambda x, y: torch.where(y > 0, x, y),
    lambda x, y: torch.where(y > 0, 0.0, -x),
    lambda x, y: torch.where(y > 0, x * y, 2 * x),
    lambda x, y: x.view(2, 3).unsqueeze(0).view(6) + y,
    lambda x, y: x[:] * y,
    lambda x, y: torch.cat([x[:2] * y[:2], x[2:5] + 1, -x[5:]]),
    lambda x, y: torch.cat([2 * a for a in x.split([2, 4])]),
    lambda x, y: torch.cat([a - 1 for a in x.view(3, 2).split([1, 2])]).view(6),
    lambda x, y: torch.cat([x.view(3, 2)[:1] * y[0], x.view(3, 2)[1:]]).view(6),
    lambda x, y: x.pow(1.0) * 2,
    lambda x, y: torch.ops.aten.slice_backward(3 * x[1:4], [6], 0, 1, 4, 1),
    lambda x, y: (
        torch.ops.aten.slice_backward(x[4:], [6], 0, 4, 2**63 - 1, 1)
        + torch.ops.aten.slice_backward(y[:4] * x[:4], [6], 0, 0, 4, 1)
    ),
    lambda x, y: x.expand(1, 6).view(6) / 4,
]
OTHER: list[Function] = [
    lambda x, y: x * x,
    lambda x, y: x**2,
    lambda x, y: torch.add(x, y, alpha=2),  # an option
    lambda x, y: torch.sub(x, y, alpha=2),
    lambda x, y: torch.cat([x[:3], y[:1], x[3:]]),
    lambda x, y: torch.cat([x[:3], y[:1], x[3:]])[:6],
    lambda x, y: torch.cat([x[:4].view(2, 2), x[4:].view(2, 1)], 1).view(6),
    lambda x, y: x + x[5:],
    lambda x, y: torch.cat([torch.cat(x[:4].view(2, 2).split([1, 1], 1)).view(4), x[4:]]),
    lambda x, y: torch.cat([x[:4], torch.ops.aten.slice.Tensor(x, 0, 4, 2), x[2:]])[:6],
    lambda x, y: y / x,
    lambda x, y: x.exp(),
    lambda x, y: x.sum() * y,
    lambda x, y: x + x.sum(),
    lambda x, y: x.flip(0),
    lambda x, y: torch.cat([x[3:], x[:3]]),
    lambda x, y: torch.cat([x[:3], y[3:]]),
    lambda x, y: torch.cat([x[:3], x[4:], y[:1]]),
    lambda x, y: x[:3] + x[3:],
    lambda x, y: torch.cat([x[:3] + x[3:], x[3:]]),
    lambda x, y: x[:3],
    lambda x, y: x[::2],
    lambda x, y: x.view(2, 3).T.reshape(6),
    lambda x, y: torch.cat(list(x.view(2, 3).split([1, 2], 1)), 1).view(6) * 1,
    lambda x, y: x.view(2, 3)[:, 1:],
    lambda x, y: torch.where(x > 0, x, y),
    lambda x, y: x[:, None] * y[:2],
    lambda x, y: torch.ops.aten.slice_backward(x[1:4], [6], 0, 0, 3, 1),
    lambda x, y: torch.ops.aten.slice_backward(x[:3], [6], 0, 0, 6, 2),
    lambda x, y: y + 1,
]


@pytest.mark.parametrize("i", range(len(AFFINE)))
def test_parts_make_up_the_whole(i):
    function, draw = AFFINE[i], torch.Generator().manual_seed(i)
    y = torch.randn(6, generator=draw)
    found = parts(function, torch.ones(6), y)
    assert found is not None
    slope, offset = found
    for _ in range(3):
        x = torch.randn(6, generator=draw)
        torch.testing.assert_close(slope * x + offset, function(x, y))


@pytest.mark.parametrize("i", range(len(OTHER)))
def test_what_is_none_is_left_alone(i):
    assert parts(OTHER[i], torch.ones(6), torch.arange(1.0, 7.0)) is None
