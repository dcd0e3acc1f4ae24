"""Files of ``torch.export.save``, read without running what is in them.

``torch.export.load`` unpickles, evaluates expressions as Python, imports modules by name,
resolves operators by attribute and loads native libraries, all of it as the file says. So the
file is read twice: first it is checked to hold nothing but weights as raw bytes, symbolic sizes
made of plain arithmetic, plain containers, and ATen operators; then torch loads it.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from infopt.errors import ImportFailed, SourceError
from infopt.importers import torch_quantized
from infopt.importers.torch_export import quiet, short

if TYPE_CHECKING:
    import torch

# An archive holds one model, called "model", as torch.export.save writes it.
_MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|version|\.data/[\w.]+|\.format_version"
    r"|\.storage_alignment|models/model\.json|data/sample_inputs/model\.pt|extra/.*"
    r"|data/weights/(weight_\d+|model_weights_config\.json)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json)"
)
_CONFIGS = (
    "data/weights/model_weights_config.json",
    "data/constants/model_constants_config.json",
)
_OPERATORS = re.compile(
    r"torch\.ops\.(?!aten\.(save|from_file|load)\b)(aten|prims|quantized_decomposed)\.\w+\.\w+"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|associative_scan"
    r"|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|abs|eq|ne|lt|le|gt|ge|and_|or_"
    r"|not_|getitem)"
    r"|math\.(ceil|floor|trunc|sqrt)"
    r"|torch\.sym_(int|float|max|min|not|ite|sum)|torch\._sym_sqrt"
)
# What sizes may be made of, in sympy's own notation. Shifts are left out: they can fill memory.
_FUNCTIONS = re.compile(
    r"Add|Mul|Pow|Integer|Rational|Float|Max|Min|Abs|floor|ceiling|And|Or|Not"
    r"|Equality|Unequality|GreaterThan|LessThan|StrictGreaterThan|StrictLessThan"
    r"|Eq|Ne|Ge|Le|Gt|Lt|FloorDiv|ModularIndexing|Where|PythonMod|Mod|CleanDiv|CeilDiv"
    r"|CeilToInt|FloorToInt|TruncToInt|TruncToFloat|RoundToInt|RoundDecimal|ToFloat|Identity"
    r"|FloatTrueDiv|IntTrueDiv|PowByNatural|FloatPow|IsNonOverlappingAndDenseIndicator"
)
_POWERS = ("Pow", "PowByNatural", "FloatPow")
_NAMES = re.compile(r"[a-z]+\d+|oo|int_oo|true|false")
_TEXTS = re.compile(r"[a-z]+\d+|-?\d+(\.\d+)?(e-?\d\d?)?")  # a symbol's name, a number's digits
_OPERATORS_OF_SIZES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.operator, ast.unaryop,
    ast.cmpop, ast.boolop, ast.expr_context, ast.keyword,
)  # fmt: skip
_MAX_EXPRESSION = 2000
_MAX_NUMBER = 1 << 63


def load_program(path: Path) -> torch.export.ExportedProgram:
    """Load an exported program, having checked that loading it runs nothing.

    Raises:
        SourceError: The file is damaged, or holds something that could run code.
        ImportFailed: torch cannot load it.
    """
    import torch

    torch_quantized.register()
    with path.open("rb") as file, quiet():
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        try:
            # torch's own reader: another one could see other members in a crafted archive.
            reader = torch._C.PyTorchFileReader(cast(Any, file))
            _check(reader, size)
        except _UnsafeError as error:
            raise SourceError(
                f"{path} holds {error}, which infopt does not load from a file; if you trust it, "
                "load it in Python with torch.export.load and give infopt the ExportedProgram"
            ) from None
        except Exception as error:
            raise SourceError(
                f"{path} is a damaged file of torch.export.save ({short(error)}); save it again"
            ) from None
        file.seek(0)
        try:
            return torch.export.load(cast(Any, file))
        except Exception as error:
            raise ImportFailed(
                f"torch {torch.__version__} cannot load {path}: {short(error)}; "
                "save it again with this version"
            ) from error


class _UnsafeError(Exception):
    """Names what could run code, or could fill the memory."""


def _check(reader: Any, size: int) -> None:
    import torch

    names = reader.get_all_records()
    for name in names:
        if not _MEMBERS.fullmatch(name):
            raise _UnsafeError(f"a member {name!r}")
    if len(set(names)) != len(names):
        raise _UnsafeError("two members of one name")
    if sum(reader.get_record_size(name) for name in names) > size:
        raise _UnsafeError("members that unpack to more than the file")
    for name in _CONFIGS:
        _check_payloads(json.loads(reader.get_record(name)), size)
    for key, value in _items(json.loads(reader.get_record("models/model.json"))):
        _check_item(key, value)
    sample = reader.get_record("data/sample_inputs/model.pt")
    try:  # torch.export.load falls back to a full unpickling where this fails
        if sample:
            torch.load(io.BytesIO(sample), weights_only=True)
    except Exception:
        raise _UnsafeError("example inputs that are more than tensors") from None


def _check_payloads(config: Any, size: int) -> None:
    for name, payload in config["config"].items():
        if payload["use_pickle"] or not payload.get("tensor_meta"):
            raise _UnsafeError(f"a pickle as {name!r}")
        count = 1
        for dim in payload["tensor_meta"]["sizes"]:
            count *= dim["as_int"]
        if count > 2 * size:
            raise _UnsafeError(f"a tensor {name!r} larger than the file")


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at every level; what stands in a list goes by the list's key."""
    stack = [("", value)]
    while stack:
        key, value = stack.pop()
        yield key, value
        if isinstance(value, dict):
            stack.extend(value.items())
        elif isinstance(value, list):
            stack.extend((key, item) for item in value)


def _check_item(key: str, value: Any) -> None:
    checks = {
        "target": _check_operator,
        "as_operator": _check_operator,
        "expr_str": _check_expression,
        "in_spec": _check_containers,
        "out_spec": _check_containers,
        "guards_code": _check_guard,
    }
    if key == "custom_obj_values" and value:
        raise _UnsafeError("a custom object")
    check = checks.get(key)
    if check is None or value is None or (key == "guards_code" and isinstance(value, list)):
        return  # the guards in the list come one by one
    if not isinstance(value, str):
        raise _UnsafeError(f"no text as {key}")
    check(value)


def _check_operator(name: str) -> None:
    if not _OPERATORS.fullmatch(name):
        raise _UnsafeError(f"the operator {name!r}")


def _check_expression(text: str) -> None:
    """Sizes are evaluated by sympy, which evaluates Python: allow arithmetic only."""
    nodes: list[ast.AST] = []
    if len(text) <= _MAX_EXPRESSION:
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            nodes = list(ast.walk(ast.parse(text, mode="eval")))
    functions = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    if not nodes or not all(_is_arithmetic(node, functions) for node in nodes):
        raise _UnsafeError(f"the size {text[:80]!r}")


def _is_arithmetic(node: ast.AST, functions: set[int]) -> bool:
    match node:
        case ast.Name() if id(node) in functions:
            return node.id == "Symbol" or _FUNCTIONS.fullmatch(node.id) is not None
        case ast.Name():
            return _NAMES.fullmatch(node.id) is not None
        case ast.Constant(value=str(text)):
            return _TEXTS.fullmatch(text) is not None
        case ast.Constant(value=bool() | int() | float() as number):
            return abs(number) <= _MAX_NUMBER
        case ast.Call(func=ast.Name(id=name), args=args):
            return name not in _POWERS or (len(args) == 2 and _is_small_power(*args))
        case ast.BinOp(op=ast.Pow() | ast.LShift() | ast.RShift()):
            return False  # sympy's notation writes Pow(…)
    return isinstance(node, _OPERATORS_OF_SIZES)


def _is_small_power(base: ast.expr, power: ast.expr) -> bool:
    """Powers of powers of numbers could grow without end."""
    nested = any(isinstance(node, ast.Name) and node.id in _POWERS for node in ast.walk(base))
    return not nested and re.fullmatch(r"(Integer\()?-?[0-4]\)?", ast.unparse(power)) is not None


def _check_containers(text: str) -> None:
    """Some containers name a module to import: allow those whose context is plain names."""
    for key, context in _items(json.loads(text)):
        if key != "context":
            continue
        if isinstance(context, str):
            with contextlib.suppress(ValueError):
                context = json.loads(context)
        parts = context if isinstance(context, list) else [context]
        if not all(isinstance(part, str | int | None) for part in parts):
            raise _UnsafeError("a container that names a Python module")


_GUARD = re.compile(
    r"(?!.*\*\*)(L(\['\w+'\])+|\[\d\]|\.size\(\)|\.stride\(\)|\.storage_offset\(\)"
    r"|\bnot\b|\band\b|\bor\b|\b[Mm]ax\b|\b[Mm]in\b|\bMod\b|\bFloorDiv\b|\d|[-+*/%<>=!(), ])*"
)


def _check_guard(text: str) -> None:
    """Guards are compiled as Python: allow comparisons of sizes."""
    if not _GUARD.fullmatch(text):
        raise _UnsafeError(f"the guard {text[:80]!r}")
