"""A training on a GPU that is interrupted: ``pytest -m gpu``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from infopt.integrations.training import optimize_in_training
from infopt.integrations.undisturbed import undisturbed
from tests.support.training import EXAMPLE, network

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


def test_devices_and_random_numbers_are_given_back(tmp_path: Path) -> None:
    model = network().cuda().train()
    torch.cuda.manual_seed(3)
    expected = [torch.rand(2, device="cuda"), torch.rand(2, device="cuda")]
    torch.cuda.manual_seed(3)
    assert torch.equal(torch.rand(2, device="cuda"), expected[0])
    found = optimize_in_training(model, tmp_path, epoch=1, example_inputs=EXAMPLE)
    assert found.made, found.error
    assert torch.equal(torch.rand(2, device="cuda"), expected[1])
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cuda"}
    assert model.training


def test_what_is_moved_inside_is_moved_back() -> None:
    model = network().cuda()
    with undisturbed(model):
        model.cpu()
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cuda"}
