"""What a model was trained to be quantized with: torch's operators for it, kept to the integer.

Quantization-aware training (Jacob et al., arXiv:1712.05877) leaves two kinds of operators in an
exported program: ``quantized_decomposed`` ones, as torchao's ``convert_pt2e`` writes them, and
``fake_quantize``. torch's exporter translates both, but forgets that activations may be kept in a
part of their type's range, refuses ranges of 7 or 4 bits, and leaves weights as floats that are
rounded at every call. Here they keep their range, and weights become the integers that torch makes
of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from infopt.errors import ImportFailed

if TYPE_CHECKING:
    import torch

_RANGES = {
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT16: (-32768, 32767),
    ir.DataType.UINT16: (0, 65535),
}
"""The types of QuantizeLinear, and what fits into them."""


def register() -> None:
    """Make ``quantized_decomposed`` known to torch, which knows it only where it is used."""
    importlib.import_module("torch.ao.quantization.fx._decomposed")


def refuse_observers(module: torch.nn.Module) -> None:
    """Check that ``module`` has been converted, if it was trained to be quantized.

    Raises:
        ImportFailed: It has modules that still watch values, and decide by a flag what to do.
    """
    for name, one in module.named_modules():
        if hasattr(one, "fake_quant_enabled") and hasattr(one, "observer_enabled"):
            raise ImportFailed(
                f"{type(module).__name__} still observes what it rounds ({name}), and cannot be "
                "exported so; convert it first, as convert_pt2e of torchao does"
            )


def translations() -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """Operators of torch → functions that write them in ONNX, for ``torch.onnx.export``."""
    import torch

    register()
    own, aten = torch.ops.quantized_decomposed, torch.ops.aten
    return {
        own.quantize_per_tensor.default: _quantize,
        own.quantize_per_tensor.tensor: _quantize,
        own.quantize_per_tensor.tensor2: _quantize,
        own.quantize_per_channel.default: _quantize_channels,
        own.dequantize_per_tensor.default: _dequantize,
        own.dequantize_per_tensor.tensor: _dequantize,
        own.dequantize_per_tensor.tensor2: _dequantize,
        aten.fake_quantize_per_tensor_affine.default: _fake,
        aten.fake_quantize_per_tensor_affine.tensor_qparams: _fake,
        aten.fake_quantize_per_channel_affine.default: _fake_channels,
    }


def _quantize(x: Any, scale: Any, zero: Any, low: Any, high: Any, dtype: int) -> Any:
    return _rounded(x, _scale(scale), _point(zero, dtype), low, high, dtype, None)


def _quantize_channels(
    x: Any, scales: Any, zeros: Any, axis: int, low: int, high: int, dtype: int
) -> Any:
    return _rounded(x, _scale(scales), _point(zeros, dtype), low, high, dtype, axis)


def _dequantize(
    x: Any, scale: Any, zero: Any, low: Any, high: Any, dtype: int, out_dtype: int | None = None
) -> Any:
    op = _operators()

    numbers = op.DequantizeLinear(x, _scale(scale), _point(zero, dtype))
    return numbers if out_dtype in (None, -1) else op.Cast(numbers, to=out_dtype)


def _fake(x: Any, scale: Any, zero: Any, low: int, high: int) -> Any:
    return _fake_channels(x, scale, zero, None, low, high)


def _fake_channels(x: Any, scale: Any, zero: Any, axis: int | None, low: int, high: int) -> Any:
    op = _operators()

    dtype = next((t for t, (least, most) in _RANGES.items() if least <= low and high <= most), None)
    if dtype is None:
        raise ImportFailed(f"no integers of ONNX hold the range from {low} to {high}")
    scale, zero = _scale(scale), _point(zero, dtype)
    integers = _rounded(x, scale, zero, low, high, dtype, axis)
    return op.DequantizeLinear(integers, scale, zero, **_along(axis))


def _rounded(
    x: Any, scale: Any, zero: Any, low: Any, high: Any, dtype: int, axis: int | None
) -> Any:
    op = _operators()

    kind = ir.DataType(dtype)
    if not isinstance(low, int) or not isinstance(high, int):
        raise ImportFailed("it computes the range of its integers; fix it before the export")
    if kind not in _RANGES:
        raise ImportFailed(f"it quantizes to {kind}; QuantizeLinear is used with 8 and 16 bits")
    integers = op.QuantizeLinear(x, scale, zero, **_along(axis))
    least, most = _RANGES[kind]
    if low <= least and high >= most:
        return integers
    # Behind it, so that what stands in front still meets the QuantizeLinear.
    limits = (op.Constant(value=_tensor(limit, kind)) for limit in (low, high))
    return op.Clip(integers, *limits)


def _operators() -> Any:
    from onnxscript import opset23

    return opset23


def _along(axis: int | None) -> dict[str, int]:
    return {} if axis is None else {"axis": axis}


def _scale(scale: Any) -> Any:
    op = _operators()

    if isinstance(scale, (int, float)):
        return op.Constant(value=_tensor(scale, ir.DataType.FLOAT))
    return op.Cast(scale, to=ir.DataType.FLOAT)


def _point(zero: Any, dtype: int) -> Any:
    op = _operators()

    if isinstance(zero, (int, float)):
        return op.Constant(value=_tensor(zero, ir.DataType(dtype)))
    return op.Cast(zero, to=dtype)


def _tensor(number: float, kind: ir.DataType) -> ir.TensorProtocol:
    return ir.tensor(np.array(number, kind.numpy()))


# Weights ------------------------------------------------------------------------------------


def store_integers(model: ir.Model, program: torch.export.ExportedProgram) -> None:
    """Put integers in the place of weights that are floats and rounded at every call.

    They are computed by torch's own operator, so that they are those of the training.

    Args:
        model: What the exporter made.
        program: What it made it of; values have the names of its nodes.
    """
    import torch

    quantizing = {
        target: rounds for target, rounds in translations().items() if rounds is not _dequantize
    }
    values = {value.name: value for node in model.graph for value in node.outputs}
    constants = _constants(program)
    for node in program.graph.nodes:
        value = values.get(node.name)
        if node.target not in quantizing or value is None:
            continue
        arguments = [
            constants.get(each.name) if isinstance(each, torch.fx.Node) else each
            for each in node.args
        ]
        if any(each is None for each in arguments):
            continue  # an activation
        with torch.no_grad():
            result = node.target(*arguments, **node.kwargs).cpu()
        name = f"{_source(program, node)}_quantized"
        if result.is_floating_point():
            _store(_integers_behind(value), _as_integers(result, arguments), name)
        else:
            _store(value, result.numpy(), name)
    # What computed the weights, and the floats.
    RemoveUnusedNodesPass()(model)


def _constants(program: torch.export.ExportedProgram) -> dict[str, torch.Tensor]:
    """Names of nodes → the weights and constants that they stand for."""
    signature = program.graph_signature
    named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    named |= signature.inputs_to_lifted_tensor_constants
    known = {**program.constants, **program.state_dict}
    return {node: known[name] for node, name in named.items() if name in known}


def _as_integers(numbers: torch.Tensor, arguments: list[Any]) -> np.ndarray:
    """The integers that ``numbers`` are multiples of, by the arguments of a fake_quantize."""
    import torch

    scale, zero = (torch.as_tensor(each).double().cpu() for each in arguments[1:3])
    if len(arguments) == 6:  # with an axis
        shape = [1] * numbers.ndim
        shape[arguments[3]] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    found: np.ndarray = torch.round(numbers.double() / scale + zero).numpy()
    return found


def _integers_behind(value: ir.Value) -> ir.Value:
    """What the DequantizeLinear reads that gives ``value``."""
    node = value.producer()
    while node is not None and node.op_type == "Cast":
        node = None if node.inputs[0] is None else node.inputs[0].producer()
    assert node is not None
    assert node.op_type == "DequantizeLinear"
    found = node.inputs[0]
    assert found is not None
    return found


def _source(program: torch.export.ExportedProgram, node: Any) -> str:
    """What is rounded, by the name that it has in the module."""
    signature, name = program.graph_signature, str(node.args[0])
    named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return str(named.get(name, name))


def _store(value: ir.Value, integers: np.ndarray, name: str) -> None:
    """Let ``value`` be a constant."""
    node = value.producer()
    kind = value.dtype
    assert node is not None
    assert node.graph is not None
    assert kind is not None
    while name in node.graph.initializers:  # rounded twice, for two readers
        name += "_"
    constant = ir.Value(name=name, shape=ir.Shape(integers.shape))
    constant.const_value = ir.Tensor(integers.astype(kind.numpy()), name=name)
    constant.dtype = kind
    node.graph.register_initializer(constant)
    value.replace_all_uses_with(constant)
