"""Writes QuantizeLinear and DequantizeLinear around values, weights and biases."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.editing import Editor, erase_unused
from infopt.passes.matching import input_at, produced_by
from infopt.quant.affine import Parameters
from infopt.quant.granularity import Granularity, PerAxis, PerBlock

ORIGINAL = "infopt.original"
"""Under this word, quantized weights remember (in ``meta``) the tensor that they were made of."""


class Writer:
    """Quantizes values of one model, each value once."""

    def __init__(self, editor: Editor) -> None:
        self._editor = editor
        self._read: dict[ir.Value, ir.Value] = {}
        self._stored: dict[tuple[ir.Value, int], list[list[ir.Value]]] = {}

    def parameters(self, value: ir.Value) -> Parameters | None:
        """Scale and zero point of a value that is quantized already."""
        node = produced_by(self._read.get(value, value), "DequantizeLinear")
        if node is None:
            return None
        scale, zero_point = queries.constant(node.inputs[1]), queries.constant(input_at(node, 2))
        return None if scale is None or zero_point is None else Parameters(scale, zero_point)

    def is_quantized(self, value: ir.Value) -> bool:
        """Whether whoever reads ``value`` reads integers, dequantized."""
        return produced_by(value, "DequantizeLinear") is not None

    def dequantized(self, value: ir.Value) -> ir.Value:
        """What is read instead of ``value`` by those for whom it is quantized; or itself."""
        return self._read.get(value, value)

    def source(self, value: ir.Value) -> ir.Value:
        """What was quantized to give ``value``; itself, where nothing was."""
        reader = produced_by(value, "DequantizeLinear")
        writer = None if reader is None else produced_by(reader.inputs[0], "QuantizeLinear")
        found = None if writer is None else writer.inputs[0]
        return value if found is None else found

    def reading(self, value: ir.Value, parameters: Parameters | None, node: ir.Node) -> ir.Value:
        """What ``node`` reads instead of ``value``; others go on reading ``value``."""
        if produced_by(value, "DequantizeLinear") is not None:
            return value
        if value not in self._read:
            assert parameters is not None
            assert node.graph is not None
            graph = node.graph
            self._read[value] = self._pair(
                value, parameters, node, lambda new: graph.insert_before(node, new)
            )
        return self._read[value]

    def behind(self, value: ir.Value, parameters: Parameters | None) -> None:
        """Let everything that reads ``value`` read it quantized."""
        producer = value.producer()
        if value in self._read or parameters is None or producer is None:
            return
        graph = producer.graph
        assert graph is not None
        readers = [(use.node, use.idx) for use in value.uses()]
        pair = self._pair(
            value, parameters, producer, lambda new: graph.insert_after(producer, new)
        )
        for node, index in readers:
            node.replace_input_with(index, pair)
        self._read[value] = pair

    def constant(
        self, node: ir.Node, index: int, integers: np.ndarray, parameters: Parameters, axis: int
    ) -> None:
        """Let input ``index`` of ``node``, a constant, be these integers, dequantized.

        Nodes that share the constant share the integers, too, where these are the same.
        """
        old, graph = node.inputs[index], node.graph
        assert old is not None
        assert graph is not None
        base = old.name or "weights"
        arrays = [integers, parameters.scale]
        if np.any(parameters.zero_point):
            arrays.append(parameters.zero_point)
        known = self._stored.setdefault((old, id(graph)), [])
        inputs = next((values for values in known if _hold(values, arrays)), None)
        if inputs is None:
            words = ("quantized", "scale", "zero_point")
            inputs = [
                self._editor.add_constant(node, array, f"{base}_{word}")
                for array, word in zip(arrays, words, strict=False)
            ]
            inputs[0].meta[ORIGINAL] = queries.constant_tensor(old)
            known.append(inputs)
        attributes = [ir.AttrInt64("axis", axis)] if parameters.scale.ndim else []
        read = self._node("DequantizeLinear", inputs, attributes, base)
        read.outputs[0].type, read.outputs[0].shape = old.type, old.shape
        graph.insert_before(node, read)
        node.replace_input_with(index, read.outputs[0])
        erase_unused(old)

    def blocks(
        self,
        node: ir.Node,
        index: int,
        integers: np.ndarray,
        parameters: Parameters,
        axis: int,
        block: int,
    ) -> ir.Value:
        """Let input ``index`` of ``node``, a constant, be integers with a scale for each block.

        Nothing of what was there is remembered: all weights of a model need not fit twice.

        Args:
            node: The node that reads the constant.
            index: Which of its inputs that is.
            integers: The elements, in the constant's shape; those of 4 bits are stored packed.
            parameters: float32 scales ``(…, ceil(size / block), …)``, and zero points.
            axis: The axis along which the blocks lie.
            block: Elements that share a scale.
        """
        old, graph = node.inputs[index], node.graph
        assert old is not None
        assert graph is not None
        base = old.name or "weights"
        inputs = [
            self._editor.add_tensor(node, _packed(integers), f"{base}_quantized"),
            self._editor.add_constant(node, parameters.scale, f"{base}_scale"),
        ]
        if parameters.zero_point.astype(np.int16).any():
            zero_point = _packed(parameters.zero_point)
            inputs.append(self._editor.add_tensor(node, zero_point, f"{base}_zero_point"))
        attributes = [ir.AttrInt64("axis", axis), ir.AttrInt64("block_size", block)]
        read = self._node("DequantizeLinear", inputs, attributes, base)
        read.outputs[0].type, read.outputs[0].shape = old.type, old.shape
        graph.insert_before(node, read)
        self.reread(node, index, read.outputs[0])
        return read.outputs[0]

    def reread(self, node: ir.Node, index: int, value: ir.Value) -> None:
        """Let ``node`` read ``value``; what it has read goes where nothing else reads it."""
        old = node.inputs[index]
        node.replace_input_with(index, value)
        erase_unused(old)

    def multiplied(self, node: ir.Node, index: int, factors: np.ndarray) -> None:
        """Multiply input ``index`` of ``node``, a constant, by what broadcasts against it."""
        old = node.inputs[index]
        array = queries.constant(old)
        assert old is not None
        assert array is not None
        product = (array * factors).astype(array.dtype)
        self.reread(node, index, self._editor.add_constant(node, product, f"{old.name}_scaled"))

    def _pair(
        self,
        value: ir.Value,
        parameters: Parameters,
        node: ir.Node,
        insert: Callable[[list[ir.Node]], None],
    ) -> ir.Value:
        base = value.name or "value"
        scale = self._editor.add_constant(node, parameters.scale, f"{base}_scale")
        zero = self._editor.add_constant(node, parameters.zero_point, f"{base}_zero_point")
        first = self._node("QuantizeLinear", [value, scale, zero], [], base)
        first.outputs[0].type = zero.type
        second = self._node("DequantizeLinear", [first.outputs[0], scale, zero], [], base)
        second.outputs[0].type = value.type
        for new in (first, second):
            new.outputs[0].shape = None if value.shape is None else value.shape.copy()
        insert([first, second])
        return second.outputs[0]

    def _node(
        self, op_type: str, inputs: list[ir.Value], attributes: list[ir.Attr], base: str
    ) -> ir.Node:
        node = ir.Node("", op_type, inputs, attributes, num_outputs=1)
        node.name = self._editor.fresh_name(f"{base}/{op_type}")
        node.outputs[0].name = self._editor.fresh_name(f"{base}_{op_type}")
        return node


def dequantized(reader: ir.Node) -> np.ndarray:
    """What a DequantizeLinear makes of constant integers: float32, of their shape."""
    integers, scale = queries.constant(reader.inputs[0]), queries.constant(reader.inputs[1])
    assert integers is not None
    assert scale is not None
    zero_point = queries.constant(input_at(reader, 2))
    steps = integers.astype(np.float32)
    if zero_point is not None:
        steps -= _along(reader, zero_point.astype(np.float32), steps)
    return np.asarray(steps * _along(reader, scale, steps))


def _hold(values: list[ir.Value], arrays: list[np.ndarray]) -> bool:
    """Whether constants are these arrays, types included."""
    if len(values) != len(arrays):
        return False
    stored = map(queries.constant, values)
    return all(
        held is not None and held.dtype == array.dtype and np.array_equal(held, array)
        for held, array in zip(stored, arrays, strict=True)
    )


def _along(reader: ir.Node, values: np.ndarray, array: np.ndarray) -> np.ndarray:
    """Scales or zero points in a shape that broadcasts against ``array``."""
    if not values.ndim:
        return values
    axis = queries.attribute(reader, "axis", 1) % array.ndim
    if queries.attribute(reader, "block_size", 0):
        granularity: Granularity = PerBlock(axis, queries.attribute(reader, "block_size", 0))
    else:
        granularity = PerAxis(axis)
    return granularity.spread(values, array.shape)


def _packed(integers: np.ndarray) -> ir.TensorProtocol:
    """A tensor that takes as much memory as it takes in a file: two elements of 4 bits a byte."""
    whole = ir.Tensor(np.ascontiguousarray(integers))
    if whole.dtype.bitwidth != 4:
        return whole
    data = np.frombuffer(whole.tobytes(), np.uint8)
    return ir.PackedTensor(data, whole.dtype, shape=whole.shape)
