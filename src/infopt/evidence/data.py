"""The user's own inputs: an ``.npz`` file, a folder of them, or a Python function."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir

from infopt.errors import DataError, nearest
from infopt.evidence.equivalence import Sample
from infopt.evidence.synthetic import required_inputs

DataSource = str | os.PathLike[str] | Iterable[Mapping[str, object]]


def load_data(source: DataSource, model: ir.Model) -> Iterator[Sample]:
    """Samples for ``model``, read one at a time.

    Args:
        source: The path of an ``.npz`` file (one array for each input), of a folder of such
            files (read in the order of their names), ``module:function`` where the function
            yields dictionaries, or an iterable of dictionaries: input name → array.
        model: The model whose inputs the data must fit.

    Raises:
        DataError: The data cannot be read, or its names, types or shapes do not fit.
    """
    count = 0
    for origin, inputs in _read(source):
        yield Sample(_fit(inputs, model, origin), origin)
        count += 1
    if not count:
        raise DataError(f"{_describe(source)} holds no samples")


def count(source: DataSource) -> int | None:
    """How many samples there are, if that is known before they are read."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            return sum(1 for _ in path.glob("*.npz"))
        return 1 if path.is_file() else None
    return len(source) if isinstance(source, Sequence) else None


def _describe(source: DataSource) -> str:
    return str(source) if isinstance(source, (str, os.PathLike)) else "the data"


def _read(source: DataSource) -> Iterator[tuple[str, Mapping[str, object]]]:
    if not isinstance(source, (str, os.PathLike)):
        for i, inputs in enumerate(source):
            yield f"sample {i}", inputs
        return
    path = Path(source)
    if path.is_dir():
        files = sorted(path.glob("*.npz"))
        if not files:
            raise DataError(f"the folder {path} holds no .npz files")
        for file in files:
            yield file.name, _npz(file)
    elif path.is_file():
        yield path.name, _npz(path)
    elif ":" in str(source):
        yield from _from_function(str(source))
    else:
        raise DataError(
            f"there is no data at {path}; give an .npz file, a folder of them, "
            "or module:function that yields dictionaries"
        )


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        # Pickled objects inside could run code when they are loaded.
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise DataError(f"{path} is a single array; save it with numpy.savez(name=array)")
        with archive:
            return {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except Exception as error:  # zip, header and pickle errors of all kinds
        raise DataError(f"{path} is not a readable .npz file: {error}") from None


def _from_function(spec: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    for i, inputs in enumerate(function_of(spec, "data")()):
        yield f"{spec}[{i}]", inputs


def function_of(spec: str, what: str) -> Callable[..., Any]:
    """The function that ``module:function`` names.

    Args:
        spec: The name.
        what: What it is for, in a word.

    Raises:
        DataError: There is no such module or function.
    """
    module_name, _, function_name = spec.partition(":")
    # As `python -m` does: a module beside the user is found.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise DataError(
            f"{what} {spec!r}: module {module_name!r} cannot be imported: {error}"
        ) from None
    function = getattr(module, function_name, None)
    if not callable(function):
        raise DataError(
            f"{what} {spec!r}: {module_name} has no function {function_name!r}"
            f"{nearest(function_name, vars(module))}"
        )
    return cast("Callable[..., Any]", function)


def _fit(inputs: Mapping[str, object], model: ir.Model, origin: str) -> dict[str, np.ndarray]:
    if not isinstance(inputs, Mapping):
        raise DataError(f"{origin} is a {type(inputs).__name__}; samples are dictionaries")
    known = {value.name or "": value for value in model.graph.inputs}
    for name in inputs:
        if name not in known:
            raise DataError(
                f"{origin} has {name!r}, which is no input of the model{nearest(name, known)}; "
                f"its inputs: {', '.join(known)}"
            )
    for value in required_inputs(model):
        if value.name not in inputs:
            raise DataError(f"{origin} lacks input {value.name!r}")
    return {name: fit_array(inputs[name], known[name], origin) for name in inputs}


def fit_array(data: object, value: ir.Value, origin: str) -> np.ndarray:
    """``data`` as an array for input ``value``; its shape must fit, and its type exactly.

    Raises:
        DataError: It does not.
    """
    array = np.asarray(data)
    if value.dtype is not None:
        wanted = np.dtype(object) if value.dtype is ir.DataType.STRING else value.dtype.numpy()
        if array.dtype != wanted and not (wanted.kind == "O" and array.dtype.kind in "US"):
            raise DataError(
                f"{origin}: {value.name!r} is {array.dtype}, but the model takes {wanted}; "
                f"convert it with .astype('{wanted}')"
            )
    shape = value.shape
    if shape is not None and (
        len(shape) != array.ndim
        or any(isinstance(d, int) and d != n for d, n in zip(shape, array.shape, strict=True))
    ):
        raise DataError(
            f"{origin}: {value.name!r} has shape {list(array.shape)}, but the model takes {shape}"
        )
    return array
