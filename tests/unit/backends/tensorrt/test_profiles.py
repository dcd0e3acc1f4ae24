import onnx_ir as ir

from infopt.backends.tensorrt.profiles import Range, profile
from infopt.evidence.extents import Extent


def test_a_range_for_each_dynamic_input() -> None:
    inputs = [
        ir.val("x", ir.DataType.FLOAT, ["n", 3, None]),
        ir.val("m", ir.DataType.FLOAT, ["n"]),
        ir.val("fixed", ir.DataType.FLOAT, [4]),
    ]
    found = profile(inputs, {"n": Extent(1, 8, 4), ("x", 2): Extent(32, 64, 48)})
    assert found == {
        "x": Range(least=(1, 3, 32), usual=(4, 3, 48), most=(8, 3, 64)),
        "m": Range(least=(1,), usual=(4,), most=(8,)),
    }
