"""Real pretrained models: the ranking tells what an engine does, and keeping a few nodes pays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infopt
from benchmarks.models import ZOO
from infopt.backends import backend_for
from infopt.passes.keeping import join
from infopt.pipeline import Pipeline
from infopt.presets import preset
from infopt.target import parse_target

MODELS = {model.name: model for model in ZOO}


def _samples(name: str, sizes: tuple[tuple[int, int], ...]) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    return [MODELS[name].feeds(batch, size, rng) for batch, size in sizes]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes", "gain"),
    [
        ("MiniLM-L6", ((2, 24), (1, 64), (3, 16)), 3.0),
        ("EfficientNet-lite0", ((1, 224), (1, 224)), 3.0),
    ],
)
def test_a_budget_is_held_with_few_nodes_in_float(
    name: str, sizes: tuple[tuple[int, int], ...], gain: float, tmp_path: Path
) -> None:
    file, samples = MODELS[name].original(tmp_path), _samples(name, sizes)
    ranking = infopt.sensitivity(file, data=samples)
    worst = ranking.nodes[0]
    assert worst.sqnr_db > ranking.together.sqnr_db
    usual: dict[str, Any] = {
        "precision": "int8",
        "data": samples,
        "measure": False,
        "least_sqnr": 0.0,
    }
    plain = _noise(infopt.optimize(file, tmp_path / "plain", **usual))
    engine = infopt.optimize(file, tmp_path / "mixed", max_error=f"{plain + gain}dB", **usual)
    mixed = engine.manifest.evidence["mixed"]
    assert _noise(engine) >= plain + gain
    assert 0 < len(mixed["kept"]) < 0.6 * len(ranking.nodes)
    assert mixed["kept"][0]["node"] == worst.node
    assert mixed["evaluations"] <= 2 + np.ceil(np.log2(len(ranking.nodes)))

    # The worst node alone, as an engine: the preset with all others kept.
    others = [damage.node for damage in ranking.nodes if damage.node != worst.node]
    backend = backend_for(parse_target("onnxruntime:cpu"))
    scheme = {"keep": join(others)}
    alone: Pipeline = preset(backend, "int8", data=True, scheme=scheme)
    infopt.optimize(
        file, tmp_path / "alone", pipeline=alone, data=samples, measure=False, tolerance=np.inf
    )
    infopt.optimize(file, tmp_path / "float", verify=False)
    signal = noise = 0.0
    session, exact = infopt.load(tmp_path / "alone"), infopt.load(tmp_path / "float")
    for sample in samples:
        inputs = {spec.name: sample[spec.name] for spec in exact.inputs}
        a, b = (next(iter(run(inputs).values())).astype(float) for run in (session, exact))
        signal += float(np.sum(b * b))
        noise += float(np.sum((a - b) ** 2))
    # Rounding of sums moves a number now and then across a border between two integers.
    assert worst.sqnr_db == pytest.approx(10 * np.log10(signal / noise), abs=0.1)


def _noise(engine: infopt.Engine) -> float:
    outputs = engine.manifest.evidence["equivalence"]["outputs"]
    return min(float(found["sqnr_db"]) for found in outputs.values())
