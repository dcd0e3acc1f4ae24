"""TensorRT for RTX as the judge of what it builds; it needs no GPU for that, only to run it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import onnx_ir as ir
import pytest

needs_tensorrt = pytest.mark.skipif(
    find_spec("tensorrt_rtx_bindings") is None,
    reason='TensorRT for RTX is not installed; pip install "infopt[tensorrt-rtx]"',
)


def built(model: ir.Model, sizes: Mapping[str, int]) -> int:
    """Build ``model`` for an Ada GPU; returns the bytes of the engine.

    Args:
        model: The model.
        sizes: Dynamic dimensions by name, as the engine is to run them; others are 2.
    """
    import tensorrt_rtx_bindings as trt

    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(ir.to_proto(model).SerializeToString()):
        pytest.fail("; ".join(str(parser.get_error(n)) for n in range(parser.num_errors)))
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        # Not all sizes and types have a kernel of their own.
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = True
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    config.add_optimization_profile(_profile(builder, model, sizes))
    plan = builder.build_serialized_network(network, config)
    assert plan is not None
    return int(plan.nbytes)


def _profile(builder: Any, model: ir.Model, sizes: Mapping[str, int]) -> Any:
    profile = builder.create_optimization_profile()
    for value in model.graph.inputs:
        assert value.shape is not None
        shape = [
            dim if isinstance(dim, int) else sizes.get(dim.value or "", 2) for dim in value.shape
        ]
        profile.set_shape(value.name, shape, shape, shape)
    return profile
