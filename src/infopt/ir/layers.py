"""Which layer of the network a node belongs to, as far as names tell."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

import onnx_ir as ir

from infopt.ir import queries

_NUMBER = re.compile(r"\d{1,6}", re.ASCII)
_JOINED = re.compile(r"(layers?|blocks?|stages?|h)_(\d{1,6})", re.ASCII)


def layer_in(name: str) -> str:
    """``encoder.layer.1`` in ``/encoder/layer.1/attention/MatMul``; ``""`` if there is none."""
    parts = [part for part in re.split(r"[/.]", name) if part]
    for index, part in enumerate(parts[:-1]):  # the last is what the node itself is called
        if index and _NUMBER.fullmatch(part):
            return ".".join(parts[: index + 1])
        joined = _JOINED.fullmatch(part)
        if joined:
            return ".".join([*parts[:index], *joined.groups()])
    return ""


class Layers:
    """The layers of a model as it is now; nodes that passes make of its nodes are known, too.

    The names of nodes tell; where none does, the names of the weights nearest to each node.
    """

    def __init__(self, model: ir.Model) -> None:
        nodes = list(queries.nodes(model))
        self._labels = {node.name: layer_in(node.name) for node in nodes if node.name}
        if not any(self._labels.values()):
            self._labels = _by_weights(nodes)
        self._cut = len(_common_path(self._labels.values()))

    def of(self, node: str) -> str:
        """The label of the node of that name, without what all labels begin with, or ``""``."""
        name = node
        while name not in self._labels and "/" in name:  # fusions add `/Operator` to a name
            name = name.rpartition("/")[0]
        return self._labels.get(name, layer_in(node))[self._cut :]


def _common_path(labels: Iterable[str]) -> str:
    """What all labels begin with, before the word and the number that end them."""
    paths = [label.split(".")[:-2] for label in set(labels) if label]
    common = ""
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        common += f"{parts[0]}."
    return common


def _by_weights(nodes: list[ir.Node]) -> dict[str, str]:
    """Node → the layer in the name of the nearest weight that only one node reads.

    A weight with a path but no layer in it (``norm.weight``) says that there is none.
    """
    found: dict[ir.Node, str] = {}
    for node in nodes:
        names = [
            value.name
            for value in node.inputs
            if value is not None and value.is_initializer() and len(value.uses()) == 1
        ]
        pathlike = [name for name in names if name and "." in name]
        if pathlike:
            found[node] = layer_in(pathlike[0])
    pending = deque(reversed(found))  # of two weights as near, the one that comes later tells
    while pending:
        node = pending.popleft()
        near = [use.node for output in node.outputs for use in output.uses()]
        near += [p for p in (value.producer() for value in node.inputs if value) if p]
        for other in near:
            if other not in found:
                found[other] = found[node]
                pending.append(other)
    return {node.name: label for node, label in found.items() if node.name}
