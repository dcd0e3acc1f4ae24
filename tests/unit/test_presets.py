from infopt.passes import PASSES
from infopt.passes.fusion._fusion import Fusion
from infopt.pipeline import Pipeline
from infopt.presets import cleanup, raising


def test_every_raising_pass_has_its_place() -> None:
    placed = [p.name for p in Pipeline(raising()).passes() if isinstance(p, Fusion)]
    assert sorted(placed) == sorted(n for n, cls in PASSES.items() if issubclass(cls, Fusion))


def test_the_lists_have_a_text_form_that_parses_back() -> None:
    pipeline = Pipeline((*cleanup(), *raising()))
    assert Pipeline.parse(str(pipeline)) == pipeline
