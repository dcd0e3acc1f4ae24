import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from infopt.passes.precision._half import BFLOAT16, CHUNK, FLOAT16, LAZY_ABOVE, Half

both = pytest.mark.parametrize("half", [FLOAT16, BFLOAT16], ids=str)


def _tensor(*numbers: float) -> ir.TensorProtocol:
    return ir.Tensor(np.array(numbers, np.float32))


@both
def test_its_facts_are_those_of_the_type(half: Half) -> None:
    facts = ml_dtypes.finfo(half.dtype.numpy())  # type: ignore[no-untyped-call]
    assert half.largest == float(facts.max)
    assert half.digits == facts.nmant + 1
    assert float(half.dtype.numpy().type(half.ban)) == half.ban


@both
def test_two_bans_and_a_score_are_finite_and_the_score_is_lost_beside_one(half: Half) -> None:
    kind = half.dtype.numpy().type
    ban = kind(half.ban)
    assert np.isfinite(kind(ban + ban) + kind(-half.largest / 5))
    assert kind(ban + kind(7.5)) == kind(ban - kind(7.5)) == ban


@both
def test_a_running_sum_of_as_many_terms_is_nearly_right(half: Half) -> None:
    kind = half.dtype.numpy().type
    total = kind(0)
    for _ in range(half.terms):
        total = kind(total + kind(1.37))
    assert float(total) == pytest.approx(half.terms * float(kind(1.37)), rel=1 / 16)


@pytest.mark.parametrize(
    ("half", "numbers", "reason"),
    [
        (FLOAT16, (1e6, 1.0), "reaches 1e+06, and float16 ends at 65504"),
        (FLOAT16, (65504.0, -65504.0), None),
        (FLOAT16, (np.inf, -np.inf, np.nan, 1.0), None),
        (FLOAT16, (1e-12,), "would lose 100% of it"),
        (FLOAT16, (1e-6,), None),
        (FLOAT16, (1e-9, 2e-9), "too small"),
        (FLOAT16, (1e-9, 1.0), None),
        (FLOAT16, (0.0, -0.0), None),
        (FLOAT16, (), None),
        (BFLOAT16, (1e6, 1e-30), None),
        (BFLOAT16, (-3.4028235e38,), "bfloat16 ends at 3.38953e+38"),
    ],
)
def test_what_it_can_hold(half: Half, numbers: tuple[float, ...], reason: str | None) -> None:
    found = half.why_not(_tensor(*numbers))
    assert (found is None) if reason is None else (reason in str(found))


def test_the_negative_numbers_of_a_mask_are_no_reason() -> None:
    assert FLOAT16.why_not(_tensor(0, -1e38), masks=True) is None
    assert FLOAT16.why_not(_tensor(0, 1e38), masks=True) is not None


def test_a_divisor_must_not_become_zero() -> None:
    assert FLOAT16.why_not(_tensor(1, 1e-9)) is None
    assert "takes for 0" in str(FLOAT16.why_not(_tensor(1, 1e-9), divides=True))


def test_every_part_of_a_large_tensor_is_looked_at() -> None:
    array = np.ones(3 * CHUNK + 5, np.float32)
    array[-1] = 1e5
    assert "reaches 100000" in str(FLOAT16.why_not(ir.Tensor(array)))


@both
def test_conversion_rounds_and_bounds_masks(half: Half) -> None:
    array = np.array([0.1, -3.4028235e38, -np.inf], np.float32)
    found = half.narrowed(ir.Tensor(array), masks=True)
    assert found.dtype == half.dtype
    expected = np.array([0.1, half.ban, -np.inf]).astype(half.dtype.numpy())
    np.testing.assert_array_equal(found.numpy(), expected)


@both
def test_a_large_tensor_is_converted_when_it_is_read(half: Half) -> None:
    array = np.ones((LAZY_ABOVE // 4 + 1, 1), np.float32)
    found = half.narrowed(ir.Tensor(array))
    assert isinstance(found, ir.LazyTensor)
    assert found.shape == ir.Shape(array.shape)
    array[:] = 2  # it is read from where it lies
    assert (found.numpy() == 2).all()
