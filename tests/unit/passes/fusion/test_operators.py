import onnx.defs
import pytest

from infopt.passes import PASSES
from infopt.passes.fusion._fusion import Fusion

RAISING = {name: cls for name, cls in PASSES.items() if issubclass(cls, Fusion) and cls.raises}


@pytest.mark.parametrize("name", RAISING)
def test_a_raising_pass_is_named_after_a_standard_operator(name: str) -> None:
    assert onnx.defs.get_schema(RAISING[name].operator(), onnx.defs.onnx_opset_version(), "")
