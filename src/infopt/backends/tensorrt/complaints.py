"""What TensorRT's parser has against a model, in words that a person can act on."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from infopt.ir.layers import Layers

_NO_OPERATOR = (
    "TensorRT has no such operator; write it with others before exporting, or choose the target "
    "onnxruntime:cuda"
)
_KNOWN = (
    (
        re.compile(r"zero.?point", re.IGNORECASE),
        "it is quantized around another number than zero; TensorRT takes symmetric quantization "
        "only: quantize it again with infopt, from the model in floating point",
    ),
    (
        re.compile(r"convertDtype|data ?type", re.IGNORECASE),
        "TensorRT has no such type; convert to float, float16, bfloat16, int8, int32, int64 or "
        "bool before",
    ),
    (re.compile(r"plugin|no importer", re.IGNORECASE), _NO_OPERATOR),
)
_QUOTED = re.compile(r'&& "(.+)"')
_AFTER = re.compile(r"Assertion failed: .*?: (.+)")
_MOST_PLACES = 5


def describe(complaints: Sequence[Mapping[str, str]], layers: Layers) -> str:
    """One message with every node that the parser refuses: where it is, and what to do.

    Args:
        complaints: As the parser made them: ``code``, ``node``, ``operator`` and ``text``.
        layers: Of the model.
    """
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for complaint in complaints:
        reason = _reason(complaint)
        place = _place(complaint["node"], layers)
        if place not in alike[complaint["operator"], reason]:
            alike[complaint["operator"], reason].append(place)
    nodes = sum(map(len, alike.values()))
    head = f"TensorRT does not take {nodes} {'node' if nodes == 1 else 'nodes'} of the model"
    lines = [
        f"  {operator} at {_listed(places)}: {reason}" if operator else f"  {reason}"
        for (operator, reason), places in alike.items()
    ]
    return "\n".join([f"{head}:", *lines])


def _reason(complaint: Mapping[str, str]) -> str:
    text = " ".join(complaint["text"].split())
    for pattern, advice in _KNOWN:
        if pattern.search(text):
            return advice
    if complaint["code"] == "UNSUPPORTED_NODE" and text == "false":  # the whole assertion
        return _NO_OPERATOR
    said = _QUOTED.search(text) or _AFTER.search(text)  # it speaks in assertions
    return said[1] if said else text or complaint["code"].replace("_", " ").lower()


def _place(node: str, layers: Layers) -> str:
    layer = layers.of(node)
    return f"{node!r} (layer {layer})" if layer else repr(node)


def _listed(places: Sequence[str]) -> str:
    shown = ", ".join(places[:_MOST_PLACES])
    more = len(places) - _MOST_PLACES
    return f"{shown} and {more} more" if more > 0 else shown
