"""In a graph of tensor operations: what is a * x + b of a tensor x, number by number, where neither
a nor b depends on x."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import pairwise
from operator import getitem
from typing import Any, NamedTuple

import torch
from torch.fx import Node

_aten = torch.ops.aten
# In which of their arguments, taken together, operations are linear, the others being constant.
_LINEAR: dict[Any, tuple[int, ...]] = {
    _aten.neg.default: (0,), _aten.detach.default: (0,), _aten.view.default: (0,),
    _aten.unsqueeze.default: (0,), _aten.expand.default: (0,), _aten.mul.Scalar: (0,),
    _aten.div.Scalar: (0,), _aten.div.Tensor: (0,), _aten.add.Tensor: (0, 1),
    _aten.sub.Tensor: (0, 1),
    _aten.where.self: (1, 2), _aten.slice.Tensor: (0,), _aten.slice_backward.default: (0,),
    _aten.cat.default: (0,), _aten.rsub.Scalar: (0, 1),
}  # fmt: skip


class Affine(NamedTuple):
    """slope * x + offset, of those numbers of x that follow each other from `first` until before
    `last`, all in their order, whatever the shape."""

    slope: Node
    offset: Node
    first: int
    last: int


class Parting:
    """Writes slopes and offsets into a graph, before one of its nodes.

    Args:
        same: nodes that all are x.
        dependent: all nodes that depend on it, or on what is made together with it.
        place: a node behind all that is asked about.
    """

    def __init__(self, same: Collection[Node], dependent: Collection[Node], place: Node) -> None:
        self.dependent = dependent
        self.place = place
        self.length = _size(next(iter(same)))
        self.known = {x: Affine(self.full(x, 1.0), self.full(x, 0.0), 0, self.length) for x in same}

    def of(self, nodes: Iterable[Node]) -> Affine | None:
        """The last of them, with all of x in it; None where it is not a * x + b.

        Args:
            nodes: it and all that it is computed from, in order.
        """
        found = None
        for node in nodes:
            found = self.known.get(node)
            asked = found is None and not _several(node)  # of several, the pieces will be
            if asked and node in self.dependent:
                found = self.parted(node)
                if found is None:
                    return None
                self.known[node] = found
        return found if found and (found.first, found.last) == (0, self.length) else None

    def parted(self, node: Node) -> Affine | None:
        """The node, where its arguments are known."""
        target, arguments = _operation(node)
        linear = _LINEAR.get(target, ())
        if target is _aten.mul.Tensor:  # in one of them
            linear = tuple(i for i in (0, 1) if arguments[i] in self.dependent)[:1]
        others = [v for i, v in enumerate(arguments) if i not in linear]
        # (An `alpha` of sums is none of the arguments: decompositions.py has it written out.)
        if not linear or node.kwargs or any(n in self.dependent for n in _nodes_in(others)):
            return None
        terms = _nodes_in([arguments[i] for i in linear])
        reach = self.reach(node, target, arguments, [self.known.get(n) for n in terms])
        if reach is None:
            return None
        slope, offset = (
            self.new(node, target, self.replaced(arguments, linear, part))
            for part in ("slope", "offset")
        )
        return Affine(slope, offset, *reach)

    def reach(
        self, node: Node, target: Any, arguments: tuple[Any, ...], terms: list[Affine | None]
    ) -> tuple[int, int] | None:
        """Which numbers of x are in the node; None where it has not all in their order."""
        known = [term for term in terms if term]
        first, last = known[0].first, known[-1].last
        if target is _aten.cat.default:
            follow = all(a.last == b.first for a, b in pairwise(known))
            rows_alone = not any(arguments[1:])
            return (first, last) if follow and known == terms and rows_alone else None
        if any((term.first, term.last) != (first, last) for term in known):
            return None
        if target is _aten.slice.Tensor:
            return _rows(arguments[0], arguments[1:], first)
        if target is _aten.slice_backward.default:
            return (0, _size(node)) if _rows(node, arguments[2:], 0) == (first, last) else None
        return (first, last) if _size(node) == last - first else None

    def replaced(self, arguments: tuple[Any, ...], linear: tuple[int, ...], part: str) -> Any:
        """The arguments with the slopes, or offsets, of those in the linear places; a constant has
        a slope of 0."""

        def of(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return [of(one) for one in value]
            if value in self.known:
                return getattr(self.known[value], part)
            if part == "offset":
                return value
            return self.full(value, 0.0) if isinstance(value, Node) else 0.0

        return tuple(of(v) if i in linear else v for i, v in enumerate(arguments))

    def full(self, like: Node, number: float) -> Node:
        t = _val(like)
        options = {"dtype": t.dtype, "device": t.device}
        return self.new(like, _aten.full.default, (list(t.shape), number), options)

    def new(self, like: Node, target: Any, arguments: Any, options: Any = None) -> Node:
        with self.place.graph.inserting_before(self.place):
            node = self.place.graph.call_function(target, arguments, options)
        node.meta["val"] = _val(like)
        return node


def _val(node: Node) -> Any:
    """What it was when the graph was written: for shapes and types."""
    return node.meta.get("val")


def _several(node: Node) -> bool:
    """Whether it is not a tensor, but some of them."""
    return isinstance(_val(node), (list, tuple))


def _size(node: Node) -> int:
    return _val(node).numel()


def _nodes_in(value: Any) -> list[Node]:
    if isinstance(value, (list, tuple)):
        return [node for one in value for node in _nodes_in(one)]
    return [value] if isinstance(value, Node) else []


def _operation(node: Node) -> tuple[Any, tuple[Any, ...]]:
    """Function and arguments of a node, where others do the same by those that `_LINEAR` knows."""
    target, arguments = node.target, node.args
    if target is _aten.pow.Tensor_Scalar and arguments[1] == 1:
        return _aten.detach.default, arguments[:1]
    split = arguments[0] if target is getitem else None
    if isinstance(split, Node) and split.target is _aten.split_with_sizes.default:
        if split.kwargs:
            return target, arguments
        whole, sizes, *dim = split.args
        start = sum(sizes[: arguments[1]])  # type: ignore
        end = start + sizes[arguments[1]]  # type: ignore
        return _aten.slice.Tensor, (whole, *(dim or [0]), start, end)
    return target, arguments


def _rows(whole: Node, place: tuple[Any, ...], first: int) -> tuple[int, int] | None:
    """Where numbers begin and end that a slice takes of a tensor whose own begin at `first`; None
    where they do not follow each other.

    Args:
        place: dimension, start, end and step, as far as they are given.
    """
    dim, start, end, step = (*place, *(0, None, None, 1)[len(place) :])
    count = _val(whole).shape[0]
    start, end, step = slice(start, end, step).indices(count)
    end = max(start, end)  # nothing is taken where it ends before it begins
    row = _size(whole) // max(count, 1)
    return (first + start * row, first + end * row) if dim == 0 and step == 1 else None
