"""Pairs of weights that x86 adds up in 16 bits: by a model of the instruction, and by products."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx_ir import DataType

from infopt.quant import pairs
from infopt.quant.affine import quantize
from infopt.quant.granularity import Granularity, PerAxis, PerTensor
from infopt.quant.rounding.gptq import gptq
from infopt.quant.rounding.nearest import min_max_parameters, round_to_nearest
from infopt.quant.spec import QuantSpec
from tests.support.activations import layer

SPEC = QuantSpec(DataType.INT8, PerAxis(0), narrow=True, unsaturated=True)


def multiplied(activations: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """VPMADDUBSW, whose sums are then added up in 32 bits: (out,)."""
    products = activations.astype(np.int32) * rows.astype(np.int32)
    if products.shape[1] % 2:
        products = np.pad(products, ((0, 0), (0, 1)))
    added = products[:, ::2] + products[:, 1::2]
    return np.asarray(np.clip(added, -(2**15), 2**15 - 1).sum(axis=1))


@settings(deadline=None)
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 40)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    ),
    st.sampled_from([PerAxis(0), PerTensor()]),
)
def test_no_product_saturates(weight: np.ndarray, groups: Granularity) -> None:
    spec = QuantSpec(DataType.INT8, groups, narrow=True, unsaturated=True)
    found = quantize(weight, min_max_parameters(weight, spec), spec)
    assert pairs.are_safe(found)
    largest = np.full(weight.shape[1], 255, np.uint8)
    # What makes sums largest is to leave those of the other sign out.
    for kept in (found, np.maximum(found, 0), np.minimum(found, 0)):
        np.testing.assert_array_equal(multiplied(largest, kept), 255 * kept.sum(1, dtype=np.int32))


def test_safe_is_what_the_instruction_can_add() -> None:
    every = np.arange(-128, 128)
    first, second = (grid.ravel().astype(np.int8) for grid in np.meshgrid(every, every))
    rows = np.stack([first, second], axis=1)
    exact = np.ones(len(rows), bool)
    for x in ([255, 255], [255, 0], [0, 255]):
        wanted = rows.astype(np.int32) @ np.array(x)
        exact &= multiplied(np.array(x, np.uint8), rows) == wanted
    assert [pairs.are_safe(row[None]) for row in rows] == exact.tolist()


def test_steps_are_coarser_by_what_the_largest_pair_takes() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(64, 768)).astype(np.float32)
    plain = QuantSpec(DataType.INT8, PerAxis(0), narrow=True)
    steps = min_max_parameters(weight, SPEC).scale / min_max_parameters(weight, plain).scale
    assert (steps >= 1).all()
    assert steps.mean() < 1.4  # weights of at most 64 would take 2
    alone = np.array([[3, -3, 0, 1, 2]], np.float32)  # of a last one there is no neighbour
    np.testing.assert_array_equal(
        min_max_parameters(alone, SPEC).scale, min_max_parameters(alone, plain).scale
    )


@pytest.mark.parametrize("features", [96, 97])
@pytest.mark.parametrize("by_activation", [True, False])
@pytest.mark.parametrize("groups", [PerAxis(0), PerTensor()], ids=str)
def test_gptq_keeps_to_it(features: int, groups: Granularity, *, by_activation: bool) -> None:
    case = layer(32, features, 400)
    spec = QuantSpec(DataType.INT8, groups, narrow=True, unsaturated=True)
    found = gptq(case.weight, case.moment, spec, by_activation=by_activation)
    assert not found.gave_up
    assert pairs.are_safe(found.quantized)
    nearest = round_to_nearest(case.weight, spec, moment=case.moment)
    assert found.error < 0.7 * nearest.error


@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 8), 0), ((8, 5), 1), ((6, 4, 3), 0), ((6, 4, 3, 2), 0)]
)
def test_rows_and_back(shape: tuple[int, ...], axis: int) -> None:
    weights = np.arange(np.prod(shape)).reshape(shape)
    rows = pairs.as_rows(weights, axis)
    assert rows.shape == (shape[axis], weights.size // shape[axis])
    np.testing.assert_array_equal(pairs.from_rows(rows, axis, shape), weights)


def test_a_filter_is_summed_over_by_height_width_and_channel() -> None:
    weights = np.arange(12).reshape(1, 3, 2, 2)
    assert pairs.as_rows(weights, 0).tolist() == [[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]]


@pytest.mark.parametrize("rows", [1, 2, 5, 64])
@pytest.mark.parametrize("features", [1, 27, 64, 255, 768])
@pytest.mark.parametrize("outputs", [1, 16, 33, 100])
def test_products_are_exact_in_onnx_runtime(rows: int, features: int, outputs: int) -> None:
    rng = np.random.default_rng(features)
    weight = rng.standard_t(3, (outputs, features)).astype(np.float32)
    quantized = quantize(weight, min_max_parameters(weight, SPEC), SPEC)
    x = np.where(rng.random((rows, features)) < 0.8, 255, 3).astype(np.uint8)
    fed, y = ir.val("x", ir.DataType.UINT8, x.shape), ir.val("y", ir.DataType.INT32, None)
    constant = ir.Value(name="w", const_value=ir.tensor(quantized.T.copy(), name="w"))
    found = _ran(fed, [constant], ir.Node("", "MatMulInteger", [fed, constant], outputs=[y]), x)
    np.testing.assert_array_equal(found, x.astype(np.int64) @ quantized.T.astype(np.int64))


@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.parametrize(
    ("channels", "outputs", "groups", "size"),
    [(3, 32, 1, 3), (16, 24, 1, 1), (18, 20, 2, 3), (64, 64, 1, 3), (16, 32, 16, 3), (1, 8, 1, 3)],
)
def test_convolutions_are_exact_in_onnx_runtime(
    channels: int, outputs: int, groups: int, size: int, spatial: int
) -> None:
    rng = np.random.default_rng(channels)
    shape = (outputs, channels // groups, *[size] * spatial)
    rows = pairs.as_rows(rng.standard_t(3, shape).astype(np.float32), 0)
    quantized = quantize(rows, min_max_parameters(rows, SPEC), SPEC)
    weights = pairs.from_rows(quantized, 0, shape)
    check_convolution(weights, groups, channels)


@pytest.mark.parametrize("channels", [7, 30, 32])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_depthwise_convolutions_are_exact_whatever_their_weights(
    channels: int, size: int, spatial: int
) -> None:
    rng = np.random.default_rng(channels)
    weights = rng.choice(np.array([-127, 127, 127], np.int8), (channels, 1, *[size] * spatial))
    check_convolution(weights, channels, channels)


def check_convolution(weights: np.ndarray, groups: int, channels: int) -> None:
    """ONNX Runtime's QLinearConv of large activations beside float64."""
    rng = np.random.default_rng(1)
    size = (7,) * (weights.ndim - 2)
    x = np.where(rng.random((2, channels, *size)) < 0.8, 255, 3).astype(np.uint8)
    exact = _convolved(x.astype(np.float64), weights.astype(np.float64), groups)
    step = np.float32(max(np.abs(exact).max() / 127, 1))
    wanted = exact / np.float64(step) + 128
    found = _qlinear_conv(x, weights, groups, step)
    assert np.abs(found - wanted).max() <= 0.501


def _convolved(x: np.ndarray, weights: np.ndarray, groups: int) -> np.ndarray:
    kernel = weights.shape[2:]
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, axes)
    letters = "uvw"[: len(kernel)], "xyz"[: len(kernel)]
    parts = []
    for part, filters in zip(
        np.split(windows, groups, axis=1), np.split(weights, groups), strict=True
    ):
        parts.append(
            np.einsum(f"nc{letters[0]}{letters[1]},oc{letters[1]}->no{letters[0]}", part, filters)
        )
    return np.concatenate(parts, axis=1)


def _qlinear_conv(x: np.ndarray, weights: np.ndarray, groups: int, step: np.float32) -> np.ndarray:
    fed = ir.val("x", ir.DataType.UINT8, x.shape)
    arrays_: dict[str, np.ndarray] = {
        "xs": np.ones((), np.float32),
        "xz": np.zeros((), np.uint8),
        "w": np.ascontiguousarray(weights),
        "ws": np.ones(len(weights), np.float32),
        "wz": np.zeros(len(weights), np.int8),
        "ys": np.asarray(step),
        "yz": np.asarray(128, np.uint8),
    }
    constants = [
        ir.Value(name=name, const_value=ir.tensor(array, name=name))
        for name, array in arrays_.items()
    ]
    y = ir.val("y", ir.DataType.UINT8, None)
    attributes = [ir.AttrInt64("group", groups)]
    node = ir.Node("", "QLinearConv", [fed, *constants], attributes, outputs=[y])
    return _ran(fed, constants, node, x).astype(np.float64)


def _ran(fed: ir.Value, constants: list[ir.Value], node: ir.Node, x: np.ndarray) -> np.ndarray:
    """What ONNX Runtime makes of ``x`` by one node."""
    graph = ir.Graph(
        [fed],
        list(node.outputs),
        nodes=[node],
        initializers=constants,
        opset_imports={"": 17},
        name="one",
    )
    proto = ir.to_proto(ir.Model(graph, ir_version=8))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])
