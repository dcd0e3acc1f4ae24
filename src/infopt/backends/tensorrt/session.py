"""A session of TensorRT: a plan on the GPU, arrays or tensors in and out.

Written against TensorRT's documentation. It has not run yet: where it was written was no GPU.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infopt.backends.base import Session
from infopt.backends.tensorrt.contexts import Contexts
from infopt.backends.tensorrt.cuda import Driver
from infopt.backends.tensorrt.face import Face
from infopt.backends.tensorrt.graphs import Captures
from infopt.backends.tensorrt.lane import Lane
from infopt.backends.tensorrt.memory import (
    Arrays,
    Feed,
    Tensors,
    feed_of_array,
    feed_of_tensor,
    to_array,
    to_tensor,
    torch_type,
)
from infopt.backends.tensorrt.pool import Pool
from infopt.backends.tensorrt.settings import AUTOMATIC, Settings
from infopt.errors import CompileError, DataError, UsageError

_DEFAULT_STREAMS = (0, 1, 2)  # that of all, the same by name (CU_STREAM_LEGACY), that of a thread


class TensorRtSession(Session):
    """Runs one plan on the first GPU, for any number of threads.

    Arrays are copied to the GPU and back, and a call returns when they are there. Torch tensors on
    the GPU are read where they lie and outputs are new ones; a call is put on torch's current
    stream (``torch.cuda.stream`` chooses another) and returns at once, as torch's own do.
    """

    def __init__(
        self,
        trt: Any,
        driver: Driver,
        plan: bytes,
        weights: Path | None = None,
        settings: Settings | None = None,
    ) -> None:
        """Deserialize a plan that is trusted.

        Args:
            trt: The TensorRT module.
            driver: Of the GPU.
            plan: Native code; its digest has been compared.
            weights: The ONNX file that holds the weights, where the plan has none.
            settings: How to run.

        Raises:
            CompileError: TensorRT refuses the plan.
            UsageError: The engine cannot run so.
        """
        settings = settings or Settings()
        driver.use()
        self._trt, self._driver = trt, driver
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise CompileError("TensorRT refuses the plan on this machine; build the engine again")
        if weights is not None:
            self._put_in(trt, weights)
        self._stream_weights(settings)  # before the first context: it decides what they take
        self.face = Face.of(trt, self._engine)
        self.inputs, self.outputs = self.face.inputs, self.face.outputs
        self._captures = Captures(settings, self.face)
        contexts = Contexts(trt, self._engine, settings)
        face, captures, lanes = self.face, self._captures, list[Lane]()

        def make() -> Lane:
            lanes.append(Lane(driver, contexts, face, captures))
            return lanes[-1]

        self._lanes = Pool(make, settings.contexts)
        weakref.finalize(self, _close, lanes)
        with self._lanes.lend():
            pass  # too little memory shows now

    def __call__(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, Any]:
        """Compute the outputs; see :meth:`Session.__call__`."""
        given = {**(inputs or {}), **named}
        self.face.check_names(given)
        torch = sys.modules.get("torch")
        tensors = [] if torch is None else [v for v in given.values() if _is_tensor(v, torch)]
        if torch is None or not tensors:
            return self._on_host(given)
        if any(tensor.is_cuda for tensor in tensors):
            return self._on_gpu(given, torch)
        arrays = {n: to_array(v, torch) if _is_tensor(v, torch) else v for n, v in given.items()}
        return {name: to_tensor(array, torch) for name, array in self._on_host(arrays).items()}

    def facts(self) -> dict[str, Any]:
        return {"cuda_graphs": self._captures.said}

    def inspect(self) -> str:
        """What TensorRT says of the engine's layers, as JSON, for its usual shapes.

        Formats and types of dynamic shapes are known only to a context that has been told them.
        """
        self._driver.use()
        with self._lanes.lend() as lane:
            context = lane.context_for(
                {name: found.usual for name, found in self.face.profiles[0].items()}
            )
            inspector = self._engine.create_engine_inspector()
            inspector.execution_context = context
            return str(inspector.get_engine_information(self._trt.LayerInformationFormat.JSON))

    def _on_host(self, given: Mapping[str, Any]) -> dict[str, Any]:
        face = self.face
        feeds = {s.name: feed_of_array(face.array(s.name, given[s.name])) for s in face.inputs}
        self._driver.use()
        with self._lanes.lend() as lane:
            results = Arrays(self._driver, lane.buffers, face.dtypes)
            outputs = lane.run(feeds, results, lane.stream)
            self._driver.synchronize(lane.stream)
        return outputs

    def _on_gpu(self, given: Mapping[str, Any], torch: Any) -> dict[str, Any]:
        feeds = {s.name: self._tensor_feed(s.name, given[s.name], torch) for s in self.inputs}
        device = torch.device("cuda", 0)
        stream = torch.cuda.current_stream(device).cuda_stream
        results = Tensors(self._driver, torch, device, self.face.dtypes)
        self._driver.use()
        with self._lanes.lend(stream) as lane:
            if stream not in _DEFAULT_STREAMS:
                return lane.run(feeds, results, stream)
            # All streams of the GPU wait for the default one, and TensorRT would for them: the
            # call is put on another, between what the default stream was given and will be given.
            lane.follow(stream)
            outputs = lane.run(feeds, results, lane.stream)
            lane.lead(stream)
            return outputs

    def _tensor_feed(self, name: str, value: Any, torch: Any) -> Feed:
        if name in self.face.hosted:
            array = to_array(value, torch) if _is_tensor(value, torch) else value
            return feed_of_array(self.face.array(name, array))
        if not _is_tensor(value, torch):
            value = to_tensor(self.face.array(name, value), torch)
        wanted = torch_type(self.face.dtypes[name], torch)
        if value.dtype != wanted:
            raise self.face.mistyped(name, value.dtype, f".to({wanted})")
        if value.is_cuda and value.device.index != 0:
            raise DataError(
                f"input {name!r} is on {value.device}, the engine runs on cuda:0; "
                "move it with .to('cuda:0')"
            )
        return feed_of_tensor(value.detach().to("cuda:0").contiguous())

    def _stream_weights(self, settings: Settings) -> None:
        budget = settings.weight_streaming_budget
        if budget is None:
            return
        if not self._engine.streamable_weights_size:
            raise UsageError(
                "the engine was not built for weights that come as they are needed; "
                "leave weight_streaming_budget away, or build it with weight_streaming=true"
            )
        if budget == AUTOMATIC:
            budget = self._engine.get_weight_streaming_automatic_budget()
        self._engine.weight_streaming_budget_v2 = budget

    def _put_in(self, trt: Any, weights: Path) -> None:
        """Give a plan without weights those of its ONNX file."""
        refitter = trt.Refitter(self._engine, self._logger)
        parser = trt.OnnxParserRefitter(refitter, self._logger)
        if not parser.refit_from_file(str(weights)) or not refitter.refit_cuda_engine():
            raise CompileError("TensorRT cannot put the weights into the plan; build it with them")


def _is_tensor(value: object, torch: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _close(lanes: list[Lane]) -> None:
    for lane in lanes:
        lane.close()
