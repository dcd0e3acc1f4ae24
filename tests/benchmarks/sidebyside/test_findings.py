import dataclasses
import math

import pytest

from benchmarks.sidebyside import findings
from benchmarks.sidebyside.findings import Form
from benchmarks.sidebyside.peers import BASELINE, PEERS
from tests.benchmarks.sidebyside.results import model, peer, results


def _form(speed: float, error: float, name: str = "onnxslim") -> Form:
    return Form(next(p for p in PEERS if p.name == name), speed, error)


def test_a_peer_is_set_beside_the_fastest_form_that_errs_no_more() -> None:
    ours = [
        _form(1.2, 1e-6, "infopt"),
        _form(2.0, 0.05, "infopt int8"),
        _form(3.0, 0.2, "infopt int8-dynamic"),
    ]
    assert findings.duel(_form(1.0, 1e-6), ours).ours == ours[0]
    assert findings.duel(_form(1.0, 0.05), ours).ours == ours[1]
    assert findings.duel(_form(1.0, 0.3), ours).ours == ours[2]
    assert findings.duel(_form(4.0, 0.1), ours).ratio == 0.5


def test_rounding_of_float32_counts_as_equal() -> None:
    ours = [_form(1.2, 9e-5, "infopt")]
    assert findings.duel(_form(1.0, 1e-7), ours).ours == ours[0]
    assert findings.duel(_form(1.0, 1e-7), [_form(1.2, 2e-4, "infopt")]).ratio == 0.0


def test_those_of_a_group_are_set_beside_each_other_pass_by_pass() -> None:
    ours = dataclasses.replace(_form(1.5, 0.0, "infopt"), passes=((1.0, 2.0), (3.0,)))
    theirs = dataclasses.replace(_form(1.6, 0.0), passes=((1.0, 1.6), (2.0,)))
    duel = findings.duel(theirs, [ours])
    assert duel.ratio == 1.25
    assert duel.interval == (1.0, 1.5)
    elsewhere = findings.duel(dataclasses.replace(theirs, group=1, width=0.1), [ours])
    assert elsewhere.ratio == pytest.approx(1.5 / 1.6)
    assert elsewhere.interval[0] == pytest.approx(elsewhere.ratio / math.exp(0.1))


def test_rows_where_infopt_is_behind_come_first() -> None:
    found = findings.rows(
        results(
            model("ahead", ORT_default=peer(a=1.0, b=1.0), infopt=peer(a=1.2, b=1.1)),
            model("behind", ORT_default=peer(a=1.0), onnxslim=peer(a=1.5), infopt=peer(a=1.2)),
            model(
                "far behind",
                ORT_default=peer(a=1.0),
                OpenVINO=peer(a=3.0),
                infopt=peer(a=1.5),
            ),
        )
    )
    assert [row.model for row in found] == ["far behind", "behind", "ahead", "ahead"]
    assert [round(row.worst, 2) for row in found] == [0.5, 0.8, 1.1, 1.2]
    assert findings.led(found) == (3, 4)
    assert findings.losses(found) == {"OpenVINO": 1, "onnxslim": 1}


def test_a_cell_in_which_infopt_failed_is_lost() -> None:
    (row,) = findings.rows(results(model("m", ORT_default=peer(a=1.0), infopt=peer(failed="no"))))
    assert row.worst == 0.0
    assert row.same_runtime is not None
    assert row.same_runtime.ours is None
    assert row.other_kernels is None


def test_a_tie_is_not_a_loss() -> None:
    found = findings.rows(results(model("m", ORT_default=peer(a=1.0), infopt=peer(a=0.98))))
    assert findings.led(found) == (1, 1)
    assert findings.losses(found) == {}


def test_a_model_that_was_not_taken_has_no_rows() -> None:
    assert findings.rows(results({"model": "m", "failed": "no time"})) == []


def test_the_front_is_what_nothing_beats_in_both() -> None:
    exact, fast, between = _form(1.0, 0.0), _form(3.0, 0.3), _form(2.0, 0.1)
    beaten = [_form(0.9, 1e-6), _form(2.9, 0.4), _form(1.9, 0.1)]
    assert findings.front([*beaten, fast, exact, between]) == [fast, between, exact]


def test_the_front_of_nothing_is_empty() -> None:
    assert findings.front([]) == []


@pytest.mark.parametrize("one", PEERS, ids=lambda one: one.name)
def test_every_peer_has_a_recipe_that_names_the_page_it_follows(one: object) -> None:
    found = next(p for p in PEERS if p is one)
    assert 20 < len(found.summary) <= 110
    assert found.page == "README.md" if found.ours else found.page.startswith("https://")


def test_the_baseline_is_onnxruntime_as_it_is() -> None:
    assert PEERS[0] == BASELINE
    assert len({p.name for p in PEERS}) == len({p.recipe for p in PEERS}) == len(PEERS)
