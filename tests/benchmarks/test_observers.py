import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks import observers, observers_models
from infopt.quant.scheme import RangeMethod


def _results(ratio: float, late: int) -> dict[str, Any]:
    row = {
        "case": "states",
        "elements": 10**6,
        "way": "entropy",
        "medians": {"ONNX Runtime": 0.02, "infopt": 0.02 / ratio},
        "ratio": {"value": ratio, "low": ratio - 0.1, "high": ratio + 0.1},
        "ranges": {"ONNX Runtime": [-1.5, 2.25], "infopt": [-1.5, 2.5]},
    }
    whole = {"model": "net", "samples": 3, "values": 2, "way": "entropy"}
    return {
        "timings": [row],
        "wholes": [{**whole, "medians": row["medians"], "ratio": row["ratio"]}],
        "growth": {"batches": 10, "early": 10**8, "late": late},
    }


@pytest.mark.parametrize("way", observers.WAYS, ids=lambda way: way.name)
def test_both_find_a_range_of_the_same_data(way: observers.Way) -> None:
    case = observers.CASES[3]
    batches = case.batches()
    ours, theirs = observers.ours(way, batches), observers.theirs(way, batches)
    most = max(float(abs(batch).max()) for batch in batches)
    for mine, other in zip(ours, theirs, strict=True):
        assert 0.5 * most < abs(mine) <= most
        assert 0.5 * most < abs(other) <= most
    if way.method == "percentile":
        assert ours == pytest.approx(theirs, rel=0.01)


@pytest.mark.parametrize("method", observers.WHOLE_WAYS)
def test_both_calibrate_a_whole_model(method: RangeMethod, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """
        <ir_version: 10, opset_import: ["": 18]>
        net (float[n, 8] x) => (float[n, 8] y)
        <float[8, 8] w = {ONES}> { h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, w) }
        """.replace("ONES", ", ".join(["0.5"] * 64))
    )
    file = tmp_path / "net.onnx"
    onnx.save(model, file)
    rng = np.random.default_rng(0)
    samples = [{"x": rng.normal(size=(16, 8)).astype(np.float32)} for _ in range(8)]
    theirs = observers_models.theirs(file, samples, ("MatMul",), method)
    ours = observers_models.ours(
        file, samples, tuple(theirs), method, observers.SPEC, observers.PERCENT
    )
    assert set(ours) == set(theirs) >= {"x", "r"}
    for name, (low, high) in theirs.items():
        assert ours[name][1] == pytest.approx(high, rel=0.1 if method == "percentile" else 0.7)
        assert ours[name][0] <= 0 <= ours[name][1]
        assert low <= 0 <= high


def test_memory_is_measured_while_streams_observe() -> None:
    found = observers.grow(12)
    assert found["batches"] == 12
    assert 0 < found["early"] <= found["late"]


def test_a_measurement_becomes_a_page() -> None:
    case, way = observers.CASES[3], observers.WAYS[0]
    row = observers.measure(case, way, seconds=0.05)
    results = {**_results(3.5, 10**8), "timings": [row]}
    told = observers.page(json.loads(json.dumps(results)))
    assert told.tables[0][0] == "Percentile"
    assert told.tables[0][2][0][:2] == ["pooled features", "98,304"]


def test_limits_are_checked() -> None:
    assert observers.missed(_results(3.5, 10**8 + 10**7)) == []
    assert observers.missed(_results(2.5, 10**8 + 10**7)) == [
        "entropy, states: 2.5 times as fast, wanted 3",
        "entropy, net: 2.5 times as fast, wanted 3",
    ]
    assert observers.missed(_results(3.5, 2 * 10**8)) == ["memory grew by 100.0 MB, allowed 50 MB"]
