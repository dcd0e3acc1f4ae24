"""Real pretrained models, all the way from their source to an engine that computes the same."""

from pathlib import Path

import numpy as np
import pytest

import infopt
from benchmarks.models import ZOO, ZooModel
from infopt.evidence.metrics import difference
from infopt.verification import TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("model", ZOO, ids=lambda model: model.name)
def test_it_becomes_an_engine_that_computes_the_same(model: ZooModel, tmp_path: Path) -> None:
    source = model.source()
    engine = infopt.optimize(source, tmp_path / "engine", measure=False, **model.options())
    evidence = engine.manifest.evidence
    assert evidence["equivalence"]["holds"]
    assert len(evidence["equivalence"]["samples"]) >= 2
    for found in evidence["equivalence"]["outputs"].values():
        assert found["max_relative"] <= TOLERANCE
    assert not isinstance(source, Path) or source.is_file() or evidence["export"]["holds"]

    # Realistic inputs beside the synthetic ones, at sizes of our own choosing.
    session = infopt.load(engine.path)
    reference = infopt.load(_untouched(model, tmp_path))
    names = [spec.name for spec in session.inputs]
    rng = np.random.default_rng(0)
    for batch, size in ((1, model.sizes[0]), (3, model.sizes[-1])):
        feeds = model.feeds(batch, size, rng)
        inputs = dict(zip(names, feeds.values(), strict=True)) if len(names) == 1 else feeds
        computed, expected = session(inputs), reference(inputs)
        for name, array in expected.items():
            assert difference(computed[name], array).max_relative <= TOLERANCE


def _untouched(model: ZooModel, tmp_path: Path) -> Path:
    """An engine that no pass has touched."""
    output = tmp_path / "untouched"
    infopt.optimize(model.source(), output, pipeline="", verify=False, **model.options())
    return output
