"""An engine directory with next to nothing in it."""

from __future__ import annotations

from pathlib import Path

from infopt import engine as engines
from infopt.engine import Manifest, TensorSpec

MANIFEST = Manifest(
    target="onnxruntime:cpu",
    source={"kind": "onnx"},
    model_digest="sha256:0",
    precision="fp32",
    pipeline="",
    inputs=(TensorSpec("x", "float", ("n", 3, None)),),
    outputs=(TensorSpec("y", "float", None),),
    versions={},
    hardware={},
    passes=(),
    evidence={},
    sizes={},
)


def build_engine(output: Path, text: str = "model", **more: bytes) -> engines.Engine:
    """Publish an engine whose ``model.onnx`` is ``text``; ``more`` are other files, by suffix."""
    with engines.staging(output) as rooms:
        (rooms.payload / "model.onnx").write_text(text)
        for suffix, content in more.items():
            (rooms.payload / f"engine.{suffix}").write_bytes(content)
        (rooms.scratch / "intermediate").write_text("not for the engine")
        return engines.publish(rooms, output, MANIFEST)
