"""In the graph of an update: energies of a perceptron and their derivative by its weights at once.

Autograd goes there with all points before it comes back with the first of them, and what is kept in
between, 2 KB of each, has left the cache by then. Where the derivative of the loss with respect to
energies does not depend on these, as the +-1/n of contrastive losses, each block of points may go
there and back before the next one: perceptron.h does.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import getitem
from typing import Any

import torch
from torch.fx import Graph, Node

from ebmtrain.models.perceptron_library import BACK

aten = torch.ops.aten
FILLED: dict[Any, int] = {aten.ones_like.default: 1, aten.zeros_like.default: 0}


def in_one_go(graph: Graph) -> None:
    """Changes it where that is so; what it computes stays the same.

    Args:
        graph: of torch's operations, as `make_fx` writes it.
    """
    for back in graph.find_nodes(op="call_function", target=BACK):
        v, u, _, _, kept = back.args[-5:]
        if u is None and kept is not None and len(kept.users) == 1:
            there = kept.args[0]
            fill(graph, before(v))
            needed = before(v)
            if there not in needed and all(map(pure, between(there, back))):
                join(graph, there, back, v, needed)


def between(first: Node, last: Node) -> list[Node]:
    order = [*first.graph.nodes]
    return order[order.index(first) : order.index(last)]


def before(node: Node) -> list[Node]:
    """The node, and all that it is computed from."""
    found, waiting = set[Node](), [node]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(one.all_input_nodes)
    return [one for one in node.graph.nodes if one in found]


def fill(graph: Graph, nodes: Iterable[Node]) -> None:
    """Ones like a tensor, with which each derivative begins, do not depend on its numbers."""
    for node in nodes:
        if node.target in FILLED:
            like = node.meta["val"]
            with graph.inserting_before(node):
                full = graph.call_function(
                    aten.full.default, (list(like.shape), FILLED[node.target]),
                    {"dtype": like.dtype, "device": like.device},
                )  # fmt: skip
            full.meta = dict(node.meta)
            node.replace_all_uses_with(full)
            graph.erase_node(node)


def pure(node: Node) -> bool:
    """Whether it changes nothing, so that others may be computed before it."""
    if node.op == "get_attr" or node.target is getitem:
        return True
    schema = getattr(node.target, "_schema", None)
    return schema is not None and not schema.is_mutable


def join(graph: Graph, there: Node, back: Node, v: Node, needed: Iterable[Node]) -> None:
    """One operation in the place of `there` that does what both do.

    Args:
        v: the derivative of the loss with respect to the energies.
        needed: for it.
    """
    for node in between(there, back):
        if node in needed:
            there.prepend(node)
    *points_and_network, _, _, _ = there.args
    with graph.inserting_before(there):
        both = graph.call_function(BACK, (*points_and_network, v, None, None, None, None))
        flat, f = (graph.call_function(getitem, (both, i)) for i in range(2))
    for part in [*back.users]:
        if part.args[1] == 0:
            part.replace_all_uses_with(flat)
        graph.erase_node(part)
    graph.erase_node(back)
    for part in [*there.users]:
        if part.args[1] == 0:
            part.replace_all_uses_with(f)
        graph.erase_node(part)
    graph.erase_node(there)
