"""In the graph of an update: what a perceptron finds and its derivative by the weights at once.

Autograd goes there with all points before it comes back with the first of them, and what is kept in
between, kilobytes of each, has left the cache by then. Where the derivative of the loss with
respect to energies does not depend on these, as the +-1/n of contrastive losses, or is a * f + b of
an energy f, as that of squares is, each block of points may go there and back before the next one:
perceptron.h does. Likewise with gradients, as of score matching, and with curvatures.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import getitem
from typing import Any

import torch
from torch.fx import Graph, Node

from ebmtrain.models.perceptron.ops import AT_ONCE, BACK, THERE
from ebmtrain.training.compiled.affine import Parting

_aten = torch.ops.aten
_FILLED: dict[Any, int] = {_aten.ones_like.default: 1, _aten.zeros_like.default: 0}
_Parted = tuple[Node | None, Node | None]
"""Slope and offset of a derivative, by what it is taken with respect to. A slope of None: it has
none. No offset: nothing depends on it."""


def in_one_go(graph: Graph) -> None:
    """Changes it where that is so; what it computes stays the same, but for rounding.

    Args:
        graph: of torch's operations, as `make_fx` writes it.
    """
    backs = graph.find_nodes(op="call_function", target=BACK)
    for back in backs:
        *network, _, _, w, _, kept = back.args
        there = kept.args[0] if kept.target is getitem else None
        if (
            there is not None
            and there.target is THERE
            and [*there.args[:-2]] == [*network, w]
            and len(kept.users) == 1
            and all(map(_pure, _between(there, back)))
        ):
            _fill(graph, before(back.all_input_nodes))
            *_, v, u, _, b, _ = back.args
            derivatives = v, u, b
            found = [_parted(there, i, one, back) for i, one in enumerate(derivatives)]
            if None not in found:
                _join(there, back, w, found)
    if backs:  # of what was tried, and of what has another in its place
        graph.eliminate_dead_code(lambda node: node.op != "call_function" or not _pure(node))


def _between(first: Node, last: Node) -> list[Node]:
    order = [*first.graph.nodes]
    return order[order.index(first) : order.index(last)]


def before(ends: Iterable[Node | None]) -> list[Node]:
    """These nodes, and all that they are computed from, in order."""
    found, waiting = set[Node](), [end for end in ends if end]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(one.all_input_nodes)
    return sorted(found)


def after(first: Node) -> set[Node]:
    """The node, and all that is computed from it."""
    found = {first}
    for node in first.graph.nodes:
        if not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def _fill(graph: Graph, nodes: Iterable[Node]) -> None:
    """Ones like a tensor, with which each derivative begins, do not depend on its numbers."""
    for node in nodes:
        if node.target in _FILLED:
            like = node.meta["val"]
            with graph.inserting_before(node):
                full = graph.call_function(
                    _aten.full.default, (list(like.shape), _FILLED[node.target]),
                    {"dtype": like.dtype, "device": like.device},
                )  # fmt: skip
            full.meta = dict(node.meta)
            node.replace_all_uses_with(full)
            graph.erase_node(node)


def _pure(node: Node) -> bool:
    """Whether it changes nothing, so that others may be computed before it."""
    if node.op == "get_attr" or node.target is getitem:
        return True
    schema = getattr(node.target, "_schema", None)
    return schema is not None and not schema.is_mutable


def _parted(there: Node, i: int, derivative: Node | None, back: Node) -> _Parted | None:
    """The derivative with respect to the i-th of what is found there; None: it is not affine."""
    dependent = after(there)
    if derivative not in dependent:
        return None, derivative
    same = [node for node in there.users if node.args[1] == i]
    found = Parting(same, dependent, back).of(before([derivative])) if same else None
    return found and (found.slope, found.offset)


def _join(there: Node, back: Node, w: Node | None, found: Iterable[_Parted | None]) -> None:
    """One operation in the place of `there` that does what both do.

    Args:
        found: of the derivatives with respect to energies, gradients and curvatures.
    """
    graph = there.graph
    slopes, (v, u, b) = zip(*(one for one in found if one), strict=True)
    of_loss = v, u, w, b, *slopes
    needed = before(of_loss)
    for node in _between(there, back):
        if node in needed:
            there.prepend(node)
    *points_and_network, _, _, _ = there.args
    with graph.inserting_before(there):
        both = graph.call_function(AT_ONCE, (*points_and_network, *of_loss))
        flat, *results = (graph.call_function(getitem, (both, i)) for i in range(4))
    flat.meta = dict(back.meta)
    back.replace_all_uses_with(flat)
    graph.erase_node(back)
    for part in [*there.users]:
        for i, result in enumerate(results):
            if part.args[1] == i:
                result.meta = dict(part.meta)
                part.replace_all_uses_with(result)
        graph.erase_node(part)
    graph.erase_node(there)
