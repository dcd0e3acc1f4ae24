"""What TensorRT says of the layers of an engine, read from its inspector's JSON.

The fields are those that NVIDIA documents. Versions differ: up to 10.x a tensor has one field,
``Format/Datatype``; from 11.0 on there are ``Format`` and ``DataType``. Engines that were not built
to tell of their layers name them only.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from infopt.errors import CompileError

_WORDS = {
    "bfloat16": "bfloat16",
    "bf16": "bfloat16",
    "float16": "float16",
    "fp16": "float16",
    "half": "float16",
    "float32": "float",
    "fp32": "float",
    "float": "float",
    "fp8": "float8e4m3fn",
    "fp4": "float4e2m1",
    "int64": "int64",
    "int32": "int32",
    "uint8": "uint8",
    "int8": "int8",
    "int4": "int4",
    "bool": "bool",
}
"""TensorRT's words for a type → ONNX's."""
_WORD = re.compile(rf"(?<![a-z0-9])({'|'.join(_WORDS)})(?![0-9])", re.IGNORECASE)
_NODE = re.compile(r"\[ONNX Layer: ([^\]]*)\]")
_JOINTS = re.compile(r" \+ | \|\| |, |PWN\(|[()]")


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of a built engine."""

    name: str
    kind: str
    """``LayerType``; empty where the engine names layers only."""
    reads: tuple[str, ...]
    """The type of each input, and of the weights where they are told; without those that are
    not known."""
    writes: tuple[str, ...]
    tactic: str
    """The kernel."""
    nodes: tuple[str, ...]
    """The ONNX nodes that it came from, or may have come from."""

    @property
    def reformats(self) -> bool:
        """Whether it only changes the format or type of a tensor."""
        return self.kind.lower() == "reformat"

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)


def read(text: str) -> tuple[Layer, ...]:
    """The layers of an engine.

    Args:
        text: What ``get_engine_information`` returns in the format ``JSON``.

    Raises:
        CompileError: It is no such thing.
    """
    try:
        found = json.loads(text)["Layers"]
        return tuple(_bare(row) if isinstance(row, str) else _layer(row) for row in found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CompileError(
            f"TensorRT's inspector speaks a language that is not known here ({error!r})"
        ) from None


def _bare(name: str) -> Layer:
    return Layer(name, "", (), (), "", _nodes(name, ""))


def _layer(row: Mapping[str, Any]) -> Layer:
    kind = row.get("LayerType", "")
    if row.get("ParameterType") == "Reformat":
        kind = "Reformat"
    weights = row.get("Weights", {})
    told = [weights.get("Type", "")] if isinstance(weights, Mapping) else []
    return Layer(
        name=row["Name"],
        kind=kind,
        reads=_types([*map(_type_of, row.get("Inputs", ())), *told]),
        writes=_types([*map(_type_of, row.get("Outputs", ()))]),
        tactic=row.get("TacticName", ""),
        nodes=_nodes(row["Name"], row.get("Metadata", "")),
    )


def _type_of(tensor: Mapping[str, Any]) -> str:
    for field in ("DataType", "Datatype", "Format/Datatype", "Format"):
        if field in tensor:
            return str(tensor[field])
    return ""


def _types(told: list[str]) -> tuple[str, ...]:
    matches = (_WORD.search(words) for words in told)
    return tuple(_WORDS[match[1].lower()] for match in matches if match is not None)


def _nodes(name: str, metadata: str) -> tuple[str, ...]:
    """The nodes that the metadata names, or what could be nodes in the name of the layer."""
    found = _NODE.findall(metadata) or [part for part in _JOINTS.split(name) if part]
    return tuple(dict.fromkeys(found))
