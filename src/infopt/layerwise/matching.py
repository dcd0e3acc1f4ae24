"""Which value of one model ought to equal which value of another."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterator

import onnx_ir as ir

from infopt.ir import queries
from infopt.ir.digest import tensor_digest
from infopt.passes.editing import stands_for


@dataclasses.dataclass(frozen=True)
class Match:
    """A value of the reference, and the one of the candidate that ought to equal it."""

    reference: ir.Value
    candidate: ir.Value
    how: str
    """``name`` (it is called the same), ``rewritten`` (a pass put it in the other's place) or
    ``structure`` (the same operator reads matching values)."""


def match(reference: ir.Model, candidate: ir.Model) -> list[Match]:
    """Match the floating-point values of two main graphs, in the order of the reference.

    Names go first, then what passes have noted of what they replaced, then structure: a node that
    reads only matching values and equal constants computes what its twin does. Where constants of
    the same shape differ, as between two trainings of a network, nodes are matched in their order.
    Values in subgraphs are not matched.
    """
    found = _Matching(reference, candidate)
    found.by_name()
    found.by_structure()
    return found.matches()


class _Matching:
    def __init__(self, reference: ir.Model, candidate: ir.Model) -> None:
        self._reference, self._candidate = reference, candidate
        self._twins: dict[ir.Value, Match] = {}
        """By the value of the reference; of all types."""
        inputs = {value.name: value for value in reference.graph.inputs}
        self._taken = {
            value: inputs[value.name] for value in candidate.graph.inputs if value.name in inputs
        }
        """The same the other way round, inputs included."""

    def matches(self) -> list[Match]:
        floating = [m for m in self._twins.values() if _is_floating(m.reference)]
        order = {value: index for index, value in enumerate(_computed(self._reference))}
        return sorted(floating, key=lambda found: order[found.reference])

    def by_name(self) -> None:
        known = {value.name: value for value in _computed(self._reference) if value.name}
        values = list(_computed(self._candidate))
        for value in values:
            if value.name in known:
                self._pair(known[value.name], value, "name")
        for value in values:
            replaced = known.get(stands_for(value))
            if replaced is not None and value not in self._taken:
                self._pair(replaced, value, "rewritten")

    def by_structure(self) -> None:
        """Walk the candidate: what a node reads has been matched before the node is looked at."""
        done: set[ir.Node] = set()
        for node in self._candidate.graph:
            if all(value in self._taken for value in node.outputs):
                continue
            twin = self._twin(node, done)
            if twin is not None:
                done.add(twin)
                for one, other in zip(twin.outputs, node.outputs, strict=False):
                    self._pair(one, other, "structure")

    def _twin(self, node: ir.Node, done: set[ir.Node]) -> ir.Node | None:
        """A node of the reference that computes what ``node`` does; first one of its weights."""
        first = next((self._taken[value] for value in node.inputs if value in self._taken), None)
        readers = [] if first is None else [use.node for use in first.uses()]
        free = [
            reader
            for reader in dict.fromkeys(readers)
            if reader not in done
            and reader.graph is self._reference.graph
            and not any(value in self._twins for value in reader.outputs)
        ]
        for exact in (True, False):
            key = self._key(node, exact)
            for reader in free:
                if self._key(reader, exact) == key:
                    return reader
        return None

    def _key(self, node: ir.Node, exact: bool) -> Hashable:
        """What a node computes, as far as values are known to be equal."""
        if any(queries.subgraphs_of(node)):
            return node  # equal to itself alone
        attributes = tuple(
            (name, _value(attribute)) for name, attribute in sorted(node.attributes.items())
        )
        inputs = tuple(self._class(value, exact) for value in node.inputs)
        return node.op_identifier(), len(node.outputs), attributes, inputs

    def _class(self, value: ir.Value | None, exact: bool) -> Hashable:
        """Equal for values of both models that are known to be equal."""
        if value is None:
            return None
        tensor = queries.constant_tensor(value)
        if tensor is None:
            return self._taken.get(value, value)
        if exact or tensor.size < _WEIGHT:
            return tensor_digest(tensor)
        return tensor.dtype, tuple(tensor.shape.numpy())

    def _pair(self, one: ir.Value, other: ir.Value, how: str) -> None:
        if one not in self._twins and other not in self._taken and _alike(one, other):
            self._taken[other] = one
            self._twins[one] = Match(one, other, how)


_WEIGHT = 8
"""A constant of fewer elements is an axis, a shape or a factor, and has to be equal."""


def _value(attribute: ir.Attr) -> str:
    """Equal for equal attributes: of a large tensor, ``str`` shows the ends alone, and a name."""
    if attribute.type is ir.AttributeType.TENSOR:
        return tensor_digest(attribute.as_tensor())
    return str(attribute.value)


def _computed(model: ir.Model) -> Iterator[ir.Value]:
    for node in model.graph:
        if not queries.is_standard(node, "Constant"):
            yield from node.outputs


def _is_floating(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def _alike(one: ir.Value, other: ir.Value) -> bool:
    """Whether both can hold the same numbers, if perhaps in another shape or precision."""
    if one.dtype != other.dtype and not (_is_floating(one) and _is_floating(other)):
        return False
    sizes = [queries.static_shape(value) for value in (one, other)]
    return None in sizes or _count(sizes[0]) == _count(sizes[1])


def _count(shape: tuple[int, ...] | None) -> int:
    return math.prod(shape or ())
