"""Einsums that become products compute what numpy says."""

from __future__ import annotations

import numpy as np
import pytest

from infopt.ir import queries
from infopt.passes import PASSES
from tests.support.models import parse, run


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("...ij,jk->...ik", [(2, 3, 4, 5), (5, 6)]),
        ("...ij,...jk->...ik", [(2, 1, 4, 5), (2, 3, 5, 6)]),
        ("ij,...jk->...ik", [(4, 5), (2, 3, 5, 6)]),
        ("i...,j...->ij...", [(4, 2, 3), (5, 2, 1)]),
        ("...,...->...", [(2, 1), (2, 3)]),
        ("...i,...i", [(2, 3, 4), (2, 3, 4)]),
        ("b...h->h...b", [(2, 3, 5, 4)]),
        ("...d,...e->...de", [(3,), (4,)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
        ("bqhd,bkhd,bkhe->bqhe", [(2, 3, 2, 4), (2, 5, 2, 4), (2, 5, 2, 3)]),
        ("i,j,k->kij", [(2,), (3,), (4,)]),
        ("ab,a,b->", [(3, 4), (3,), (4,)]),
        ("...a,ab,b...->...", [(4, 3), (3, 2), (2, 4)]),
        ("ij,ik,il,im->jklm", [(2, 3), (2, 4), (2, 2), (2, 3)]),
    ],
)
def test_ellipses_and_many_operands(equation: str, shapes: list[tuple[int, ...]]) -> None:
    names = [f"x{index}" for index in range(len(shapes))]
    inputs = ", ".join(
        f"float[{','.join(map(str, shape))}] {name}"
        for shape, name in zip(shapes, names, strict=True)
    )
    rng = np.random.default_rng(0)
    arrays = {
        name: rng.normal(size=shape).astype(np.float32)
        for name, shape in zip(names, shapes, strict=True)
    }
    expected = np.einsum(equation, *arrays.values())
    rank = ",".join(f"d{axis}" for axis in range(expected.ndim))
    model = parse(
        f'g ({inputs}) => (float[{rank}] y) {{ y = Einsum <equation = "{equation}"> '
        f"({', '.join(names)}) }}"
    )
    result = PASSES["simplify-einsum"]().call(model)
    assert result.journal.changes, result.journal.refusals
    assert "Einsum" not in queries.count_operators(model)
    difference = np.abs(run(model, arrays)[0].astype(np.float64) - expected)
    assert difference.max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("equation", "inputs", "reason"),
    [
        ("...i,ij->ij", "float[2,3] a, float[3,4] b", "sums over an ellipsis"),
        ("ij,jk,kk->ik", "float[2,3] a, float[3,4] b, float[4,4] c", "takes a diagonal"),
        ("ij,jk,lk->ik", "float[2,3] a, float[3,4] b, float[5,4] c", "only one operand has"),
    ],
)
def test_what_stays(equation: str, inputs: str, reason: str) -> None:
    names = ", ".join(part.split()[-1] for part in inputs.split(", "))
    model = parse(
        f'g ({inputs}) => (float[A,B] y) {{ y = Einsum <equation = "{equation}"> ({names}) }}'
    )
    result = PASSES["simplify-einsum"]().call(model)
    assert not result.modified
    assert reason in result.journal.refusals[0].reason
