"""What an engine takes and returns, and the checks of what it is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from infopt.backends.tensorrt.profiles import Profile, Range, Sizes, profile_for
from infopt.engine import TensorSpec
from infopt.errors import CompileError, DataError, nearest

_TYPES: Mapping[str, tuple[str, np.dtype[Any]]] = {
    "FLOAT": ("float", np.dtype(np.float32)),
    "HALF": ("float16", np.dtype(np.float16)),
    "BF16": ("bfloat16", np.dtype(ml_dtypes.bfloat16)),
    "INT8": ("int8", np.dtype(np.int8)),
    "INT32": ("int32", np.dtype(np.int32)),
    "INT64": ("int64", np.dtype(np.int64)),
    "BOOL": ("bool", np.dtype(np.bool_)),
    "UINT8": ("uint8", np.dtype(np.uint8)),
    "FP8": ("float8e4m3fn", np.dtype(ml_dtypes.float8_e4m3fn)),
}
"""TensorRT's name of a type → ONNX's and numpy's."""


@dataclasses.dataclass(frozen=True)
class Face:
    """The inputs and outputs of a deserialized engine."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dtypes: Mapping[str, np.dtype[Any]]
    profiles: tuple[Profile, ...]
    """At least one; each with the shapes of all inputs."""
    hosted: frozenset[str]
    """Inputs and outputs that lie in the processor's memory: they hold sizes."""

    @staticmethod
    def of(trt: Any, engine: Any) -> Face:
        """Ask an engine.

        Raises:
            CompileError: It takes or returns a type that numpy does not have.
        """
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        given = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        types = {name: engine.get_tensor_dtype(name).name for name in names}
        for name, kind in types.items():
            if kind not in _TYPES:
                raise CompileError(
                    f"the engine has {name!r} as {kind}, which no array can hold; "
                    "convert it inside the model"
                )
        shapes = {name: tuple(engine.get_tensor_shape(name)) for name in names}
        specs = {
            name: TensorSpec(
                name, _TYPES[types[name]][0], tuple(None if d < 0 else d for d in shapes[name])
            )
            for name in names
        }
        return Face(
            inputs=tuple(specs[name] for name in given),
            outputs=tuple(specs[name] for name in names if name not in given),
            dtypes={name: _TYPES[kind][1] for name, kind in types.items()},
            profiles=tuple(
                {name: _range(engine, name, shapes[name], index) for name in given}
                for index in range(engine.num_optimization_profiles)
            ),
            hosted=frozenset(
                n for n in names if engine.get_tensor_location(n) == trt.TensorLocation.HOST
            ),
        )

    @property
    def fixed(self) -> bool:
        """Whether every input has one shape only."""
        ranges = [shapes for profile in self.profiles for shapes in profile.values()]
        return len(self.profiles) == 1 and all(r.least == r.most for r in ranges)

    def check_names(self, given: Iterable[str]) -> None:
        """Refuse inputs that there are not, or too few.

        Raises:
            DataError: One is missing, or unknown.
        """
        known = [spec.name for spec in self.inputs]
        given = list(given)
        for name in given:
            if name not in known:
                raise DataError(
                    f"there is no input {name!r}{nearest(name, known)}; "
                    f"the inputs are {', '.join(known)}"
                )
        for name in known:
            if name not in given:
                raise DataError(f"input {name!r} is missing; the inputs are {', '.join(known)}")

    def array(self, name: str, value: Any) -> np.ndarray:
        """An input in one piece, as TensorRT reads it.

        Raises:
            DataError: It is of another type.
        """
        array = np.asarray(value)
        if array.dtype != self.dtypes[name]:
            raise self.mistyped(name, array.dtype, f".astype('{self.dtypes[name]}')")
        return np.ascontiguousarray(array).reshape(array.shape)

    def mistyped(self, name: str, dtype: object, remedy: str) -> DataError:
        """What is said of an input of another type."""
        return DataError(
            f"input {name!r} is {dtype}, the engine takes {self.dtypes[name]}; "
            f"convert it with {remedy}"
        )

    def profile_for(self, shapes: Mapping[str, Sizes]) -> int:
        """The profile whose usual shapes are nearest, of those that hold all of ``shapes``.

        Raises:
            DataError: None does.
        """
        return profile_for(self.profiles, shapes)


def _range(engine: Any, name: str, shape: Sequence[int], profile: int) -> Range:
    if all(size >= 0 for size in shape):
        sizes = tuple(shape)
        return Range(sizes, sizes, sizes)
    least, usual, most = map(tuple, engine.get_tensor_profile_shape(name, profile))
    return Range(least, usual, most)
