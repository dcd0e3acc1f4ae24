"""Strict shape inference: a contradiction is an error, what cannot be inferred stays unknown."""

from __future__ import annotations

import re
from collections.abc import Iterable

import onnx
import onnx.defs
import onnx.shape_inference
import onnx_ir as ir

from infopt.errors import ShapeError
from infopt.ir import queries, weightless


def infer_shapes(model: ir.Model) -> None:
    """Give every value of ``model`` the type and shape that follow from its inputs, in place.

    What was known before and is more precise is kept. This is onnx's inference with data
    propagation (ONNX specification, "Shape Inference"), in its strict mode. The few models on
    which it would crash keep what they have.

    Raises:
        ShapeError: Types or shapes contradict each other; the message names the node.
    """
    if _would_crash(model):
        return
    try:
        proto = weightless.to_proto(model)
        _spell_out_defaults(proto.graph)
        try:
            inferred = _infer(proto, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            if "already exists" not in str(error):
                raise
            # onnx keeps what it propagates by name; the branches of an If may use the same names.
            inferred = _infer(proto, data_prop=False)
    except Exception as error:  # onnx has an exception for each kind of nonsense
        raise ShapeError(_explain(str(error))) from None
    _merge(model.graph, inferred.graph)


def _infer(proto: onnx.ModelProto, *, data_prop: bool) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(
        proto, check_type=True, strict_mode=True, data_prop=data_prop
    )


def _would_crash(model: ir.Model) -> bool:
    """Whether onnx's inference might read through a null pointer.

    Some operators do not ask whether the type of their input is known, which it is not behind
    an operator that onnx has no definition of.
    """
    fragile = any((node.domain, node.op_type) in _FRAGILE for node in queries.nodes(model))
    return fragile and any(
        not onnx.defs.has(node.op_type, node.domain)
        and node.op_identifier() not in model.functions
        and any(value.type is None for value in node.outputs)
        for node in queries.nodes(model)
    )


_FRAGILE = frozenset(
    {
        ("", "EyeLike"),
        ("", "RegexFullMatch"),
        ("ai.onnx.ml", "DictVectorizer"),
        ("ai.onnx.ml", "LabelEncoder"),
        ("ai.onnx.ml", "TreeEnsemble"),
    }
)


def _spell_out_defaults(graph: onnx.GraphProto) -> None:
    """Set unset attributes of operators that are inferred through their function body.

    Inside the body onnx's inference sees an attribute only if the node sets it.
    """
    for node in graph.node:
        if node.domain == "" and node.op_type in _INFERRED_BY_BODY:
            schema = onnx.defs.get_schema(node.op_type)
            unset = schema.attributes.keys() - {attr.name for attr in node.attribute}
            for name in sorted(unset):
                if schema.attributes[name].default_value.name:
                    node.attribute.append(schema.attributes[name].default_value)
        for attr in node.attribute:
            for inner in (attr.g, *attr.graphs) if attr.type in _WITH_GRAPHS else ():
                _spell_out_defaults(inner)


_INFERRED_BY_BODY = frozenset({"MeanVarianceNormalization"})
_WITH_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def _merge(graph: ir.Graph, inferred: onnx.GraphProto) -> None:
    """Copy types and shapes from ``inferred`` to the values of ``graph`` of the same name."""
    known = {info.name: info for info in _infos(inferred)}
    for node, node_proto in zip(graph, inferred.node, strict=True):
        for value in node.outputs:
            info = known.get(value.name or "")
            if info is not None:
                _refine(value, info.type)
        for attr in node_proto.attribute:
            if attr.type == onnx.AttributeProto.GRAPH:
                _merge(node.attributes[attr.name].as_graph(), attr.g)
            elif attr.type == onnx.AttributeProto.GRAPHS:
                for sub, sub_proto in zip(
                    node.attributes[attr.name].as_graphs(), attr.graphs, strict=True
                ):
                    _merge(sub, sub_proto)


def _infos(graph: onnx.GraphProto) -> Iterable[onnx.ValueInfoProto]:
    yield from graph.value_info
    yield from graph.output


def _refine(value: ir.Value, proto: onnx.TypeProto) -> None:
    inferred = ir.serde.deserialize_type_proto_for_type(proto)
    if inferred is not None and value.type is None:
        value.type = inferred
    shape = ir.serde.deserialize_type_proto_for_shape(proto)
    if shape is None:
        return
    shape = ir.Shape([None if _invented(dim) else dim for dim in shape])
    old = value.shape
    if old is None or len(old) != len(shape):
        value.shape = shape
    else:
        value.shape = ir.Shape([_finer(a, b) for a, b in zip(old, shape, strict=True)])


def _finer(old: int | ir.SymbolicDim, new: int | ir.SymbolicDim) -> int | ir.SymbolicDim:
    """A number rather than a name, a name rather than nothing; the old name if both have one."""
    if isinstance(old, int) or (isinstance(new, ir.SymbolicDim) and new.value is None):
        return old
    if isinstance(new, int) or old.value is None:
        return new
    return old


def _invented(dim: int | ir.SymbolicDim) -> bool:
    """Whether the name of a dimension was made up by onnx's inference for one it does not know."""
    return isinstance(dim, ir.SymbolicDim) and (dim.value or "").startswith("unk__")


_WHERE = re.compile(
    r"\(op_type:\s*(?P<op>[^,]*), node name:\s*(?P<name>[^)]*)\):\s*(?P<what>[^\n]*)"
)


def _explain(message: str) -> str:
    found = _WHERE.search(message)
    if found is None:
        what = message.strip().splitlines()[-1] if message.strip() else "unknown inconsistency"
        return f"the model is inconsistent: {_plain(what)}"
    name = found["name"].strip() or "(unnamed)"
    return (
        f"the model is inconsistent at node {name!r} ({found['op'].strip()}): "
        f"{_plain(found['what'])}; export it again, or correct this node"
    )


def _plain(text: str) -> str:
    return re.sub(r"\[(Shape|Type)InferenceError\]\s*", "", text).strip()
