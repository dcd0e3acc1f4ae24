import onnx_ir as ir
import pytest

from infopt.errors import UsageError
from infopt.evidence import shapes


def _inputs(*specs: tuple[str, list[int | str | None]]) -> list[ir.Value]:
    return [ir.val(name, ir.DataType.FLOAT, shape) for name, shape in specs]


def test_texts() -> None:
    assert shapes.parse_shapes(["x=1x128", "m=1..8x1..512", "s=", "n:0=3"]) == {
        "x": ((1, 1), (128, 128)),
        "m": ((1, 8), (1, 512)),
        "s": (),
        "n:0": ((3, 3),),
    }


def test_usual_sizes_stand_behind_an_at() -> None:
    texts = ["x=1..8x1..512@4x128", "m=1..8", "n=3@3", "batch=1..32@8"]
    assert shapes.parse_shapes(texts)["x"] == ((1, 8), (1, 512))
    assert shapes.parse_usual(texts) == {"x": (4, 128), "n": (3,), "batch": (8,)}
    assert shapes.parse_usual([*texts, "x=1x128"]) == {"n": (3,), "batch": (8,)}


@pytest.mark.parametrize("text", ["x=1..8@9", "x=1..8x4@1x3"])
def test_a_usual_size_lies_within_its_range(text: str) -> None:
    with pytest.raises(UsageError, match=r"the usual size . is not within"):
        shapes.parse_shape(text)


@pytest.mark.parametrize(
    "text",
    ["1x128", "x=1xtwo", "x=8..1", "x=1x", "=3", "x=-1", "x=1@", "x=1x2@1", "x=1..8@1..2", "x=@"],
)
def test_malformed_texts_say_the_form(text: str) -> None:
    with pytest.raises(UsageError, match="write name=1x128"):
        shapes.parse_shape(text)


def test_shared_names_bind_once_and_unnamed_dimensions_each() -> None:
    inputs = _inputs(("x", ["n", None]), ("m", ["n", 3]))
    bound = shapes.bind(inputs, {"x": ((1, 4), (7, 7))})
    assert bound == {"n": (1, 4), ("x", 1): (7, 7)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"y": ((1, 1),)}, "no such input; did you mean 'x'|no such input"),
        ({"x": ((1, 1),)}, "rank 1 is given for input 'x', which has rank 2"),
        ({"m": ((1, 1), (4, 4))}, "a dimension fixed at 3 cannot be 4"),
        ({"x": ((1, 1), (2, 2)), "m": ((2, 2), (3, 3))}, "cannot be both 1 and 2"),
    ],
)
def test_contradictions_are_named(given: dict[str, shapes.Range], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shapes.bind(_inputs(("x", ["n", None]), ("m", ["n", 3])), given)  # type: ignore[arg-type]


def test_combinations_take_two_sizes_of_every_dimension() -> None:
    sizes = shapes.Sizes({"a": 1, "b": 7}, {"a": 3, "b": 16})
    tried = list(sizes.combinations())
    assert tried[:2] == [{"a": 1, "b": 7}, {"a": 3, "b": 16}]
    assert {"a": 3, "b": 7} in tried
    assert {"a": 1, "b": 16} in tried


def test_static_models_have_one_combination() -> None:
    sizes = next(shapes.proposals(_inputs(("x", [2, 3])), {}))
    assert list(sizes.combinations()) == [{}]


def test_proposals_know_batches_images_and_lengths() -> None:
    inputs = _inputs(("x", ["n", 3, None, None]), ("ids", ["n", "sequence"]))
    first = next(shapes.proposals(inputs, {}))
    assert first.low["n"] == 1
    assert first.low["x", 2] % 32 == 0
    assert first.low["sequence"] != first.high["sequence"]


def test_bound_dimensions_keep_their_range() -> None:
    proposals = list(shapes.proposals(_inputs(("x", ["n"])), {"n": (2, 5)}))
    assert proposals == [shapes.Sizes({"n": 2}, {"n": 5})]


def test_an_unknown_rank_asks_for_data() -> None:
    with pytest.raises(UsageError, match="rank of input 'x' is unknown"):
        shapes.dims_of(ir.Value(name="x"))


def test_a_dimension_goes_by_its_name_or_place() -> None:
    inputs = _inputs(("x", ["n", "m", None]), ("y", ["n"]))
    bound = shapes.bind(inputs, {"n": ((1, 4),), "x[2]": ((7, 7),)})
    assert bound == {"n": (1, 4), ("x", 2): (7, 7)}


def test_batch_stands_for_the_dynamic_first_axes() -> None:
    inputs = _inputs(("x", [None, 3]), ("y", ["n"]), ("z", [5]), ("scalar", []))
    assert shapes.bind(inputs, {"batch": ((8, 8),)}) == {("x", 0): (8, 8), "n": (8, 8)}
    called_so = _inputs(("x", [None, "batch"]))
    assert shapes.bind(called_so, {"batch": ((8, 8),)}) == {"batch": (8, 8)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nn": ((1, 1),)}, "no such input or dynamic dimension.*it has: x, n"),
        ({"n": ((1, 1), (2, 2))}, "no such input or dynamic dimension"),
        ({"n": ((1, 1),), "x": ((2, 2), (3, 3))}, "cannot be both"),
        ({"x": ((2, 2), (3, 3)), "n": ((1, 1),)}, "cannot be both"),
    ],
)
def test_dimensions_that_do_not_fit(
    given: dict[str, tuple[tuple[int, int], ...]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        shapes.bind(_inputs(("x", ["n", 3])), given)
