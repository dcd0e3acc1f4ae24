"""A session of ONNX Runtime."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infopt.backends.base import RunOptions, Session, Timeline
from infopt.backends.onnxruntime import saturation, timeline
from infopt.backends.onnxruntime.binding import Binding, CapturedCalls, torch_type, unbindable
from infopt.backends.onnxruntime.providers import Providers
from infopt.backends.onnxruntime.runtime import onnxruntime
from infopt.engine import TensorSpec
from infopt.errors import CompileError, DataError, InfoptError, UsageError, nearest

_NUMPY = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "bool": "bool",
}


class OrtSession(Session):
    """Runs one ONNX file on one execution provider."""

    def __init__(
        self,
        model_file: Path,
        provider: str,
        options: RunOptions,
        *,
        hold_names: bool = False,
        without: Sequence[str] = (),
    ) -> None:
        """Load the file.

        Args:
            model_file: An ONNX file.
            provider: ONNX Runtime's name for the device.
            options: How to run.
            hold_names: Refuse inputs whose dimensions of one name differ in size. ONNX Runtime
                does not, and for files of others, whose names are often careless, neither do we;
                but our own passes have relied on them.
            without: ONNX Runtime's own optimizers that are not to run.

        Raises:
            CompileError: ONNX Runtime refuses the model.
            UnavailableError: The provider that was asked for is not there.
            UsageError: An option of it has no such value.
        """
        ort = onnxruntime()
        settings = ort.SessionOptions()
        settings.log_severity_level = 4
        if options.threads is not None:
            settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        if not options.optimize:
            settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._profile = options.profile
        if options.profile is not None:
            timeline.ask(settings, options.profile)
        providers = Providers.chosen(provider, options.provider_options)
        try:
            with saturation.exact(model_file, providers.word) as file:
                self.raw = providers.open(file, settings, list(without))
        except InfoptError:
            raise
        except Exception as error:
            raise CompileError(f"ONNX Runtime refuses {model_file}: {_first_line(error)}") from None
        self._binds, self._place = providers.binds, providers.place
        self.inputs = tuple(_spec(node) for node in self.raw.get_inputs())
        self.outputs = tuple(_spec(node) for node in self.raw.get_outputs())
        self._known = {spec.name: spec for spec in self.inputs}
        optional = {node.name for node in self.raw.get_overridable_initializers()}
        self._accepted = set(self._known) | optional
        self._names = [spec.name for spec in self.outputs]
        self._equal = _equal_sizes(self.inputs) if hold_names else ()
        self._time_limit = options.time_limit
        self._binding = Binding(self.raw, self.outputs, self._place)
        self._captured = self._capturing() if providers.captures else None
        # Our own checks have been made by then; ONNX Runtime's wrapper would make them again,
        # for 6 microseconds of each call. On a device the wrapper knows what to fall back to.
        self._call = self.raw._sess.run if not self._binds else self.raw.run
        quick = self._captured is None and self._time_limit is None
        self._plain = _plain(self.inputs) if quick else None

    def __call__(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, Any]:
        """Compute the outputs; see :meth:`Session.__call__`."""
        given = inputs if inputs is not None and not named else {**(inputs or {}), **named}
        if self._plain is not None:
            # The common case in few words: small models run for a tenth of a millisecond, after
            # which nothing of this is in the caches. ONNX Runtime looks at types and ranks itself,
            # but not at the order of bytes, nor at sizes of one name.
            try:
                for name, dtype in self._plain:
                    if given[name].dtype is not dtype:
                        break
                else:
                    for one, i, other, j in self._equal:
                        if given[one].shape[i] != given[other].shape[j]:
                            break
                    else:
                        return dict(zip(self._names, self._call(self._names, given, None)))  # noqa: B905
            except Exception:
                pass  # the long way says what is wrong
        return self._carefully(given)

    def _carefully(self, given: Mapping[str, Any]) -> dict[str, Any]:
        torch = sys.modules.get("torch")
        if torch is not None and any(isinstance(v, torch.Tensor) for v in given.values()):
            return self._run_torch(given, torch)
        if self._captured is not None:
            return self._capture(self._check(given))
        return dict(zip(self._names, self._run(self._names, self._check(given)), strict=True))

    def timeline(self) -> Timeline:
        """What the profiler noted; see :meth:`Session.timeline`."""
        if self._profile is None:
            raise UsageError(
                "the session was not loaded to be profiled; load it with RunOptions(profile=…), "
                "an empty directory"
            )
        return timeline.read(Path(self.raw.end_profiling()), self._profile)

    def _run(self, names: list[str], feeds: Mapping[str, Any]) -> list[Any]:
        if self._time_limit is not None:
            return self._run_within(self._time_limit, names, feeds)
        try:
            return list(self._call(names, feeds, None))
        except Exception as error:
            raise _cannot_run(error) from None

    def _run_within(self, limit: float, names: list[str], feeds: Mapping[str, Any]) -> list[Any]:
        settings = onnxruntime().RunOptions()
        timer = threading.Timer(limit, setattr, (settings, "terminate", True))
        timer.start()
        try:
            return list(self._call(names, feeds, settings))
        except Exception as error:
            if settings.terminate:
                raise UsageError(
                    f"the model has not finished after {limit:g} s; compare on smaller inputs "
                    "(--shape), on your own (--data), or not at all (--no-verify)"
                ) from None
            raise _cannot_run(error) from None
        finally:
            timer.cancel()

    def _run_torch(self, given: Mapping[str, Any], torch: Any) -> dict[str, Any]:
        """Torch tensors in, torch tensors out; without a copy where both sides share a device."""
        tensors = {
            name: value if isinstance(value, torch.Tensor) else torch.as_tensor(value)
            for name, value in given.items()
        }
        if not self._binds:
            feeds = {name: t.detach().cpu().contiguous().numpy() for name, t in tensors.items()}
            outputs = self._run(self._names, self._check(feeds))
            return {n: torch.from_numpy(o) for n, o in zip(self._names, outputs, strict=True)}
        self._check_names(tensors)
        held = {name: self._on_device(name, t, torch) for name, t in tensors.items()}
        self._check_equal(held)
        if self._captured is not None:
            return self._capture(held, torch)
        try:
            return self._binding.run({n: (self._known[n], t) for n, t in held.items()}, torch)
        except Exception as error:
            raise _cannot_run(error) from None

    def _capturing(self) -> CapturedCalls:
        """Captured calls, if there can be any.

        Raises:
            UsageError: An input or output has no place on a device.
        """
        others = unbindable((*self.inputs, *self.outputs))
        if others:
            raise UsageError(
                f"no call of this model can be captured: {others[0]!r} is no tensor of numbers; "
                "leave enable_cuda_graph away"
            )
        return CapturedCalls(self.raw, self.inputs, self.outputs, self._place)

    def _capture(self, feeds: Mapping[str, Any], torch: Any = None) -> dict[str, Any]:
        assert self._captured is not None
        for name in feeds:
            if name not in self._known:
                raise DataError(
                    f"input {name!r} is optional, and captured calls have its default built in; "
                    "leave it away, or load the engine without enable_cuda_graph"
                )
        try:
            return self._captured.run(feeds, torch)
        except Exception as error:
            raise _cannot_run(error) from None

    def _on_device(self, name: str, tensor: Any, torch: Any) -> Any:
        """A tensor as ONNX Runtime reads it: in one piece, on the GPU; its own where it is so."""
        if name not in self._known:
            raise DataError(f"input {name!r} is optional; give it as an array, or leave it away")
        spec = self._known[name]
        wanted = torch_type(spec, torch)
        if wanted is None:
            raise DataError(f"input {name!r} is {spec.dtype}, which torch lacks; give an array")
        if tensor.dtype != wanted:
            raise DataError(
                f"input {name!r} is {tensor.dtype}, but the model takes {spec.dtype}; "
                f"convert it with .to({wanted})"
            )
        _check_rank(spec, tuple(tensor.shape))
        if tensor.is_cuda and tensor.device.index != self._place.index:
            raise DataError(
                f"input {name!r} is on {tensor.device}, the engine runs on {self._place}; "
                f"move it with .to('{self._place}')"
            )
        if tensor.device.type != self._place.kind:
            tensor = tensor.to(str(self._place))
        return tensor.detach().contiguous()

    def facts(self) -> dict[str, Any]:
        if self._captured is None:
            return {}
        return {"cuda_graphs": f"one for each shape, {self._captured.captured} so far"}

    def _check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs as ONNX Runtime takes them, or an error that a person understands."""
        self._check_names(given)
        feeds = {
            name: self._array(value, self._known[name]) if name in self._known else value
            for name, value in given.items()
        }
        self._check_equal(feeds)
        return feeds

    def _check_names(self, given: Iterable[str]) -> None:
        for name in given:
            if name not in self._accepted:
                raise DataError(
                    f"there is no input {name!r}{nearest(name, self._known)}; "
                    f"the inputs are {', '.join(self._known)}"
                )
        missing = [name for name in self._known if name not in given]
        if missing:
            raise DataError(
                f"input {missing[0]!r} is missing; the inputs are {', '.join(self._known)}"
            )

    def _check_equal(self, feeds: Mapping[str, Any]) -> None:
        for one, i, other, j in self._equal:
            if np.shape(feeds[one])[i : i + 1] != np.shape(feeds[other])[j : j + 1]:
                dim = (self._known[one].shape or ())[i]
                raise DataError(
                    f"inputs {one!r} {list(np.shape(feeds[one]))} and {other!r} "
                    f"{list(np.shape(feeds[other]))} must have the same {dim!r}: "
                    f"dimension {i} of the one and {j} of the other"
                )

    def _array(self, value: Any, spec: TensorSpec) -> Any:
        wanted = _NUMPY.get(spec.dtype)
        if wanted is None:  # strings, sequences, and types that numpy does not have
            return value
        array = np.asarray(value)
        if array.dtype != wanted:
            raise DataError(
                f"input {spec.name!r} is {array.dtype}, but the model takes {wanted}; "
                f"convert it with .astype('{wanted}')"
            )
        _check_rank(spec, array.shape)
        return array


def _plain(inputs: tuple[TensorSpec, ...]) -> tuple[tuple[str, np.dtype], ...] | None:
    """The type of each input; ``None`` where numpy does not have it of all."""
    if any(spec.dtype not in _NUMPY for spec in inputs):
        return None
    return tuple((spec.name, np.dtype(_NUMPY[spec.dtype])) for spec in inputs)


def _check_rank(spec: TensorSpec, shape: tuple[int, ...]) -> None:
    # ONNX Runtime shows an unknown rank as rank 0.
    if spec.shape and len(shape) != len(spec.shape):
        raise DataError(
            f"input {spec.name!r} has shape {list(shape)}, but the model takes "
            f"rank {len(spec.shape)}: {list(spec.shape)}"
        )


def _equal_sizes(specs: Iterable[TensorSpec]) -> tuple[tuple[str, int, str, int], ...]:
    """Pairs (input, axis, input, axis) of dimensions that have the same name."""
    first: dict[str, tuple[str, int]] = {}
    pairs = []
    for spec in specs:
        for axis, dim in enumerate(spec.shape or ()):
            if isinstance(dim, str) and first.setdefault(dim, (spec.name, axis)) != (
                spec.name,
                axis,
            ):
                pairs.append((*first[dim], spec.name, axis))
    return tuple(pairs)


def _spec(node: Any) -> TensorSpec:
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    return TensorSpec(node.name, dtype, None if node.shape is None else tuple(node.shape))


def _cannot_run(error: Exception) -> DataError:
    return DataError(f"the model cannot run on these inputs: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0] if lines else repr(error)
