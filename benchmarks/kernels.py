"""Several ways to compute the same, in ONNX Runtime: what its legalization is decided by.

``python -m benchmarks.kernels`` prints the table and writes docs/benchmarks/kernels.md.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

from benchmarks.report import DOCS, Page
from infopt.backends.onnxruntime.choices import CHOICES
from infopt.measure.timing import interleave
from infopt.quant.granularity import PerAxis, PerBlock
from infopt.quant.packing import pack_matmul_nbits
from infopt.quant.rounding.nearest import round_to_nearest
from infopt.quant.spec import QuantSpec

METHOD = """\
Each way is a model of its own, run by ONNX Runtime with its optimizations off, so that what is
timed is what is written. All ways of a case get the same inputs and are timed in one run, call by
call in shuffled order. *Relative* is how many times as fast a way is as the one that infopt uses
(in bold), with the 95 % interval of a bootstrap: below 1 is slower."""


@dataclasses.dataclass(frozen=True)
class Case:
    """Some ways to compute the same, at some sizes."""

    name: str
    inputs: str
    """The signature in ONNX's text form; words in braces are sizes."""
    constants: Mapping[str, tuple[str, ...]]
    """Name of an initializer → its shape."""
    ways: Mapping[str, str]
    sizes: Sequence[Mapping[str, int]]
    thrice: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Name of an initializer → the one that it holds three times, side by side."""
    padded: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Name of an initializer → the one that it holds, with zeros behind."""
    output: str = "float[{B},{S},{N}] y"
    """The signature of the result."""
    blocks: str = ""
    """The name of a matrix that is also there as integers, in blocks of the size ``block``: as
    DequantizeLinear (``_q``, ``_s``, ``_z``) and MatMulNBits (``_b``, ``_bs``, ``_bz``) take it.
    As floats, it is what the integers stand for."""
    columns: str = ""
    """The name of a matrix that is also there as int8 (``_q``) with a scale for each column
    (``_s``). As floats, it is what the integers stand for."""
    rounding: float = 0.0
    """How far, relative to the largest element, a way may be from the others."""


def _heads(name: str, count: str) -> str:
    return f"""
        {name}r = Reshape({name}, split{count})
        {name}h = Transpose <perm = [0, 2, 1, 3]> ({name}r)"""


LATER = """
                start = Constant <value_int = 0> ()
                count = Constant <value_int = {S}> ()
                step = Constant <value_int = 1> ()
                places = Range(start, count, step)
                behind = Constant <value_ints = [1]> ()
                rows = Unsqueeze(places, behind)
                allowed = LessOrEqual(places, rows)"""

ROWS: Sequence[Mapping[str, int]] = (
    {"B": 1, "S": 128, "N": 384},
    {"B": 1, "S": 128, "N": 768},
    {"B": 1, "S": 512, "N": 768},
    {"B": 8, "S": 128, "N": 768},
)
WIDE: Sequence[Mapping[str, int]] = (
    {"B": 1, "S": 128, "N": 3072},
    {"B": 1, "S": 256, "N": 2816},
    {"B": 8, "S": 128, "N": 3072},
)
HEADS: Sequence[Mapping[str, int]] = (
    {"B": 1, "S": 128, "H": 12, "D": 64, "N": 768},
    {"B": 1, "S": 512, "H": 12, "D": 64, "N": 768},
    {"B": 8, "S": 128, "H": 12, "D": 64, "N": 768},
)
LONG: Sequence[Mapping[str, int]] = (
    {"B": 1, "S": 1500, "H": 8, "D": 64, "N": 512},
    {"B": 8, "S": 1500, "H": 8, "D": 64, "N": 512},
    {"B": 1, "S": 4096, "H": 8, "D": 64, "N": 512},
)

PAGES: Sequence[Mapping[str, int]] = tuple(
    {"B": 1, "S": rows, "N": columns, "M": width, "L": width + 16}
    for columns, width in ((768, 3072), (512, 2048), (1024, 4096))
    for rows in (1, 16, 128, 1024)
)
COPIED: Sequence[Mapping[str, int]] = tuple(
    {"B": 1, "S": rows, "N": 1024, "M": columns, "P": 1040}
    for columns in (512, 1024, 4096)
    for rows in (1, 16, 128, 1024)
)
LAYERS: Sequence[Mapping[str, int]] = tuple(
    {"B": 1, "S": rows, "N": 1024, "bits": bits, "block": block}
    for bits in (4, 8)
    for block in (32, 128)
    for rows in (1, 8, 128, 1024)
)


def _in_blocks(level: int) -> str:
    return f"""y = com.microsoft.MatMulNBits <K = {{N}}, N = {{N}}, bits = {{bits}},
        block_size = {{block}}, accuracy_level = {level}> (x, w_b, w_bs, w_bz)"""


_RANGE = "xq, xs, xz = DynamicQuantizeLinear(x)"
RUNNING: Sequence[Mapping[str, int]] = (
    {"B": 1, "S": 1, "N": 768},
    {"B": 1, "S": 16, "N": 384},
    *ROWS,
    {"B": 8, "S": 512, "N": 768},
)


CASES = (
    Case(
        "sum and layer norm",
        "float[{B},{S},{N}] x, float[{B},{S},{N}] r",
        {"g": ("N",), "b": ("N",)},
        {
            "Add, LayerNormalization": "s = Add(x, r) y = LayerNormalization <axis = -1> (s, g, b)",
            "SkipLayerNormalization": (
                "y = com.microsoft.SkipLayerNormalization <epsilon = 0.00001> (x, r, g, b)"
            ),
        },
        ROWS,
    ),
    Case(
        "sum and RMS norm",
        "float[{B},{S},{N}] x, float[{B},{S},{N}] r",
        {"g": ("N",)},
        {
            "Add, RMSNormalization": "s = Add(x, r) y = RMSNormalization <axis = -1> (s, g)",
            "SkipSimplifiedLayerNormalization": (
                "y = com.microsoft.SkipSimplifiedLayerNormalization <epsilon = 0.00001> (x, r, g)"
            ),
        },
        ROWS,
    ),
    Case(
        "swish",
        "float[{B},{S},{N}] x",
        {},
        {
            "Swish": "y = Swish(x)",
            "QuickGelu": "y = com.microsoft.QuickGelu <alpha = 1.0> (x)",
            "Sigmoid, Mul": "s = Sigmoid(x) y = Mul(x, s)",
        },
        WIDE,
    ),
    Case(
        "bias and Gelu",
        "float[{B},{S},{N}] x",
        {"b": ("N",)},
        {
            "Add, Gelu": "s = Add(x, b) y = Gelu(s)",
            "BiasGelu": "y = com.microsoft.BiasGelu(x, b)",
        },
        WIDE,
    ),
    Case(
        "attention",
        "float[{B},{S},{N}] q, float[{B},{S},{N}] k, float[{B},{S},{N}] v",
        {},
        {
            "Attention": "y = Attention <q_num_heads = {H}, kv_num_heads = {H}> (q, k, v)",
            "MultiHeadAttention": (
                "y = com.microsoft.MultiHeadAttention <num_heads = {H}> (q, k, v)"
            ),
            "its parts": f"""
                splitq = Constant <value_ints = [{{B}}, {{S}}, {{H}}, {{D}}]> ()
                whole = Constant <value_ints = [{{B}}, {{S}}, {{N}}]> ()
                scale = Constant <value_float = 0.125> ()
                {_heads("q", "q")}
                {_heads("k", "q")}
                {_heads("v", "q")}
                kt = Transpose <perm = [0, 1, 3, 2]> (kh)
                s = MatMul(qh, kt)
                ss = Mul(s, scale)
                p = Softmax <axis = -1> (ss)
                o = MatMul(p, vh)
                ot = Transpose <perm = [0, 2, 1, 3]> (o)
                y = Reshape(ot, whole)""",
        },
        HEADS,
    ),
    Case(
        "long attention",
        "float[{B},{S},{N}] q, float[{B},{S},{N}] k, float[{B},{S},{N}] v",
        {},
        {
            "MultiHeadAttention": (
                "y = com.microsoft.MultiHeadAttention <num_heads = {H}> (q, k, v)"
            ),
            "Attention": "y = Attention <q_num_heads = {H}, kv_num_heads = {H}> (q, k, v)",
        },
        LONG,
    ),
    Case(
        "causal mask",
        "float[{B},{S},{N}] q, float[{B},{S},{N}] k, float[{B},{S},{N}] v",
        {},
        {
            "is_causal": (
                "y = Attention <q_num_heads = {H}, kv_num_heads = {H}, is_causal = 1> (q, k, v)"
            ),
            "boolean mask": f"""
                {LATER}
                y = Attention <q_num_heads = {{H}}, kv_num_heads = {{H}}> (q, k, v, allowed)""",
            "added mask": f"""
                {LATER}
                zero = Constant <value_float = 0.0> ()
                ban = Constant <value_float = -1.7e38> ()
                mask = Where(allowed, zero, ban)
                y = Attention <q_num_heads = {{H}}, kv_num_heads = {{H}}> (q, k, v, mask)""",
        },
        HEADS,
    ),
    Case(
        "rotary embedding",
        "float[{B},{S},{N}] x, float[{B},{S},32] cos, float[{B},{S},32] sin",
        {},
        {
            "RotaryEmbedding": "y = RotaryEmbedding <num_heads = {H}> (x, cos, sin)",
            "its parts": """
                split = Constant <value_ints = [{B}, {S}, {H}, {D}]> ()
                whole = Constant <value_ints = [{B}, {S}, {N}]> ()
                axis = Constant <value_ints = [2]> ()
                r = Reshape(x, split)
                c2 = Concat <axis = -1> (cos, cos)
                s2 = Concat <axis = -1> (sin, sin)
                cu = Unsqueeze(c2, axis)
                su = Unsqueeze(s2, axis)
                a, b = Split <axis = -1, num_outputs = 2> (r)
                n = Neg(b)
                t = Concat <axis = -1> (n, a)
                u = Mul(r, cu)
                v = Mul(t, su)
                w = Add(u, v)
                y = Reshape(w, whole)""",
        },
        HEADS,
    ),
    Case(
        "linear layer",
        "float[{B},{S},{N}] x",
        {"w": ("N", "N"), "b": ("N",)},
        {
            "MatMul, Add": "p = MatMul(x, w) y = Add(p, b)",
            "Reshape, Gemm, Reshape": """
                rows = Constant <value_ints = [-1, {N}]> ()
                whole = Constant <value_ints = [{B}, {S}, {N}]> ()
                r = Reshape(x, rows) p = Gemm(r, w, b) y = Reshape(p, whole)""",
        },
        ({"B": 1, "S": 1, "N": 768}, *ROWS, {"B": 8, "S": 512, "N": 768}),
    ),
    Case(
        "rows of whole pages",
        "float[{B},{S},{N}] x",
        {
            "up": ("N", "M"),
            "down": ("M", "N"),
            "b": ("M",),
            "up2": ("N", "L"),
            "b2": ("L",),
            "down2": ("L", "N"),
        },
        {
            "rows one line longer": """
                u = MatMul(x, up2) a = Add(u, b2) g = Gelu(a) y = MatMul(g, down2)""",
            "as they are": "u = MatMul(x, up) a = Add(u, b) g = Gelu(a) y = MatMul(g, down)",
        },
        PAGES,
        padded={"up2": "up", "b2": "b", "down2": "down"},
    ),
    Case(
        "rows of whole pages, copied",
        "float[{B},{S},{N}] x",
        {"w": ("N", "M"), "w2": ("P", "M")},
        {
            "rows one line longer": """
                ends = Constant <value_ints = [0, 0, 0, 0, 0, 16]> ()
                p = Pad(x, ends) y = MatMul(p, w2)""",
            "as they are": "y = MatMul(x, w)",
        },
        COPIED,
        padded={"w2": "w"},
        output="float[{B},{S},{M}] y",
    ),
    Case(
        "linear layer in blocks",
        "float[{B},{S},{N}] x",
        {"w": ("N", "N")},
        {
            "MatMulNBits, level 4": _in_blocks(4),
            "MatMulNBits, level 0": _in_blocks(0),
            "MatMulNBits, level 1": _in_blocks(1),
            "DequantizeLinear, MatMul": """
                d = DequantizeLinear <axis = 0, block_size = {block}> (w_q, w_s, w_z)
                y = MatMul(x, d)""",
            "MatMul": "y = MatMul(x, w)",
        },
        LAYERS,
        blocks="w",
        rounding=0.02,  # level 4 rounds x to 8 bits in blocks
    ),
    Case(
        "integers as it runs",
        "float[{B},{S},{N}] x",
        {"w": ("N", "N"), "b": ("N",)},
        {
            "DynamicQuantizeLinear, MatMulIntegerToFloat": f"""
                {_RANGE}
                y = com.microsoft.MatMulIntegerToFloat(xq, w_q, xs, w_s, xz, , b)""",
            "DynamicQuantizeMatMul": ("y = com.microsoft.DynamicQuantizeMatMul(x, w_q, w_s, , b)"),
            "standard operators": f"""
                {_RANGE}
                i = MatMulInteger(xq, w_q, xz) f = Cast <to = 1> (i)
                s = Mul(xs, w_s) p = Mul(f, s) y = Add(p, b)""",
            "MatMul, Add": "p = MatMul(x, w) y = Add(p, b)",
        },
        RUNNING,
        columns="w",
        rounding=0.03,  # x is rounded to 8 bits
    ),
    Case(
        "three projections as it runs",
        "float[{B},{S},{N}] x",
        {"w": ("N", "N")},
        {
            "one DynamicQuantizeLinear": f"""
                {_RANGE}
                q = com.microsoft.MatMulIntegerToFloat(xq, w_q, xs, w_s, xz)
                k = com.microsoft.MatMulIntegerToFloat(xq, w_q, xs, w_s, xz)
                v = com.microsoft.MatMulIntegerToFloat(xq, w_q, xs, w_s, xz)
                y = Sum(q, k, v)""",
            "three DynamicQuantizeMatMul": """
                q = com.microsoft.DynamicQuantizeMatMul(x, w_q, w_s)
                k = com.microsoft.DynamicQuantizeMatMul(x, w_q, w_s)
                v = com.microsoft.DynamicQuantizeMatMul(x, w_q, w_s)
                y = Sum(q, k, v)""",
        },
        RUNNING,
        columns="w",
    ),
    Case(
        "three projections",
        "float[{B},{S},{N}] x",
        {"w": ("N", "N")},
        {
            "three products": """
                q = MatMul(x, w) k = MatMul(x, w) v = MatMul(x, w)
                y = Attention <q_num_heads = {H}, kv_num_heads = {H}> (q, k, v)""",
            "one product, Split": """
                p = MatMul(x, w3) q, k, v = Split <axis = -1, num_outputs = 3> (p)
                y = Attention <q_num_heads = {H}, kv_num_heads = {H}> (q, k, v)""",
        },
        HEADS,
        {"w3": "w"},
    ),
    Case(
        "bias of keys",
        "float[{B},{S},{N}] q, float[{B},{S},{N}] k, float[{B},{S},{N}] v",
        {"b": ("N",)},
        {
            "no bias": "y = Attention <q_num_heads = {H}, kv_num_heads = {H}> (q, k, v)",
            "Add": """
                kb = Add(k, b)
                y = Attention <q_num_heads = {H}, kv_num_heads = {H}> (q, kb, v)""",
        },
        HEADS,
    ),
    Case(
        "group normalization",
        "float[{B},{S},{N}] x",
        {"g": ("S",), "b": ("S",)},
        {
            "InstanceNormalization": """
                parts = Constant <value_ints = [0, 32, -1]> ()
                whole = Constant <value_ints = [{B}, {S}, {N}]> ()
                groups = Constant <value_ints = [32]> ()
                axis = Constant <value_ints = [1]> ()
                one = Constant <value_float = 1.0> ()
                zero = Constant <value_float = 0.0> ()
                ones = Expand(one, groups)
                zeros = Expand(zero, groups)
                gu = Unsqueeze(g, axis)
                bu = Unsqueeze(b, axis)
                r = Reshape(x, parts)
                i = InstanceNormalization(r, ones, zeros)
                n = Reshape(i, whole)
                m = Mul(n, gu)
                y = Add(m, bu)""",
            "GroupNormalization": "y = GroupNormalization <num_groups = 32> (x, g, b)",
        },
        (
            {"B": 1, "S": 320, "N": 4096},
            {"B": 1, "S": 128, "N": 16384},
            {"B": 2, "S": 320, "N": 1024},
        ),
    ),
)


def model(case: Case, way: str, sizes: Mapping[str, int]) -> onnx.ModelProto:
    """One way at one size."""
    text = f"""<ir_version: 11, opset_import: ["": 24, "com.microsoft": 1]>
        way ({case.inputs}) => ({case.output}) {{{{ {case.ways[way]} }}}}"""
    for word, size in sizes.items():
        text = text.replace("{" + word + "}", str(size))
    proto = onnx.parser.parse_model(text.replace("{{", "{").replace("}}", "}"))
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    for name, shape in case.constants.items():
        array = rng.normal(0, 0.05, [sizes[word] for word in shape]).astype(np.float32)
        if name in case.padded:
            source = arrays[case.padded[name]]
            array = np.zeros_like(array)
            array[tuple(map(slice, source.shape))] = source
        arrays[name] = array
        integers: dict[str, np.ndarray] = {}
        if name == case.blocks:
            array, integers = _quantized(array, sizes["bits"], sizes["block"])
        if name == case.columns:
            array, integers = _by_column(array)
        for suffix, constant in integers.items():
            tensor = ir.to_proto(ir.Tensor(constant, name=f"{name}_{suffix}"))
            proto.graph.initializer.append(tensor)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        for other in (other for other, source in case.thrice.items() if source == name):
            whole = np.concatenate([array] * 3, axis=-1)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(whole, other))
    return proto


def _quantized(
    matrix: np.ndarray, bits: int, block: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A matrix (in, out) as integers in blocks along its inputs, and what they stand for."""
    spec = QuantSpec(ir.DataType[f"UINT{bits}"], PerBlock(1, block), symmetric=False)
    found = round_to_nearest(matrix.T, spec)
    scale, zero_point = found.parameters.scale, found.parameters.zero_point
    packed = pack_matmul_nbits(found.quantized, scale, zero_point, bits=bits, block=block)
    integers = {"q": found.quantized.T, "s": scale.T, "z": zero_point.T}
    integers |= {"b": packed.b, "bs": packed.scales, "bz": packed.zero_points}
    return np.ascontiguousarray(found.dequantized().T), {
        name: np.ascontiguousarray(array) for name, array in integers.items()
    }


def _by_column(matrix: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A matrix (in, out) as int8 with a scale for each column, and what they stand for."""
    spec = QuantSpec(ir.DataType.INT8, PerAxis(0), narrow=True)
    found = round_to_nearest(matrix.T, spec)
    integers = {"q": np.ascontiguousarray(found.quantized.T), "s": found.parameters.scale}
    return np.ascontiguousarray(found.dequantized().T), integers


def measure(case: Case, sizes: Mapping[str, int], threads: int, seconds: float) -> dict[str, Any]:
    """Time every way of ``case``; how fast each is relative to the one that is used."""
    used = kept(case)
    order = [used, *(way for way in case.ways if way != used)]
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as room:
        subjects = {}
        for number, way in enumerate(order):
            file = Path(room) / f"{number}.onnx"
            onnx.save(model(case, way, sizes), file)
            subjects[way] = _session(file, threads)
        feeds = {
            value.name: rng.normal(0, 1, value.shape).astype(np.float32)
            for value in subjects[used].get_inputs()
        }
        calls = {
            way: functools.partial(session.run, None, feeds) for way, session in subjects.items()
        }
        found = interleave(calls, seconds=seconds)
    return {
        way: {
            "median_seconds": found.summary(way).median,
            "relative": found.ratio(way).as_dict(),
        }
        for way in order
    }


def kept(case: Case) -> str:
    """The way that infopt uses: what the table says, else the first."""
    for choice in CHOICES:
        if choice.benchmark == case.name:
            return choice.kept
    return next(iter(case.ways))


def _session(file: Path, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def page(results: Mapping[str, Any]) -> Page:
    """The results as tables."""
    tables = []
    for name, rows in results["cases"].items():
        lines = []
        for row in rows:
            size = " × ".join(str(value) for value in row["sizes"].values())
            for number, (way, figures) in enumerate(row["ways"].items()):
                ratio = figures["relative"]
                lines.append(
                    [
                        f"**{way}**" if number == 0 else way,
                        size,
                        f"{figures['median_seconds'] * 1e6:.0f} µs",
                        "1" if number == 0 else f"{ratio['value']:.2f}",
                        "" if number == 0 else f"{ratio['low']:.2f}-{ratio['high']:.2f}",
                    ]
                )
        names = " × ".join(rows[0]["sizes"])
        tables.append((name.capitalize(), ["Way", names, "Median", "Relative", "Interval"], lines))
    return Page(
        name="kernels",
        title=f"Ways to compute the same in ONNX Runtime, {results['threads']} threads of a CPU",
        command="python -m benchmarks.kernels",
        method=METHOD,
        tables=tables,
        results=results,
    )


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=DOCS, show_default=True)
@click.option("--seconds", default=3.0, show_default=True, help="For each case and size.")
@click.option("--threads", default=None, type=int, help="By default every core.")
@click.option("--only", default="", help="Cases whose name contains this; nothing is written.")
def main(output: Path, seconds: float, threads: int | None, only: str) -> None:
    """Time the kernels that legalization chooses from."""
    threads = threads or len(os.sched_getaffinity(0))
    results: dict[str, list[dict[str, Any]]] = {}
    for case in CASES:
        if only in case.name:
            results[case.name] = [
                {"sizes": dict(sizes), "ways": measure(case, sizes, threads, seconds)}
                for sizes in case.sizes
            ]
    report = page({"threads": threads, "cases": results})
    report.print()
    if not only:
        report.write(output)


if __name__ == "__main__":
    main()
