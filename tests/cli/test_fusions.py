"""``inspect --fusions`` and ``--expect``: what raising finds, misses, and owes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from infopt.cli.raised import spell
from tests.cli.support import Run, document, no_leftovers
from tests.support.layered import layered

RAISE = "fuse-layer-normalization,fuse-gelu"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """Twelve layers; in three of them is a Gelu that is none."""
    path = tmp_path / "network.onnx"
    onnx.save(layered(12, odd=(1, 2, 7)), path)
    return path


def test_layers_that_are_alike_share_a_row(infopt: Run, network: Path) -> None:
    result = infopt("inspect", network, "--fusions", columns=80)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    counts = next(line for line in lines if line.startswith("213 → "))
    assert counts.endswith("nodes, cleaned and raised")
    assert "LayerNormalization     13      13       ·" in lines
    assert "Gelu                    9       9       3" in lines
    assert "layer.0, 3–6, 8–11  each  1 LayerNormalization, 1 Gelu" in lines
    assert "layer.1–2, 7        each  1 LayerNormalization          1 Gelu" in lines
    assert "–                         1 LayerNormalization" in lines
    assert "Gelu    layer.1–2, 7  the constant factor is 0.7, not 0.5" in lines
    assert max(map(len, lines)) <= 80


def test_everything_for_programs(infopt: Run, network: Path) -> None:
    found = document(infopt("inspect", network, "--fusions", "--json"))
    assert found["operators"]["Gelu"] == {"found": 9, "raised": 9, "missed": 3}
    missed = [site for site in found["sites"] if site["state"] == "missed"]
    assert [site["layer"] for site in missed] == ["layer.1", "layer.2", "layer.7"]
    assert missed[0]["reason"] == "the constant factor is 0.7, not 0.5"
    assert found["shortfall"] == ""


def test_a_model_without_anything_to_raise(infopt: Run, model: Path) -> None:
    result = infopt("inspect", model, "--fusions")
    assert result.exit_code == 0
    assert "nothing to raise, nothing near it: LayerNormalization," in result.stdout


def test_expectations_of_inspect(infopt: Run, network: Path) -> None:
    held = infopt("inspect", network, "--fusions", "--expect", "Gelu=9,LayerNormalization=13")
    assert held.exit_code == 0
    short = infopt("inspect", network, "--fusions", "--expect", "Gelu=12", "--json")
    assert short.exit_code == 1
    assert document(short)["operators"]["Gelu"]["expected"] == 12
    assert document(short)["shortfall"].startswith("9 of 12 expected Gelu, missed: layer.1")
    text = infopt("inspect", network, "--fusions", "--expect", "Gelu=12").stdout
    assert "9 of 12 expected Gelu" in text.splitlines()[-1]


def test_expectations_of_optimize(infopt: Run, network: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.engine"
    arguments = ("optimize", network, "-o", output, "--no-verify", "--pipeline", RAISE)
    short = infopt(*arguments, "--expect", "Gelu=12")
    assert short.exit_code == 1
    assert "9 of 12 expected Gelu, missed: layer.1" in short.stderr
    assert "No engine was written" in short.stderr
    no_leftovers(tmp_path, network.name)
    held = infopt(*arguments, "--expect", "Gelu=9", "--json")
    assert held.exit_code == 0, held.stderr
    assert document(held)["manifest"]["fusions"]["Gelu"]["expected"] == 9
    for report in (infopt(*arguments), infopt("inspect", output)):
        assert "13 LayerNormalization, 9 Gelu; missed 3 Gelu" in report.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--expect", "Gelu=1"), "--expect needs --fusions"),
        (("--fusions", "--all"), "--fusions goes with --expect and --json only"),
        (("--fusions", "--expect", "Gelu"), "write OPERATOR=COUNT"),
        (("--fusions", "--expect", "Gello=1"), "did you mean 'Gelu'"),
    ],
)
def test_wrong_usage(infopt: Run, model: Path, arguments: tuple[str, ...], message: str) -> None:
    result = infopt("inspect", model, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_layers_are_spelled_as_ranges() -> None:
    labels = ["layers.10", "layers.2", "layers.1", "layers.0", "layers.0"]
    assert spell(labels) == "layers.0–2, 10"
    assert spell(["encoder.block.0", "decoder.block.0"]) == "encoder.block.0, decoder.block.0"
    assert spell([""]) == "–"
