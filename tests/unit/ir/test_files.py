import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from infopt.errors import ExternalDataError, SourceError
from infopt.ir import files
from infopt.ir.digest import model_digest
from infopt.ir.opset import convert_opset


def _proto(size: int = 4096) -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.arange(size, dtype=np.float32), "w")
    node = helper.make_node("Add", ["x", "w"], ["y"], name="add")
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [size])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _external(tmp_path: Path, **entries: object) -> Path:
    """A model with external data, some entries of the reference replaced."""
    path = tmp_path / "model.onnx"
    onnx.save(_proto(), path, save_as_external_data=True, location="w.data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key in entries:
            entry.value = str(entries[entry.key])
    path.write_bytes(model.SerializeToString())
    return path


def test_embedded_weights_are_mapped_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(_proto(), path)
    model = files.read_onnx(path)
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    np.testing.assert_array_equal(tensor.numpy(), np.arange(4096, dtype=np.float32))


def test_external_weights_are_mapped(tmp_path: Path) -> None:
    model = files.read_onnx(_external(tmp_path))
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.ExternalTensor)
    np.testing.assert_array_equal(tensor.numpy(), np.arange(4096, dtype=np.float32))


def test_a_hard_linked_model_file_is_fine(tmp_path: Path) -> None:
    onnx.save(_proto(), tmp_path / "cached.onnx")
    os.link(tmp_path / "cached.onnx", tmp_path / "model.onnx")
    tensor = files.read_onnx(tmp_path / "model.onnx").graph.initializers["w"].const_value
    assert tensor is not None
    assert tensor.numpy()[7] == 7


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    onnx.save(_proto(), tmp_path / "model.onnx")
    model = files.read_onnx(tmp_path / "model.onnx")
    out = tmp_path / "out"
    out.mkdir()
    assert [p.name for p in files.write_onnx(model, out)] == ["model.onnx", "model.data"]
    assert model_digest(files.read_onnx(out / "model.onnx")) == model_digest(model)


def test_large_attributes_are_written_into_the_model(tmp_path: Path) -> None:
    value = numpy_helper.from_array(np.arange(4096, dtype=np.float32), "v")
    graph = helper.make_graph(
        [helper.make_node("Constant", [], ["y"], value=value)],
        "g",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4096])],
    )
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    out = tmp_path / "out"
    out.mkdir()
    files.write_onnx(files.read_onnx(tmp_path / "model.onnx"), out)
    written = onnx.load(out / "model.onnx")
    np.testing.assert_array_equal(
        numpy_helper.to_array(written.graph.node[0].attribute[0].t), np.arange(4096)
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"hello, I am no model at all", "not an ONNX model"),
        (b"\x08\x0a", "has no graph"),
        (_proto().SerializeToString()[:-100], "truncated"),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        files.read_onnx(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no file"):
        files.read_onnx(tmp_path / "absent.onnx")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "../../etc/passwd"}, "leaves the model's directory"),
        ({"location": "/etc/passwd"}, "leaves the model's directory"),
        ({"location": "absent.data"}, "there is no file"),
        ({"offset": 8192}, "truncated"),
        ({"length": 12}, "12 bytes of data, but its type and shape need 16384"),
        ({"location": "."}, "there is no file"),
    ],
)
def test_bad_external_data_is_refused(
    tmp_path: Path, entries: dict[str, object], message: str
) -> None:
    with pytest.raises((ExternalDataError, SourceError), match=message):
        files.read_onnx(_external(tmp_path, **entries))


def test_a_link_out_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    path = _external(tmp_path / "inside")
    (tmp_path / "inside" / "w.data").rename(tmp_path / "w.data")
    (tmp_path / "inside" / "w.data").symlink_to(tmp_path / "w.data")
    with pytest.raises(ExternalDataError, match="leaves the model's directory"):
        files.read_onnx(path)


def test_no_file_can_claim_to_refer_to_itself(tmp_path: Path) -> None:
    """The mark of embedded weights is drawn anew for each reading."""
    path = _external(tmp_path, location="model.onnx", offset=0)
    with pytest.raises(ExternalDataError, match="truncated"):
        files.read_onnx(path)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(_proto().SerializeToString().replace(b"\x03Add", b"\x03A\xff\xfe"))
    with pytest.raises(SourceError, match=r"op_type is not UTF-8 text: b'A\\xff\\xfe'"):
        files.read_onnx(path)


def test_a_tensor_without_a_type_is_refused() -> None:
    proto = _proto()
    proto.graph.initializer[0].data_type = TensorProto.UNDEFINED
    with pytest.raises(SourceError, match="tensor 'w' has no element type"):
        files.from_proto(proto)


@pytest.mark.parametrize("kind", ["TENSOR", "GRAPH", "SPARSE_TENSOR", "TYPE_PROTO"])
def test_an_attribute_without_a_value_is_refused(kind: str) -> None:
    proto = _proto()
    proto.graph.node[0].attribute.add(
        name="body", type=onnx.AttributeProto.AttributeType.Value(kind)
    )
    with pytest.raises(SourceError, match="attribute 'body' has no value"):
        files.from_proto(proto)


def test_a_function_that_takes_a_graph_is_refused() -> None:
    proto = _proto()
    proto.graph.node[0].attribute.add(
        name="body", type=onnx.AttributeProto.GRAPH, ref_attr_name="body"
    )
    with pytest.raises(SourceError, match="attribute 'body' stands for a graph"):
        files.from_proto(proto)


def test_a_value_that_nothing_computes_is_refused() -> None:
    proto = _proto()
    del proto.graph.input[:]
    with pytest.raises(SourceError, match=r"node 'add' \(Add\) reads 'x', which nothing computes"):
        files.from_proto(proto)


def test_an_output_that_nothing_computes_is_refused() -> None:
    proto = _proto()
    proto.graph.output[0].name = "z"
    with pytest.raises(SourceError, match="nothing computes the output 'z'"):
        files.from_proto(proto)


def test_branches_and_functions_may_read_what_is_around_them() -> None:
    proto = onnx.parser.parse_model("""
    <ir_version: 9, opset_import: ["" : 18, "local" : 1]>
    main (bool c, float[n] x) => (float[n] y) {
      z = local.twice (x)
      y = If (c) <
        then_branch = t () => (float[n] a) { a = Neg (z) },
        else_branch = e () => (float[n] b) { b = Add (z, x) }
      >
    }
    <opset_import: ["" : 18], domain: "local">
    twice (v) => (w) { w = Add (v, v) }
    """)
    assert len(files.from_proto(proto).functions) == 1


@pytest.mark.parametrize("location", ["x" * 5000, "a\0b", "", "."])
def test_external_data_without_a_file_name(tmp_path: Path, location: str) -> None:
    with pytest.raises(ExternalDataError) as caught:
        files.read_onnx(_external(tmp_path, location=location))
    assert len(str(caught.value)) < 800


@pytest.mark.parametrize("kind", [None, TensorProto.UNDEFINED])
def test_an_input_without_a_type_is_refused(kind: int | None) -> None:
    proto = _proto()
    proto.graph.input[0].ClearField("type")
    if kind is not None:
        proto.graph.input[0].type.tensor_type.elem_type = kind
    with pytest.raises(SourceError, match="the input 'x' has no type"):
        files.from_proto(proto)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_type": 255}, "unknown element type 255"),
        ({"dims": [-1]}, "impossible shape"),
        ({"dims": [4095]}, r"has 16384 bytes, its type and shape need 16380"),
        ({"dims": [2**62]}, "need"),
        ({"raw_data": b""}, "has 0 bytes"),
        ({"data_type": TensorProto.INT4}, "need 2048"),
        ({"data_type": TensorProto.STRING}, "strings as raw bytes"),
    ],
)
def test_a_tensor_whose_data_does_not_fit_is_refused(
    changes: dict[str, object], message: str
) -> None:
    tensor = _proto().graph.initializer[0]
    proto = _proto()
    del proto.graph.initializer[:]
    fields = {field.name: value for field, value in tensor.ListFields()} | changes
    proto.graph.initializer.add(**fields)
    with pytest.raises(SourceError, match=message):
        files.from_proto(proto)


@pytest.mark.parametrize("name", sorted(set(TensorProto.DataType.keys()) - {"UNDEFINED", "STRING"}))
@pytest.mark.parametrize("raw", [False, True])
def test_tensors_of_every_type_are_accepted(name: str, raw: bool) -> None:
    dtype = ir.DataType[name]
    ones = np.ones(3, dtype.numpy())
    proto = _proto()
    proto.graph.initializer[0].CopyFrom(
        ir.serde.serialize_tensor(ir.Tensor(ones, dtype=dtype, name="w"))
        if raw
        else helper.make_tensor("w", int(dtype), [3], ones)
    )
    assert files.from_proto(proto).graph.initializers["w"].const_value is not None


def test_strings_are_accepted() -> None:
    proto = _proto()
    words = numpy_helper.from_array(np.array(["a", "b"], object), "w")
    proto.graph.initializer[0].CopyFrom(words)
    assert files.from_proto(proto).graph.initializers["w"].const_value is not None


def test_external_data_of_an_attribute_survives_a_conversion(tmp_path: Path) -> None:
    value = numpy_helper.from_array(np.arange(4, dtype=np.float32), "v")
    (tmp_path / "v.data").write_bytes(value.raw_data)
    value.ClearField("raw_data")
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="v.data")
    proto = _proto(4)
    proto.graph.node.insert(0, helper.make_node("Constant", [], ["v"], value=value))
    proto.graph.node[1].input[1] = "v"
    proto.opset_import[0].version = 9
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    model = convert_opset(files.read_onnx(tmp_path / "model.onnx"))
    tensor = model.graph.node(0).attributes["value"].as_tensor()
    np.testing.assert_array_equal(tensor.numpy(), np.arange(4, dtype=np.float32))
