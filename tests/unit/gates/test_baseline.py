from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infopt.errors import BaselineError, StorageError
from infopt.gates.baseline import read_baseline
from infopt.gates.facts import Error
from tests.support.gates import baseline, facts


@pytest.fixture
def file(tmp_path: Path) -> Path:
    baseline().write(tmp_path / "baseline.json")
    return tmp_path / "baseline.json"


def test_what_is_written_is_read(file: Path) -> None:
    assert read_baseline(file) == baseline()
    assert [entry.name for entry in file.parent.iterdir()] == ["baseline.json"]


def test_what_is_infinite_or_unknown_is_read_as_such(tmp_path: Path) -> None:
    bare = baseline(
        facts=facts(
            error={"y": Error(math.inf, -math.inf), "z": Error(0.0, math.inf)},
            metric=None,
            speed=None,
            cold_start=None,
            memory=None,
            unknown={"latency": "no GPU"},
        )
    )
    bare.write(tmp_path / "b.json")
    json.loads((tmp_path / "b.json").read_text(), parse_constant=pytest.fail)
    assert read_baseline(tmp_path / "b.json") == bare


def change(place: str, value: object) -> Callable[[Any], None]:
    *path, last = place.split(".")

    def apply(document: Any) -> None:
        for name in path:
            document = document[int(name)] if isinstance(document, list) else document[name]
        if value is KeyError:
            del document[last]
        else:
            document[last] = value

    return apply


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("engine", KeyError, "engine must be a string, and it is missing"),
        ("engine", 5, "engine must be a string, not 5"),
        ("precision", "int7", "precision must be one of fp32.* not 'int7'"),
        ("reference", [], "reference must be an object, not []"),
        ("reference.place", None, "reference.place must be a string, not None"),
        ("conditions.seed", 0.5, "conditions.seed must be a whole number"),
        ("conditions.seed", True, "conditions.seed must be a whole number"),
        ("conditions.threads", 0, "conditions.threads must be a whole number from 1 to 4096"),
        ("conditions.threads", 10**30, "conditions.threads must be a whole number"),
        ("conditions.data", "no", "conditions.data must be true or false"),
        ("conditions.shapes", {"batch": [[4, 1]]}, "conditions.shapes.batch must be a list of ran"),
        ("conditions.shapes", {"batch": [["1", 4]]}, "must be a list of ranges"),
        ("facts.size", -1, "facts.size must be a whole number from 0"),
        ("facts.size", "10 MB", "facts.size must be a whole number, not '10 MB'"),
        ("facts.inputs", [1], "facts.inputs must be a list of objects"),
        ("facts.inputs.0.name", None, "facts.inputs[0].name must be a string"),
        ("facts.inputs.0.shape", [[1]], "facts.inputs[0].shape must hold numbers, names and null"),
        ("facts.operators.MatMul", "two", "facts.operators.MatMul must be a whole number"),
        ("facts.products.int8", [1], "facts.products.int8 must be a list of strings"),
        ("facts.error.scores.max_relative", "nan", "facts.error.scores.max_relative must be a num"),
        ("facts.error.scores.max_relative", -1, "max_relative must be a number from 0 to inf"),
        ("facts.metric.value", 10**400, "facts.metric.value must be a number"),
        ("facts.speed.value", 0, "facts.speed.value must lie between low and high and above 0"),
        ("facts.speed.low", 3.0, "facts.speed.value must lie between low and high"),
        ("facts.speed.low", "inf", "facts.speed.low must be a number, not 'inf'"),
        ("facts.speed.confidence", 2, "facts.speed.confidence must be a number from 0.5 to 1"),
        ("facts.speed.noise", 1e9, "facts.speed.noise must be a number from 0 to 10"),
        ("facts.memory.reference", 0, "facts.memory.reference must be a whole number from 1"),
        ("facts.cold_start", KeyError, "facts.cold_start must be an object, and it is missing"),
        ("versions.infopt", {}, "versions.infopt must be a string"),
        ("schema_version", 2, "schema version 2, this infopt reads 1"),
        ("format", "infopt-engine", "is no baseline of infopt"),
    ],
)
def test_nonsense_is_named(file: Path, place: str, value: object, says: str) -> None:
    document = json.loads(file.read_text())
    change(place, value)(document)
    file.write_text(json.dumps(document))
    with pytest.raises(BaselineError) as caught:
        read_baseline(file)
    pattern = re.escape(says).replace(r"\.\*", ".*")
    assert re.search(pattern, str(caught.value)), str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not valid JSON"),
        ("[]", "holds no JSON object"),
        ("{", "not valid JSON"),
        ('{"a": NaN}', "NaN is no JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
        ("\ud800".encode("utf-8", "surrogatepass"), "not valid JSON"),
        (b"\xff\xfe\x00", "not valid JSON"),
    ],
)
def test_what_is_no_json(tmp_path: Path, text: str | bytes, says: str) -> None:
    file = tmp_path / "b.json"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(BaselineError, match=says):
        read_baseline(file)


def test_files_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match="cannot be read: No such file"):
        read_baseline(tmp_path / "none.json")
    with pytest.raises(BaselineError, match="cannot be read: Is a directory"):
        read_baseline(tmp_path)
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(BaselineError, match="larger than any baseline"):
        read_baseline(tmp_path / "huge.json")
    with pytest.raises(StorageError, match="cannot be written"):
        baseline().write(tmp_path / "nowhere" / "b.json")
