"""The forms of the GPU benchmark on a real device, of a small model: ``pytest -m gpu``.

It has not run yet: no GPU was at hand.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_forms, gpu_limits
from benchmarks.gpu_forms import Cell
from benchmarks.gpu_limits import Device
from infopt.backends import backend_for
from infopt.target import parse_target
from tests.support.small_subject import SMALL

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.timeout(900)]

CUDA = Device("cuda")


@pytest.fixture(scope="module", autouse=True)
def _a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")


def test_every_form_is_made_judged_and_timed(tmp_path: Path) -> None:
    found = gpu_limits.ceilings(CUDA)
    assert found["operations_per_s"]["fp16"] > found["operations_per_s"]["fp32"]
    wanted = list(gpu_forms.forms(CUDA))
    rows = gpu.measure(Cell(SMALL, 8, CUDA, tmp_path), wanted, found, seconds=0.5)["forms"]
    for form, row in zip(wanted, rows, strict=True):
        target = form.name.removeprefix("infopt, ").removesuffix(" with graphs")
        if form.ours or form.name == gpu_forms.DEFAULT:
            name = target if form.ours else "onnxruntime:cuda"
            reason = backend_for(parse_target(name)).unavailable()
            if reason is not None:
                assert "reason" in row
                continue
        assert "reason" not in row, row
        assert row["seconds"]["median"] > 0
        assert row["speed"]["value"] > 0


def test_the_gpu_is_described() -> None:
    said = gpu.describe_run(CUDA)
    assert said["gpu"]["name"] == torch.cuda.get_device_name(0)
    assert said["gpu"]["memory_bytes"] > 1 << 30
    assert said["ceilings"]["bytes_per_s"] > 1e10
