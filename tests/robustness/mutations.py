"""Mutations of model files: of their bytes, of their fields, of their structure, of their data.

A case is a function of its number alone, so that a number found by the fuzzer reproduces it.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tests.robustness.seeds import LARGE_SEEDS, SEEDS, Files

NUMBERS = [0, 1, -1, 2, 7, 127, 255, 2**15, 2**31 - 1, 2**31, -(2**31), 2**32, 2**40, 2**62]
NUMBERS += [2**63 - 1, -(2**63)]
HOSTILE_PATHS = ["", "\0", "x" * 5000, "../../etc/passwd", "/etc/passwd"]
WORDS = [*HOSTILE_PATHS, "%s%n", "ünïcödé \U0001f980", "a b", "Relu", "Conv", "If", "Loop"]
WORDS += ["Attention", "NoSuchOperator", "ai.onnx", "com.microsoft"]
LARGE_SHARE = 0.06
"""How many of the cases start from a large, real model."""


class Mutate(Protocol):
    """A mutation: a function of files and of chance."""

    __name__: str

    def __call__(self, files: Files, rng: random.Random, /) -> Files: ...


def case(number: int) -> tuple[Files, str]:
    """Case ``number``: a seed, mutated one to three times; and what was done to it."""
    rng = random.Random(number)
    seed = rng.choice(LARGE_SEEDS if rng.random() < LARGE_SHARE else SEEDS)
    files, story = _seed(seed), [seed.__name__]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        mutate = rng.choice(MUTATIONS)
        files = mutate(files, rng)
        story.append(mutate.__name__)
    return files, " ".join(story)


@functools.cache
def _seed(build: Callable[[], Files]) -> Files:
    return build()


# Bytes


def flip_bits(files: Files, rng: random.Random) -> Files:
    data = bytearray(files.model)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return Files(bytes(data), files.beside)


def truncate(files: Files, rng: random.Random) -> Files:
    return Files(files.model[: rng.randrange(len(files.model))], files.beside)


def swap_bytes(files: Files, rng: random.Random) -> Files:
    data = bytearray(files.model)
    a, b = rng.randrange(len(data)), rng.randrange(len(data))
    length = rng.choice((1, 2, 16, 256))
    first, second = data[a : a + length], data[b : b + length]
    if len(first) == len(second):
        data[a : a + length], data[b : b + length] = second, first
    return Files(bytes(data), files.beside)


def splice(files: Files, rng: random.Random) -> Files:
    """A piece of another model in the middle of this one, or instead of a piece of it."""
    other = _seed(rng.choice(SEEDS)).model
    start = rng.randrange(len(other))
    piece = other[start : start + rng.choice((1, 8, 64, 1024))]
    at = rng.randrange(len(files.model))
    gap = rng.choice((0, len(piece), 3))
    return Files(files.model[:at] + piece + files.model[at + gap :], files.beside)


def overwrite(files: Files, rng: random.Random) -> Files:
    data = bytearray(files.model)
    at, length = rng.randrange(len(data)), rng.choice((1, 4, 32))
    data[at : at + length] = rng.choice((b"\xff", b"\x00", b"\x80", b"\x0a")) * length
    return Files(bytes(data), files.beside)


def repeat(files: Files, rng: random.Random) -> Files:
    """The file twice: protobuf merges the second model into the first."""
    return Files(files.model * rng.choice((2, 3)), files.beside)


# Fields: valid framing, invalid content


def _edit(change: Callable[[onnx.ModelProto, random.Random], None]) -> Mutate:
    """A mutation of the parsed model; a file that no longer parses is left alone."""

    @functools.wraps(change)
    def mutate(files: Files, rng: random.Random, /) -> Files:
        model = onnx.ModelProto()
        try:
            model.ParseFromString(files.model)
        except Exception:
            return files
        change(model, rng)
        return Files(model.SerializeToString(), files.beside)

    return mutate


def _messages(message: Message, depth: int = 0) -> Iterator[Message]:
    yield message
    if depth > 60:
        return
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for child in value if field.is_repeated else [value]:
                yield from _messages(child, depth + 1)


def _names(model: onnx.ModelProto) -> list[str]:
    values = [name for node in model.graph.node for name in (*node.input, *node.output)]
    return [*values, *(i.name for i in model.graph.initializer), "x"]


def edit_field(model: onnx.ModelProto, rng: random.Random) -> None:
    """Any field of any message gets any value of its type."""
    for _ in range(rng.choice((1, 1, 2, 5))):
        message = rng.choice(list(_messages(model)))
        field = rng.choice(message.DESCRIPTOR.fields)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            _edit_messages(message, field, rng)
        elif field.is_repeated:
            _edit_list(getattr(message, field.name), field, model, rng)
        else:
            setattr(message, field.name, _value(field, model, rng))


def edit_present_field(model: onnx.ModelProto, rng: random.Random) -> None:
    """As :func:`edit_field`, among the fields that are there: nearer to a valid model."""
    message = rng.choice([m for m in _messages(model) if m.ListFields()] or [model])
    fields = [field for field, _ in message.ListFields()] or [message.DESCRIPTOR.fields[0]]
    field = rng.choice(fields)
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        _edit_messages(message, field, rng)
    elif field.is_repeated:
        _edit_list(getattr(message, field.name), field, model, rng)
    else:
        setattr(message, field.name, _value(field, model, rng))


def _edit_messages(message: Message, field: FieldDescriptor, rng: random.Random) -> None:
    if not field.is_repeated:
        message.ClearField(field.name)
        return
    items: Any = getattr(message, field.name)
    if not items:
        items.add()
        return
    index = rng.randrange(len(items))
    match rng.randrange(4):
        case 0:
            del items[index]
        case 1:
            items.append(items[index])
        case 2:
            items[index].Clear()
        case _:
            items[index].CopyFrom(items[rng.randrange(len(items))])


def _edit_list(
    items: Any, field: FieldDescriptor, model: onnx.ModelProto, rng: random.Random
) -> None:
    if items and rng.random() < 0.5:
        index = rng.randrange(len(items))
        if rng.random() < 0.5:
            del items[index]
        else:
            items[index] = _value(field, model, rng)
    else:
        items.extend(_value(field, model, rng) for _ in range(rng.choice((1, 2, 30))))


def _value(field: FieldDescriptor, model: onnx.ModelProto, rng: random.Random) -> Any:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            return rng.choice((0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf")))
        case FieldDescriptor.CPPTYPE_STRING:
            word = rng.choice((*WORDS, *_names(model)))
            if field.type == FieldDescriptor.TYPE_BYTES:
                return rng.choice((word.encode(), rng.randbytes(rng.choice((1, 8, 100)))))
            return word
        case FieldDescriptor.CPPTYPE_ENUM:
            return rng.choice(field.enum_type.values).number
        case FieldDescriptor.CPPTYPE_INT32:
            return rng.choice([n for n in (*NUMBERS, *range(30)) if -(2**31) <= n < 2**31])
        case FieldDescriptor.CPPTYPE_UINT64:
            return rng.choice([n for n in NUMBERS if n >= 0])
        case _:
            return rng.choice(NUMBERS)


# Structure


def _graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    return [m for m in _messages(model) if isinstance(m, onnx.GraphProto)] or [model.graph]


def _nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    nodes = [m for m in _messages(model) if isinstance(m, onnx.NodeProto)]
    return nodes or [model.graph.node.add(op_type="Relu")]


def duplicate_node(model: onnx.ModelProto, rng: random.Random) -> None:
    graph = rng.choice(_graphs(model))
    if graph.node:
        node = rng.choice(graph.node)
        graph.node.add().CopyFrom(node)


def shuffle_nodes(model: onnx.ModelProto, rng: random.Random) -> None:
    graph = rng.choice(_graphs(model))
    nodes = list(graph.node)
    rng.shuffle(nodes)
    del graph.node[:]
    graph.node.extend(nodes)


def rewire(model: onnx.ModelProto, rng: random.Random) -> None:
    """An input of one node becomes some other value: wrong type, wrong shape, or a cycle."""
    node = rng.choice(_nodes(model))
    if node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(_names(model))


def close_a_cycle(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(_nodes(model))
    if node.input and node.output:
        node.input[0] = rng.choice(node.output)


def change_operator(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(_nodes(model))
    node.op_type = rng.choice([s.name for s in _schemas()])


@functools.cache
def _schemas() -> list[Any]:
    return [s for s in onnx.defs.get_all_schemas() if s.domain == ""]


def nest_deeply(files: Files, rng: random.Random) -> Files:
    """An If within an If within an If …, deeper than a protobuf can be built."""
    inner = onnx.GraphProto(name="bottom")
    inner.node.add(op_type="Identity", input=["deep"], output=["bottom"])
    inner.output.add(name="bottom")
    graph = inner.SerializeToString()
    for level in range(rng.choice((3, 10, 24, 30, 90, 3000))):
        attribute = onnx.AttributeProto(name="then_branch", type=onnx.AttributeProto.GRAPH)
        branch = attribute.SerializeToString() + _field(6, graph)
        node = onnx.NodeProto(op_type="If", input=["deep"], output=[f"deep{level}"])
        outer = onnx.GraphProto(name=f"level{level}")
        outer.output.add(name=f"deep{level}")
        graph = _field(1, node.SerializeToString() + _field(5, branch)) + outer.SerializeToString()
    condition = onnx.GraphProto()
    condition.initializer.add(name="deep", data_type=onnx.TensorProto.BOOL).int32_data.append(1)
    # A second graph field merges into the first.
    return Files(files.model + _field(7, condition.SerializeToString() + graph), files.beside)


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field in protobuf's wire format."""
    length, size = b"", len(payload)
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + payload


def lengthen(model: onnx.ModelProto, rng: random.Random) -> None:
    """A chain of thousands of nodes, for what recurses over values."""
    value = model.graph.input[0].name if model.graph.input else "x"
    for index in range(rng.choice((500, 3000))):
        model.graph.node.add(op_type="Identity", input=[value], output=[f"link{index}"])
        value = f"link{index}"


def huge_dimension(model: onnx.ModelProto, rng: random.Random) -> None:
    dimensions = [m for m in _messages(model) if isinstance(m, onnx.TensorShapeProto.Dimension)]
    if dimensions:
        rng.choice(dimensions).dim_value = rng.choice(NUMBERS)


def huge_tensor(model: onnx.ModelProto, rng: random.Random) -> None:
    tensors = [m for m in _messages(model) if isinstance(m, onnx.TensorProto)]
    if tensors:
        tensor = rng.choice(tensors)
        if tensor.dims and rng.random() < 0.5:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
        else:
            tensor.dims.append(rng.choice(NUMBERS))


def memory_bomb(model: onnx.ModelProto, rng: random.Random) -> None:
    """A small file that asks for a tensor of many gigabytes."""
    shape = model.graph.initializer.add(name="bomb", data_type=onnx.TensorProto.INT64, dims=[2])
    shape.int64_data.extend([rng.choice((2**20, 2**34)), 2**20])
    model.graph.node.add(op_type="ConstantOfShape", input=["bomb"], output=["boom"])
    if rng.random() < 0.7:
        model.graph.output.add(name="boom").type.tensor_type.elem_type = 1


def endless_loop(model: onnx.ModelProto, rng: random.Random) -> None:
    trips = model.graph.initializer.add(name="trips", data_type=onnx.TensorProto.INT64)
    trips.int64_data.append(rng.choice((1000, 2**62)))
    model.graph.initializer.add(name="go", data_type=onnx.TensorProto.BOOL).int32_data.append(1)
    body = onnx.parser.parse_graph(
        "body (int64 i, bool c, int64 s) => (bool d, int64 t) { d = Identity (c) t = Add (s, i) }"
    )
    node = model.graph.node.add(op_type="Loop", input=["trips", "go", "trips"], output=["late"])
    node.attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g.CopyFrom(body)
    model.graph.output.add(name="late").type.tensor_type.elem_type = onnx.TensorProto.INT64


def wrong_element_type(model: onnx.ModelProto, rng: random.Random) -> None:
    typed = [m for m in _messages(model) if isinstance(m, onnx.TensorProto)]
    values = [m for m in _messages(model) if isinstance(m, onnx.TypeProto.Tensor)]
    if typed and (rng.random() < 0.5 or not values):
        rng.choice(typed).data_type = rng.randrange(-1, 30)
    elif values:
        rng.choice(values).elem_type = rng.randrange(-1, 30)


def wrong_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    attributes = [m for m in _messages(model) if isinstance(m, onnx.AttributeProto)]
    if attributes:
        attribute = rng.choice(attributes)
        match rng.randrange(4):
            case 0:
                attribute.type = rng.choice(onnx.AttributeProto.AttributeType.values())
            case 1:
                attribute.i = rng.choice(NUMBERS)
                attribute.ints.extend(rng.choices(NUMBERS, k=3))
            case 2:
                attribute.name = rng.choice(("axis", "axes", "perm", "to", "body", ""))
            case _:
                attribute.ref_attr_name = rng.choice(("alpha", "axis", ""))


def wrong_opset(model: onnx.ModelProto, rng: random.Random) -> None:
    match rng.randrange(5):
        case 0:
            del model.opset_import[:]
        case 1:
            model.opset_import.add(domain="", version=rng.choice((*NUMBERS, 3, 10, 24, 99)))
        case 2:
            model.ir_version = rng.choice(NUMBERS)
        case 3:
            model.opset_import.add(domain=rng.choice(WORDS), version=rng.choice(NUMBERS))
        case _:
            for entry in model.opset_import:
                entry.version = rng.choice((*range(30), *NUMBERS))


def recursive_function(model: onnx.ModelProto, rng: random.Random) -> None:
    function = model.functions.add(name="f", domain="local", input=["a"], output=["b"])
    function.opset_import.add(domain="", version=18)
    function.opset_import.add(domain="local", version=1)
    function.node.add(op_type=rng.choice(("f", "dense")), domain="local", input=["a"], output=["b"])
    model.opset_import.add(domain="local", version=1)
    value = rng.choice(_names(model))
    model.graph.node.add(op_type="f", domain="local", input=[value], output=["recursed"])


def duplicate_names(model: onnx.ModelProto, rng: random.Random) -> None:
    graph = rng.choice(_graphs(model))
    lists: list[Any] = [x for x in (graph.input, graph.output, graph.initializer) if len(x)]
    if lists:
        items = rng.choice(lists)
        items.add().CopyFrom(rng.choice(items))
    if graph.node and rng.random() < 0.5:
        rng.choice(graph.node).name = rng.choice(graph.node).name = "twin"


def drop_something(model: onnx.ModelProto, rng: random.Random) -> None:
    graph = rng.choice(_graphs(model))
    lists: list[Any] = [graph.node, graph.input, graph.output, graph.initializer]
    items = rng.choice([x for x in lists if len(x)] or [graph.node])
    if items:
        del items[rng.randrange(len(items))]


def invalid_utf8(files: Files, rng: random.Random) -> Files:
    """Bytes that are no text where the format wants text, with the lengths unchanged."""
    data = bytearray(files.model)
    words = [i for i in range(len(data) - 4) if data[i : i + 4].isalpha()]
    if words:
        at = rng.choice(words)
        data[at : at + 2] = b"\xff\xfe"
    return Files(bytes(data), files.beside)


# External data


def hostile_external(model: onnx.ModelProto, rng: random.Random) -> None:
    tensors = [m for m in _messages(model) if isinstance(m, onnx.TensorProto)]
    if not tensors:
        return
    tensor = rng.choice(tensors)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entries = {
        "location": rng.choice(("weights.bin", "model.onnx", "missing", ".", "", *HOSTILE_PATHS)),
        "offset": str(rng.choice((*NUMBERS, "", "1e3", "\uff10", "-"))),
        "length": str(rng.choice((*NUMBERS, "", "many"))),
    }
    if rng.random() < 0.7:
        del tensor.external_data[:]
    for key in rng.sample(list(entries), rng.randint(1, 3)):
        tensor.external_data.add(key=key, value=entries[key])


def damage_external(files: Files, rng: random.Random) -> Files:
    """The data file is shorter, gone, or longer than the model says."""
    beside = dict(files.beside)
    for name, data in files.beside.items():
        match rng.randrange(3):
            case 0:
                beside[name] = data[: rng.randrange(len(data))] if data else data
            case 1:
                del beside[name]
            case _:
                beside[name] = data + b"more"
    return Files(files.model, beside)


MUTATIONS: tuple[Mutate, ...] = (
    flip_bits,
    flip_bits,
    truncate,
    swap_bytes,
    splice,
    overwrite,
    repeat,
    invalid_utf8,
    damage_external,
    nest_deeply,
    _edit(edit_field),
    _edit(edit_field),
    *[_edit(edit_present_field)] * 5,
    *[
        _edit(change)
        for change in (
            duplicate_node,
            shuffle_nodes,
            rewire,
            rewire,
            close_a_cycle,
            change_operator,
            change_operator,
            lengthen,
            huge_dimension,
            huge_tensor,
            memory_bomb,
            endless_loop,
            wrong_element_type,
            wrong_element_type,
            wrong_attribute,
            wrong_attribute,
            wrong_opset,
            recursive_function,
            duplicate_names,
            drop_something,
            hostile_external,
            hostile_external,
        )
    ],
)
