"""quantize-dynamic: weights as integers, and activations with ranges that are found as it runs."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.errors import QuantizationError, nearest
from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor
from infopt.passes.matching import input_at
from infopt.passes.quantization._rounding import ROOM
from infopt.passes.quantization._sites import Site, site
from infopt.passes.rewriting import Builder
from infopt.quant.affine import Parameters, quantize
from infopt.quant.granularity import Granularity, PerAxis, PerTensor
from infopt.quant.rounding.nearest import min_max_parameters
from infopt.quant.spec import QuantSpec

_OPERATORS = ("MatMul", "Gemm")
_TYPES = ("int8", "uint8")
_LONGEST = (2**31 - 1) // (255 * 127)
"""How many products of such integers, less their zero points, surely fit into a sum of 32 bits."""
_CONV = "on integers whose range is found as it runs, a convolution is no faster than on floats"


@dataclasses.dataclass(frozen=True)
class _Weights:
    """Weights as integers ``(in, out)``."""

    integers: ir.Value
    scale: ir.Value
    """float32 ``(out,)``, or a scalar."""
    zero_point: ir.Value | None
    """``None`` where it is 0."""


@dataclasses.dataclass(frozen=True)
class _Activation:
    """What a DynamicQuantizeLinear makes of a value."""

    integers: ir.Value
    scale: ir.Value
    zero_point: ir.Value


@dataclasses.dataclass(frozen=True)
class QuantizeDynamic(Pass):
    """``MatMul(x, W)`` becomes ``MatMulInteger`` of 8-bit integers, cast and scaled.

    ``DynamicQuantizeLinear(x)`` finds the range of each input when it is there, so that no data is
    needed beforehand; products of one input share it. The weights are rounded to nearest,
    symmetric, with a scale for each output channel; weights of several products are stored once.
    What a Gemm adds is added behind it.

    The range is that of the whole tensor: a row's result depends on what else is in its batch, and
    one outlier makes the steps of all others coarser.
    """

    name: ClassVar[str] = "quantize-dynamic"
    preserves: ClassVar[Preserves] = Preserves.APPROXIMATE
    rounding: ClassVar[float] = 1 / 255
    min_opset: ClassVar[int] = 11
    """The opset of DynamicQuantizeLinear."""

    operators: str = "MatMul+Gemm"
    """The operators to quantize, with ``+`` between them."""
    weights: str = "int8"
    """``int8``; or ``uint8``, for runtimes on x86 processors without VNNI, whose instruction for
    products of uint8 and int8 saturates sums of two (infopt's own sessions see to that)."""
    per_channel: bool = True
    """Whether each output channel has a scale of its own."""
    smallest: int = 4096
    """The least number of weights: below, integers win nothing that is worth an error."""
    unsaturated: bool = False
    """Whether weights of int8 are such that x86 processors without VNNI do not saturate: of two
    neighbours the sum is at most 128, for which steps are a quarter to a third coarser."""

    def __post_init__(self) -> None:
        for what, words, known in (
            ("operators", self.operators.split("+"), _OPERATORS),
            ("weights", [self.weights], _TYPES),
        ):
            for word in words:
                if word not in known:
                    raise QuantizationError(
                        f"{self.name} knows no {what} {word!r}{nearest(word, known)}; "
                        f"use {' or '.join(known)}"
                    )
        if self.unsaturated and self.weights != "int8":
            raise QuantizationError(
                f"only weights of int8 can be unsaturated, not {self.weights}; leave one of both "
                "away"
            )

    def apply(self, model: ir.Model, journal: Journal) -> None:
        editor = Editor(model)
        written: dict[tuple[ir.Value, int], _Weights] = {}
        read: dict[tuple[ir.Value, int], _Activation] = {}
        for root in queries.roots(model):
            opset = root.opset_imports.get("") or model.opset_imports.get("", 1)
            for node in list(root.all_nodes()):
                found = self._site(node, opset)
                if isinstance(found, str):
                    journal.refuse(self.name, node, found)
                elif found is not None and journal.permits(self.name, node):
                    self._quantize(found, Builder(editor, node, opset), editor, written, read)

    @property
    def _granularity(self) -> Granularity:
        return PerAxis(0) if self.per_channel else PerTensor()

    def _site(self, node: ir.Node, opset: int) -> Site | str | None:
        """A product to quantize; in words, why not; or ``None``: it is none."""
        if queries.is_standard(node, "Conv"):
            return _CONV if isinstance(site(node), Site) else None
        if not queries.is_standard(node, *self.operators.split("+")):
            return None
        found = site(node)
        if not isinstance(found, Site):
            return found
        array = queries.constant_tensor(node.inputs[1])
        assert array is not None
        inputs = array.shape.numpy()[1 - found.axis]
        if array.size < self.smallest or not array.size:
            return f"its weights have {array.size:,} elements, fewer than {self.smallest or 1:,}"
        if inputs > _LONGEST:
            return f"sums over its {inputs:,} inputs may not fit into 32 bits"
        if queries.attribute(node, "beta", 1.0) != 1.0 and input_at(node, 2) is not None:
            return "it scales what it adds"
        if opset < self.min_opset:
            return f"needs opset {self.min_opset}, the model has {opset}"
        if not np.isfinite(array.numpy()).all():
            return "its weights are not all finite"
        return found

    def _quantize(
        self,
        found: Site,
        to: Builder,
        editor: Editor,
        written: dict[tuple[ir.Value, int], _Weights],
        read: dict[tuple[ir.Value, int], _Activation],
    ) -> None:
        node, x, weights = found.node, found.node.inputs[0], found.node.inputs[1]
        assert x is not None
        assert weights is not None
        # A range that is found in a branch is not there outside of it.
        here = x, id(node.graph)
        if here not in read:
            read[here] = _range(x, to)
        if (weights, found.axis) not in written:
            written[weights, found.axis] = self._weights(weights, found.axis, editor)
        a, w = read[here], written[weights, found.axis]
        shape = node.outputs[0].shape
        number = _like(ir.DataType.FLOAT, shape)
        sums = to.op(
            "MatMulInteger",
            *(a.integers, w.integers, a.zero_point, w.zero_point),
            like=_like(ir.DataType.INT32, shape),
        )
        cast = to.op("Cast", sums, like=number, to=int(ir.DataType.FLOAT))
        scale = to.op("Mul", a.scale, w.scale, like=w.scale)
        result = to.op("Mul", cast, scale, like=number)
        added = input_at(node, 2)
        if added is not None:
            result = to.op("Add", result, added, like=number)
        editor.replace(node.outputs[0], result)
        if not weights.uses() and isinstance(weights.const_value, ir.ExternalTensor):
            with contextlib.suppress(BufferError):  # somebody else looks at it: let it be
                weights.const_value.release()

    def _weights(self, weights: ir.Value, axis: int, editor: Editor) -> _Weights:
        """Weights as integers, stored where the weights are."""
        array = queries.constant(weights)
        assert array is not None
        dtype = ir.DataType[self.weights.upper()]
        spec = QuantSpec(dtype, self._granularity, narrow=True, unsaturated=self.unsaturated)
        integers, found = _rounded(array.T if axis == 1 else array, spec)
        producer = weights.producer()
        beside = _first_node(weights) if producer is None else producer
        # Zero points of a channel are all the same.
        zero = found.zero_point.ravel()[0] if found.zero_point.any() else None
        return _Weights(
            editor.add_constant(beside, integers, f"{weights.name}_quantized"),
            editor.add_constant(beside, found.scale, f"{weights.name}_scale"),
            None
            if zero is None
            else editor.add_constant(beside, np.asarray(zero), f"{weights.name}_zero_point"),
        )


def _range(x: ir.Value, to: Builder) -> _Activation:
    number, byte = ir.DataType.FLOAT, ir.DataType.UINT8
    kinds = [_like(byte, x.shape), _like(number, ir.Shape([])), _like(byte, ir.Shape([]))]
    return _Activation(*to.ops("DynamicQuantizeLinear", x, like=kinds))


def _like(dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
    return ir.Value(type=ir.TensorType(dtype), shape=shape)


def _rounded(weights: np.ndarray, spec: QuantSpec) -> tuple[np.ndarray, Parameters]:
    """Weights ``(out, in)`` to integers ``(in, out)``.

    Some outputs at a time: the weights may be larger than memory.
    """
    of_all = min_max_parameters(weights, spec) if spec.granularity == PerTensor() else None
    integers = np.empty(weights.shape[::-1], spec.numpy_dtype)
    found = []
    step = max(1, ROOM // weights.shape[1])
    for start in range(0, len(weights), step):
        some = np.ascontiguousarray(weights[start : start + step])
        chosen = of_all or min_max_parameters(some, spec)
        integers[:, start : start + step] = quantize(some, chosen, spec).T
        found.append(chosen)
    if of_all is not None:
        return integers, of_all
    scales, zero_points = [p.scale for p in found], [p.zero_point for p in found]
    return integers, Parameters(np.concatenate(scales), np.concatenate(zero_points))


def _first_node(initializer: ir.Value) -> ir.Node:
    assert isinstance(initializer.graph, ir.Graph)
    return initializer.graph[0]
