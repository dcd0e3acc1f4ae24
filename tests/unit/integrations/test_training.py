"""Engines of a model that goes on learning."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import infopt
from infopt.errors import Interrupted, UsageError, VerificationError
from infopt.importers import import_model
from infopt.integrations.training import Attempt, optimize_in_training, unwrapped
from infopt.integrations.wishes import check_beforehand
from infopt.ir import digest
from tests.support.training import EXAMPLE, accuracy, digits, held_out, network, train

Parameters = dict[str, torch.Tensor]
QUICK: dict[str, Any] = {"seconds": 1, "allow": ["latency"]}


def _trained(behind: Any, epochs: int = 3) -> Parameters:
    model = network()
    train(model, epochs, lambda epoch: behind(model, epoch))
    return model.state_dict()


def test_a_training_is_the_same_with_engines_and_without(tmp_path: Path) -> None:
    made: list[Attempt] = []

    def compile_it(model: nn.Module, epoch: int) -> None:
        made.append(
            optimize_in_training(
                model,
                tmp_path,
                epoch=epoch,
                example_inputs=EXAMPLE,
                data=held_out(),
                metric=accuracy,
                options={"precision": "int8"},  # calibrates, too
            )
        )

    alone, interrupted = _trained(lambda *_: None), _trained(compile_it)
    assert [attempt.made for attempt in made] == [True, True, True]
    assert alone.keys() == interrupted.keys()
    assert all(torch.equal(alone[name], interrupted[name]) for name in alone)


def test_the_engine_computes_what_the_module_computes_in_eval_mode(tmp_path: Path) -> None:
    model = network().train()
    found = optimize_in_training(model, tmp_path, epoch=1, example_inputs=EXAMPLE)
    assert found.best
    assert found.engine is not None
    assert found.engine.path == tmp_path / "best.engine"
    assert model.training
    rows = digits()[0][:7]
    expected = model.eval()(rows).detach().numpy()
    session = infopt.load(found.engine.path)
    np.testing.assert_allclose(session(input=rows.numpy())["output"], expected, atol=1e-5)
    assert found.metrics["infopt/max_error"] < 1e-4
    assert found.metrics["infopt/bytes"] == found.engine.nbytes
    assert found.metrics["infopt/seconds"] > 0


def test_the_model_lies_beside_the_engine_for_a_baseline(tmp_path: Path) -> None:
    optimize_in_training(network(), tmp_path, epoch=1, example_inputs=EXAMPLE)
    reference = tmp_path / "best.reference" / "model.onnx"
    known = infopt.Engine, digest.model_digest(import_model(reference).model)
    taken = infopt.take_baseline(
        tmp_path / "best.engine",
        tmp_path / "baseline.json",
        reference=reference,
        cold_starts=False,
        seconds=0.5,
    )
    assert taken.reference.digest == known[1]
    assert taken.reference.place == "best.reference/model.onnx"


def test_the_best_is_kept(tmp_path: Path) -> None:
    scores = {1: 0.7, 2: 0.9, 3: 0.8}
    found = [
        optimize_in_training(
            network(),
            tmp_path,
            epoch=epoch,
            scores={"val_accuracy": score},
            monitor="val_accuracy",
            example_inputs=EXAMPLE,
            options={"verify": False},
        )
        for epoch, score in scores.items()
    ]
    assert [attempt.best for attempt in found] == [True, True, False]
    assert [attempt.engine is None for attempt in found] == [False, False, True]
    assert '"epoch": 2' in (tmp_path / "best.json").read_text()
    # A training that goes back to where it was forgets what came behind.
    again = optimize_in_training(
        network(),
        tmp_path,
        epoch=2,
        scores={"val_accuracy": 0.1},
        monitor="val_accuracy",
        example_inputs=EXAMPLE,
        options={"verify": False},
    )
    assert again.best
    assert not list(tmp_path.glob(".epoch-*"))


def test_all_are_kept_if_wanted(tmp_path: Path) -> None:
    for epoch in (1, 2):
        optimize_in_training(
            network(),
            tmp_path,
            epoch=epoch,
            scores={"loss": float(epoch)},
            monitor="loss",
            mode="min",
            keep="all",
            example_inputs=EXAMPLE,
            options={"verify": False},
        )
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == [
        "best.engine", "best.json", "best.reference", "epoch-0001.engine", "epoch-0002.engine",
    ]  # fmt: skip
    assert '"epoch": 1' in (tmp_path / "best.json").read_text()


def test_a_red_gate_keeps_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = network()
    train(model, 2, lambda epoch: None)
    wishes: Any = {
        "example_inputs": EXAMPLE,
        "data": held_out(),
        "metric": accuracy,
        "options": {"precision": "fp32"},
    }
    good = optimize_in_training(model, tmp_path / "good", epoch=2, **wishes)
    assert good.metrics["infopt/metric"] > 0.8
    infopt.take_baseline(
        tmp_path / "good" / "best.engine",
        tmp_path / "baseline.json",
        reference=tmp_path / "good" / "best.reference" / "model.onnx",
        data=held_out(),
        metric=accuracy,
        cold_starts=False,
        seconds=0.5,
    )
    wishes |= {"baseline": tmp_path / "baseline.json", "limits": {"max_drop": 0.05, **QUICK}}
    again = optimize_in_training(model, tmp_path / "again", epoch=1, **wishes)
    assert again.check is not None
    assert again.metrics["infopt/gate"] == 1.0
    assert again.best

    untrained = optimize_in_training(network(), tmp_path / "again", epoch=2, **wishes)
    assert untrained.check is not None
    assert [finding.name for finding in untrained.check.of("worse")] == ["metric"]
    assert (untrained.made, untrained.best, untrained.engine) == (True, False, None)
    assert untrained.metrics["infopt/gate"] == 0.0
    assert "epoch 2: the gate is red: worse: metric" in caplog.text
    assert '"epoch": 1' in (tmp_path / "again" / "best.json").read_text()


# What goes wrong ----------------------------------------------------------------------------


class Deciding(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if x.sum() > 0 else x - 1


def test_a_failing_export_is_told_and_kills_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module = Deciding().train()
    state = torch.get_rng_state()
    with caplog.at_level(logging.WARNING, "infopt"):
        found = optimize_in_training(module, tmp_path, epoch=3, example_inputs=EXAMPLE)
    assert found.metrics["infopt/made"] == 0.0
    assert not found.made
    assert found.engine is None
    assert "decides by the values of tensors" in found.error
    assert "epoch 3: no engine was made: ImportFailed: torch.onnx cannot export" in caplog.text
    assert module.training
    assert torch.equal(torch.get_rng_state(), state)
    assert not list(tmp_path.iterdir())


def test_a_baseline_that_is_lost_kills_nothing(tmp_path: Path) -> None:
    wishes: Any = {"example_inputs": EXAMPLE, "baseline": tmp_path / "lost.json"}
    found = optimize_in_training(network(), tmp_path, epoch=1, **wishes)
    assert "lost.json cannot be read" in found.error
    assert not (tmp_path / "best.engine").exists()
    with pytest.raises(UsageError, match="there is no baseline"):  # if it never was there
        check_beforehand(wishes)


def test_a_defect_kills_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object, **__: object) -> None:
        raise ZeroDivisionError("not ours")

    monkeypatch.setattr("infopt.integrations.training.api.optimize", defect)
    found = optimize_in_training(network(), tmp_path, epoch=1, example_inputs=EXAMPLE)
    assert found.error == "not ours"
    with pytest.raises(ZeroDivisionError):
        optimize_in_training(network(), tmp_path, epoch=1, example_inputs=EXAMPLE, on_error="raise")


def test_errors_are_raised_if_wanted(tmp_path: Path) -> None:
    wishes: Any = {"example_inputs": EXAMPLE, "on_error": "raise", "epoch": 1}
    with pytest.raises(infopt.InfoptError, match="decides by the values"):
        optimize_in_training(Deciding(), tmp_path, **wishes)
    coarse = {"precision": "int8", "least_sqnr": 90.0}
    with pytest.raises(VerificationError):
        optimize_in_training(network(), tmp_path, **wishes, data=held_out(), options=coarse)
    with pytest.raises(UsageError, match="no score 'val_loss' to monitor"):
        optimize_in_training(network(), tmp_path, **wishes, monitor="val_loss")


def test_whoever_stops_it_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted("interrupted")

    monkeypatch.setattr("infopt.integrations.training.api.optimize", stopped)
    with pytest.raises(KeyboardInterrupt):
        optimize_in_training(network(), tmp_path, epoch=1, example_inputs=EXAMPLE)


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"precison": "int8"}, "there is no wish 'precison'.*infopt.optimize go into options="),
        ({"mode": "least"}, "mode is 'least'; it is one of max, min"),
        ({"on_error": "ignore"}, "on_error is 'ignore'; it is one of warn, raise"),
        ({"metric": accuracy}, "a metric says nothing about made-up inputs; give data"),
        ({"data": iter([])}, "read again at every epoch; give a list"),
        ({"limits": {"max_slowdown": 0.1}}, "distances from a baseline; give one"),
        ({"options": {"data": []}}, "data is a wish of its own"),
    ],
)
def test_nonsense_is_an_error_at_once(tmp_path: Path, wishes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        optimize_in_training(network(), tmp_path, epoch=1, example_inputs=EXAMPLE, **wishes)


# What a module is wrapped in, and where -----------------------------------------------------


def test_wrapped_modules_are_looked_into(tmp_path: Path) -> None:
    model = network()
    assert unwrapped(nn.DataParallel(model)) is model
    wrapped: Any = torch.compile(model, backend="eager")
    assert unwrapped(wrapped) is model
    found = optimize_in_training(wrapped, tmp_path, epoch=1, example_inputs=EXAMPLE)
    assert found.made


def test_weights_on_many_devices_are_refused(tmp_path: Path) -> None:
    model = network()
    model[0].weight.ds_id = 1  # type: ignore[index]
    found = optimize_in_training(model, tmp_path, epoch=1, example_inputs=EXAMPLE)
    assert "the weights of Sequential are spread over devices; gather them" in found.error
    whole = optimize_in_training(
        model, tmp_path, epoch=1, example_inputs=EXAMPLE, prepare=lambda _: network()
    )
    assert whole.made


def test_a_part_can_be_compiled(tmp_path: Path) -> None:
    found = optimize_in_training(
        network(), tmp_path, epoch=1, example_inputs=EXAMPLE, prepare=lambda it: it[:2]
    )
    assert found.engine is not None
    assert found.engine.manifest.outputs[0].shape == ("batch", 32)


_PROCESS = """
import sys
import torch
from torch.nn.parallel import DistributedDataParallel
from infopt.integrations.training import optimize_in_training
from tests.support.training import EXAMPLE, network

rank, room = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{room}/meeting", rank=rank, world_size=2
)
model = DistributedDataParallel(network())
for step in (1, 2):
    model(torch.ones(4, 64)).sum().backward()  # all processes meet here
    found = optimize_in_training(model, f"{room}/{rank}", epoch=step, example_inputs=EXAMPLE)
    print(found.made, sorted(found.metrics))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_in_several_processes_the_first_one_works(tmp_path: Path) -> None:
    import subprocess
    import sys

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, str(rank), str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert told[0][0].count("True ['infopt/best'") == 2
    assert told[1][0].splitlines() == ["False []", "False []"]
    assert (tmp_path / "0" / "best.engine").exists()
    assert not (tmp_path / "1").exists()
