"""Captured calls: kernels that take microseconds are launched as a whole, not one by one.

A CUDA graph is captured for one set of shapes and addresses. Inputs are copied to where the graph
reads them, outputs from where it writes: some megabytes at most, at the speed of the GPU's memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from infopt.backends.tensorrt.contexts import (
    Contexts,
    choose,
    execute,
    infer,
    read_from,
    shape_it,
)
from infopt.backends.tensorrt.cuda import Buffer, Driver
from infopt.backends.tensorrt.face import Face
from infopt.backends.tensorrt.memory import Feed
from infopt.backends.tensorrt.profiles import Sizes
from infopt.backends.tensorrt.settings import AUTOMATIC, Settings
from infopt.errors import CompileError


class CannotCaptureError(CompileError):
    """Why a call cannot be captured; it can be run all the same."""


class Captures:
    """Whether calls are captured, and why not. All lanes of a session share it."""

    def __init__(self, settings: Settings, face: Face) -> None:
        self._insisting = settings.cuda_graphs == "on"
        self.limit = settings.graph_cache
        self.wanted = True
        self.said = "one for each shape" if self._insisting else "one: every shape is fixed"
        """What is done, in words."""
        if settings.cuda_graphs == "off":
            self._stop("switched off")
        elif settings.cuda_graphs == AUTOMATIC and not face.fixed:
            self._stop("shapes differ from call to call; cuda_graphs=on captures each of them")
        elif face.hosted:
            self.give_up(f"{sorted(face.hosted)[0]!r} lies in the processor's memory")

    def give_up(self, reason: str) -> None:
        """Run calls one kernel at a time from now on.

        Raises:
            CompileError: The user insists on graphs.
        """
        if self._insisting:
            raise CompileError(
                f"no call of this engine can be captured: {reason}; leave cuda_graphs=on away"
            )
        self._stop(reason)

    def _stop(self, reason: str) -> None:
        self.wanted = False
        self.said = f"none: {reason}"


class Slot:
    """One captured call, and the memory that it reads and writes."""

    def __init__(
        self,
        driver: Driver,
        contexts: Contexts,
        face: Face,
        profile: int,
        shapes: Mapping[str, Sizes],
        scratch: Buffer,
        stream: int,
    ) -> None:
        """Run a call once, and capture it.

        Args:
            driver: Of the GPU.
            contexts: Makes the context.
            face: Of the engine.
            profile: That the shapes belong to.
            shapes: Of each input.
            scratch: For intermediate results; nothing else uses it meanwhile.
            stream: To do so in; it is empty.

        Raises:
            CannotCaptureError: The call cannot be captured.
        """
        self._driver = driver
        self._context = contexts.make(scratch, capturing=contexts.captures_itself)
        self._graph = 0
        self._inputs = {name: Buffer(driver) for name in shapes}
        self._outputs: dict[str, tuple[Sizes, Buffer]] = {}
        try:
            if profile:
                choose(self._context, profile, stream)
            for name, shape in shapes.items():
                address = self._inputs[name].reserve(_nbytes(face, name, shape))
                driver.clear(address, _nbytes(face, name, shape), stream)
                shape_it(self._context, name, shape)
                read_from(self._context, name, address)
            infer(self._context)
            for spec in face.outputs:
                self._place(spec.name, face)
            # What changes with the shapes is brought up to date by a call, and not captured.
            execute(self._context, stream)
            driver.synchronize(stream)
            if not contexts.captures_itself:
                self._graph = self._capture(stream)
        except BaseException:
            self.close()
            raise

    def launch(self, feeds: Mapping[str, Feed], stream: int) -> dict[str, tuple[Sizes, int]]:
        """Do it again with other numbers: the shape of each output, and where it will lie."""
        for name, feed in feeds.items():
            copy = self._driver.copy if feed.on_gpu else self._driver.to_device
            copy(self._inputs[name].address, feed.address, feed.nbytes, stream)
        if self._graph:
            self._driver.launch(self._graph, stream)
        else:
            execute(self._context, stream)
        return {name: (shape, buffer.address) for name, (shape, buffer) in self._outputs.items()}

    def close(self) -> None:
        """Give everything back; the GPU is done with it."""
        if self._graph:
            self._driver.end_graph(self._graph)
            self._graph = 0
        for buffer in (*self._inputs.values(), *(b for _, b in self._outputs.values())):
            buffer.release()

    def _place(self, name: str, face: Face) -> None:
        shape = tuple(self._context.get_tensor_shape(name))
        if min(shape, default=0) < 0:
            raise CannotCaptureError(f"the size of {name!r} depends on the numbers")
        buffer = Buffer(self._driver)
        self._outputs[name] = shape, buffer
        self._context.set_tensor_address(name, buffer.reserve(_nbytes(face, name, shape)))

    def _capture(self, stream: int) -> int:
        # Some versions can be asked; the others fail while they capture.
        capturable: Any = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(stream):
            raise CannotCaptureError("TensorRT says that this engine cannot be captured")
        self._driver.begin_capture(stream)
        failure = None
        try:
            execute(self._context, stream)
        except CompileError as error:
            failure = error
        try:
            graph = self._driver.end_capture(stream)
        except CompileError as error:
            raise CannotCaptureError(f"capturing failed: {failure or error}") from None
        if failure is not None:
            self._driver.end_graph(graph)
            raise CannotCaptureError(f"capturing failed: {failure}")
        return graph


def _nbytes(face: Face, name: str, shape: Sizes) -> int:
    return math.prod(shape) * face.dtypes[name].itemsize
