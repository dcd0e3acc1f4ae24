"""What a training would miss is given back."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn

from infopt.integrations.undisturbed import undisturbed
from tests.support.training import network


def _draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def _seed() -> None:
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)


@pytest.mark.parametrize("fails", [False, True])
def test_random_numbers_go_on_where_they_stopped(*, fails: bool) -> None:
    layer = nn.Linear(2, 2)  # which draws, too
    _seed()
    expected = [_draw(), _draw()]
    _seed()
    first = _draw()
    try:
        with undisturbed(layer):
            assert _draw() == expected[1]  # they are not frozen inside
            _seed()
            if fails:
                raise KeyError
    except KeyError:
        assert fails
    assert [first, _draw()] == expected


def test_every_module_is_in_the_mode_in_which_it_was() -> None:
    model = network().train()
    model[1].eval()  # type: ignore[index]  # a layer that is frozen
    before = [each.training for each in model.modules()]
    assert before.count(False) == 1
    with undisturbed(model):
        model.eval()
    assert [each.training for each in model.modules()] == before


def test_nothing_of_what_surrounds_it_is_seen_inside() -> None:
    layer = nn.Linear(2, 2)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), undisturbed(layer):
        result = layer(torch.ones(1, 2))
        assert result.dtype == torch.float32
        assert not result.is_inference()
        assert not result.requires_grad
    with torch.enable_grad(), undisturbed(layer):
        assert not layer(torch.ones(1, 2)).requires_grad
    assert layer(torch.ones(1, 2)).requires_grad
