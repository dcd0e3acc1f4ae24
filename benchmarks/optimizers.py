"""infopt and its peers as programs: ``python -m benchmarks.optimizers TOOL MODEL DIRECTORY``.

Each reads an ONNX file and writes an optimized one into a directory. What is printed is how many
seconds that took, the imports of libraries apart. One process does one thing, so that its peak
memory is that tool's and no other's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

Work = Callable[[Path, Path], None]


def infopt() -> Work:
    """infopt, without verification and without measuring."""
    import infopt

    optimize = infopt.optimize  # loads what it needs
    return lambda model, directory: _ignore(optimize(model, directory / "engine", verify=False))


def onnxslim() -> Work:
    """Onnxslim with its defaults."""
    import onnxslim

    def work(model: Path, directory: Path) -> None:
        large = _is_large(model)
        onnxslim.slim(str(model), str(directory / "model.onnx"), save_as_external_data=large)

    return work


def onnxscript() -> Work:
    """Onnxscript's optimizer, reading and writing with onnx_ir."""
    import onnx_ir
    from onnxscript import optimizer

    def work(model: Path, directory: Path) -> None:
        loaded = onnx_ir.load(model)
        optimizer.optimize(loaded)
        onnx_ir.save(loaded, directory / "model.onnx", external_data="model.data")

    return work


def onnxruntime() -> Work:
    """ONNX Runtime's own optimizations, written out."""
    import onnxruntime as ort

    def work(model: Path, directory: Path) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(directory / "model.onnx")
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", "model.data"
        )
        ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    return work


def onnxruntime_transformers() -> Work:
    """ONNX Runtime's transformer optimizer, which is told the kind of the model."""
    from onnxruntime.transformers.optimizer import optimize_model

    def work(model: Path, directory: Path) -> None:
        kind = "gpt2" if "smol" in model.name else "bert"
        optimized = optimize_model(str(model), model_type=kind, use_gpu=False)
        optimized.save_model_to_file(
            str(directory / "model.onnx"), use_external_data_format=_is_large(model)
        )

    return work


TOOLS: dict[str, Callable[[], Work]] = {
    "infopt": infopt,
    "onnxslim": onnxslim,
    "onnxscript optimizer": onnxscript,
    "ONNX Runtime, offline": onnxruntime,
    "ONNX Runtime transformer optimizer": onnxruntime_transformers,
}


def size_of(model: Path) -> int:
    """Bytes of a model file and of what lies beside it under the same name."""
    return sum(file.stat().st_size for file in model.parent.glob(f"{model.stem}.*"))


def _is_large(model: Path) -> bool:
    return size_of(model) >= 2**31


def _ignore(_: object) -> None:
    pass


if __name__ == "__main__":
    tool, source, target = sys.argv[1:]
    run = TOOLS[tool]()
    start = time.perf_counter()
    run(Path(source), Path(target))
    print(f"seconds {time.perf_counter() - start}")
