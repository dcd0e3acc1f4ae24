import mmap

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from infopt.errors import SourceError
from infopt.ir import wire


def _model(*tensors: TensorProto) -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", [t.name], [f"{t.name}_out"]) for t in tensors]
    outputs = [helper.make_tensor_value_info(f"{t.name}_out", t.data_type, t.dims) for t in tensors]
    graph = helper.make_graph(nodes, "g", [], outputs, list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def _references(stripped: bytes) -> dict[str, dict[str, str]]:
    model = onnx.ModelProto.FromString(stripped)
    return {
        t.name: {e.key: e.value for e in t.external_data}
        for t in model.graph.initializer
        if t.data_location == TensorProto.EXTERNAL
    }


def test_large_raw_data_becomes_a_reference_into_the_same_bytes() -> None:
    weight = np.arange(1024, dtype=np.float32)
    data = _model(numpy_helper.from_array(weight, "w")).SerializeToString()
    stripped = wire.without_payloads(data, "here")
    reference = _references(stripped)["w"]
    assert reference["location"] == "here"
    offset, length = int(reference["offset"]), int(reference["length"])
    assert data[offset : offset + length] == weight.tobytes()
    assert len(stripped) < len(data) - length + 100


def test_a_tensor_that_says_it_is_not_external() -> None:
    """As those do that onnx has loaded from an external file, and all that are made of them."""
    weight = np.arange(1024, dtype=np.float32)
    tensor = numpy_helper.from_array(weight, "w")
    tensor.data_location = TensorProto.DEFAULT
    data = _model(tensor).SerializeToString()
    reference = _references(wire.without_payloads(data, "here"))["w"]
    offset, length = int(reference["offset"]), int(reference["length"])
    assert data[offset : offset + length] == weight.tobytes()


def test_packed_float_data_has_the_same_bytes_and_is_referred_to() -> None:
    values = np.linspace(0, 1, 512, dtype=np.float32)
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [512], values)
    assert not tensor.raw_data
    data = _model(tensor).SerializeToString()
    reference = _references(wire.without_payloads(data, "here"))["w"]
    offset, length = int(reference["offset"]), int(reference["length"])
    np.testing.assert_array_equal(np.frombuffer(data[offset : offset + length], "<f4"), values)


def test_float_data_of_another_type_stays() -> None:
    tensor = helper.make_tensor("w", TensorProto.COMPLEX64, [512], np.full(512, 1j))
    data = _model(tensor).SerializeToString()
    assert wire.without_payloads(data, "here") == data


def test_tensors_of_attributes_and_subgraphs_are_found() -> None:
    weight = numpy_helper.from_array(np.ones(1000, np.float64), "w")
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=weight)],
        "branch",
        [],
        [helper.make_tensor_value_info("c", TensorProto.DOUBLE, [1000])],
    )
    node = helper.make_node("If", ["cond"], ["y"], then_branch=inner, else_branch=inner)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("cond", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [1000])],
    )
    data = helper.make_model(graph).SerializeToString()
    stripped = onnx.ModelProto.FromString(wire.without_payloads(data, "here"))
    for branch in stripped.graph.node[0].attribute:
        assert branch.g.node[0].attribute[0].t.data_location == TensorProto.EXTERNAL
    assert len(stripped.SerializeToString()) < 2000


def test_a_small_model_comes_back_byte_for_byte() -> None:
    data = _model(numpy_helper.from_array(np.ones(3, np.float32), "w")).SerializeToString()
    assert wire.without_payloads(data, "here") == data


def test_memory_maps_work_like_bytes() -> None:
    data = _model(numpy_helper.from_array(np.ones(999, np.float32), "w")).SerializeToString()
    with mmap.mmap(-1, len(data)) as buffer:
        buffer[:] = data
        assert wire.without_payloads(buffer, "x") == wire.without_payloads(data, "x")


def test_external_tensors_are_left_alone() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4096])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="x" * 2000)
    data = _model(tensor).SerializeToString()
    assert wire.without_payloads(data, "here") == data


@pytest.mark.parametrize("cut", [1, 10, 100, 2000])
def test_truncation_is_noticed(cut: int) -> None:
    data = _model(numpy_helper.from_array(np.ones(1000, np.float32), "w")).SerializeToString()
    with pytest.raises(SourceError, match="truncated"):
        wire.without_payloads(data[:-cut], "here")


def test_nonsense_is_noticed() -> None:
    with pytest.raises(SourceError, match="not a protobuf"):
        wire.without_payloads(b"\xff" * 100, "here")


def test_deep_nesting_is_refused() -> None:
    data = b"x" * wire.LARGE
    for field in (6, 5, 1) * 40:  # graph in attribute in node in graph …
        data = bytes([field << 3 | 2]) + _length(data) + data
    with pytest.raises(SourceError, match="nested"):
        wire.without_payloads(b"\x3a" + _length(data) + data, "here")


def _length(data: bytes) -> bytes:
    size = len(data)
    return bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14])
