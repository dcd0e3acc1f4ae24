"""Real models on a real device, at each precision, against themselves on the processor.

``pytest -m gpu``. It has not run yet: no GPU was at hand.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import infopt
from benchmarks import gpu_models
from infopt.backends import backend_for
from infopt.backends.tensorrt import cuda
from infopt.target import TARGETS

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(900)]

CASES = [
    *(("onnxruntime:cuda", precision) for precision in ("fp32", "fp16", "bf16", "int4")),
    *(("tensorrt", precision) for precision in ("fp32", "fp16", "bf16", "int8", "fp8", "int4")),
    *(("tensorrt-rtx", precision) for precision in ("fp32", "fp16", "bf16", "int8", "fp8", "int4")),
]
NOT_FOR_PICTURES = ("fp8", "int4", "bf16")
"""Convolutions stay as they are, or have no kernels."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("name", ["MiniLM-L6", "EfficientNet-lite0"])
@pytest.mark.parametrize(("target", "precision"), CASES)
def test_the_engine_computes_what_the_original_does(
    name: str, target: str, precision: str, cache: Path, tmp_path: Path
) -> None:
    if name == "EfficientNet-lite0" and precision in NOT_FOR_PICTURES:
        pytest.skip(f"{precision} is for transformers")
    reason = backend_for(TARGETS[target]).unavailable()
    if reason is not None:
        pytest.skip(reason)
    if precision == "fp8" and int(cuda.driver().capability().removeprefix("sm")) < 89:
        pytest.skip("this GPU has no products of 8-bit floats")
    subject = next(s for s in gpu_models.subjects() if s.name == name)
    engine = infopt.optimize(
        subject.file(cache),
        tmp_path / "engine",
        target=target,
        precision=precision,
        data=[subject.feeds(batch, seed) for seed, batch in enumerate((1, 2, 8))],
        # Else its products round to 11 bits, and fp32 is compared as fp32.
        provider_options={"use_tf32": "0"} if target == "onnxruntime:cuda" else {},
    )
    evidence = engine.manifest.evidence
    assert evidence["equivalence"]["ran"] == f"on {target}"
    assert evidence["equivalence"]["holds"]
    assert evidence["repeats"]["times"] == 10
    assert max(evidence["repeats"]["worst"].values(), default=0) <= evidence["repeats"]["bound"]
    if target != "onnxruntime:cuda":
        assert evidence["engine"] == "built for this GPU"
        assert evidence["outcome"]["layers"]
