import onnx_ir as ir
import pytest

from infopt.ir.flops import Work, work
from infopt.ir.shapes import infer_shapes


def _work(body: str) -> Work | None:
    model = ir.from_onnx_text(
        f'<ir_version: 11, opset_import: ["" : 24, "com.microsoft" : 1]> {body}'
    )
    infer_shapes(model)
    return work(model.graph.node(0))


@pytest.mark.parametrize(
    ("body", "macs", "other"),
    [
        (
            "g (float[2,3,5] a, float[5,7] b) => (float[2,3,7] y) { y = MatMul(a, b) }",
            2 * 3 * 7 * 5,
            0,
        ),
        (
            "g (float[4,2] a, float[4,3] b, float[3] c) => (float[2,3] y)"
            " { y = Gemm<transA = 1>(a, b, c) }",
            2 * 3 * 4,
            2 * 3,
        ),
        (
            "g (float[1,6,8,8] x, float[4,3,3,3] w, float[4] b) => (float[1,4,6,6] y)"
            " { y = Conv<group = 2>(x, w, b) }",
            4 * 6 * 6 * 3 * 9,
            4 * 6 * 6,
        ),
        (
            "g (float[1,4,5,5] x, float[4,2,2,2] w) => (float[1,2,10,10] y)"
            " { y = ConvTranspose<strides = [2, 2]>(x, w) }",
            4 * 25 * 2 * 4,
            0,
        ),
        (
            'g (float[2,3] a, float[3,5] b) => (float[2,5] y) { y = Einsum<equation = "ij,jk->ik">'
            "(a, b) }",
            2 * 3 * 5,
            0,
        ),
        (
            "g (float[7,2,3] x, float[1,20,3] w, float[1,20,5] r) => (float[7,1,2,5] y)"
            " { y = LSTM<hidden_size = 5>(x, w, r) }",
            7 * 2 * (20 * 3 + 20 * 5),
            0,
        ),
        (
            # 2 batches, 4 heads, 3 queries, 6 keys, 8 wide
            "g (float[2,4,3,8] q, float[2,4,6,8] k, float[2,4,6,8] v) => (float[2,4,3,8] y)"
            " { y = Attention(q, k, v) }",
            2 * (2 * 4 * 3 * 6 * 8),
            5 * 2 * 4 * 3 * 6,
        ),
        (
            # the same with the heads folded into the last axis
            "g (float[2,3,32] q, float[2,6,32] k, float[2,6,32] v) => (float[2,3,32] y)"
            " { y = Attention<q_num_heads = 4, kv_num_heads = 4>(q, k, v) }",
            2 * (2 * 4 * 3 * 6 * 8),
            5 * 2 * 4 * 3 * 6,
        ),
        ("g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }", 0, 6),
        ("g (float[2,3] x, float[3] b) => (float[2,3] y) { y = Add(x, b) }", 0, 6),
        ("g (float[2,3] x) => (float[2,3] y) { y = Softmax(x) }", 0, 30),
        ("g (float[2,3] x, int64[1] a) => (float[n,m] y) { y = ReduceMean(x, a) }", 0, 6),
        ("g (float[2,3] x) => (float[3,2] y) { y = Transpose(x) }", 0, 0),
        (
            "g (float[1,2,8,8] x) => (float[1,2,4,4] y)"
            " { y = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) }",
            0,
            2 * 16 * 4,
        ),
        ("g (float[2] a, float[2] b, float[2] c) => (float[2] y) { y = Sum(a, b, c) }", 0, 4),
    ],
)
def test_each_kind_of_operator(body: str, macs: int, other: int) -> None:
    assert _work(body) == Work(macs, other)


def test_a_mac_is_two_flops() -> None:
    assert Work(macs=10, other=3).flops == 23


def test_an_unknown_size_is_no_number() -> None:
    body = "g (float[n,5] a, float[5,7] b) => (float[n,7] y) { y = MatMul(a, b) }"
    assert _work(body) is None


def test_an_operator_of_another_domain_is_not_the_standard_one() -> None:
    model = ir.from_onnx_text(
        '<ir_version: 11, opset_import: ["" : 24, "mine" : 1]>'
        " g (float[2] x) => (float[2] y) { y = mine.Relu(x) }"
    )
    assert work(model.graph.node(0)) is None
