"""A lane: one call at a time, with an execution context, a stream, and memory of its own."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

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
from infopt.backends.tensorrt.graphs import CannotCaptureError, Captures, Slot
from infopt.backends.tensorrt.memory import Feed, Results
from infopt.backends.tensorrt.profiles import Sizes


class Lane:
    """Runs one engine; what it was given before comes first."""

    def __init__(self, driver: Driver, contexts: Contexts, face: Face, captures: Captures) -> None:
        self._driver = driver
        self._contexts = contexts
        self._face = face
        self._captures = captures
        self.stream = driver.stream()
        self.buffers = {spec.name: Buffer(driver) for spec in (*face.inputs, *face.outputs)}
        # For intermediate results: a plain call and the captured ones take turns in it.
        self._scratch = Buffer(driver)
        self._context: Any = None
        self._profile = 0
        self._shapes: tuple[Sizes, ...] | None = None
        self._found: dict[str, Sizes] = {}
        self._allocators = {spec.name: contexts.allocator() for spec in face.outputs}
        self._slots: OrderedDict[tuple[int, tuple[Sizes, ...]], Slot] = OrderedDict()
        self._asked, self._done = driver.event(), driver.event()
        self._last_stream: int | None = None
        self._held: object = None
        if not captures.wanted:  # else it may never be needed
            self._plain(0, self.stream)

    def run(self, feeds: Mapping[str, Feed], results: Results, stream: int) -> dict[str, Any]:
        """Give a call to ``stream``.

        Args:
            feeds: Each input, in the engine's order.
            results: Where outputs go.
            stream: A stream, but not the default one, for which everything else waits.

        Raises:
            CompileError: TensorRT cannot run the engine.
            DataError: No profile holds these shapes, or the model cannot have them.
        """
        profile = self._face.profile_for({name: feed.shape for name, feed in feeds.items()})
        if self._last_stream not in (None, stream):
            self._driver.wait(stream, self._done)
        self._last_stream = stream
        self._held = feeds  # until the next call: the GPU may still be reading
        try:
            slot = self._slot(profile, feeds)
            if slot is None:
                return self._enqueue(profile, feeds, results, stream)
            return {
                name: results.take(name, shape, address, stream)
                for name, (shape, address) in slot.launch(feeds, stream).items()
            }
        finally:
            self._driver.record(self._done, stream)

    def follow(self, stream: int) -> None:
        """Let what this lane's own stream is given wait for what ``stream`` was given so far."""
        self._driver.record(self._asked, stream)
        self._driver.wait(self.stream, self._asked)

    def lead(self, stream: int) -> None:
        """Let what ``stream`` is given from now on wait for the last call."""
        self._driver.wait(stream, self._done)

    def context_for(self, shapes: Mapping[str, Sizes]) -> Any:
        """The context of plain calls, told of shapes of the first profile."""
        context = self._plain(0, self.stream)
        self._shapes = None
        for name, shape in shapes.items():
            shape_it(context, name, shape)
        return context

    def finish(self) -> None:
        """Wait until all that was given is done."""
        self._driver.finish(self._done)

    def close(self) -> None:
        """Finish, and give back all that lies on the GPU."""
        self._driver.use()
        self.finish()
        for slot in self._slots.values():
            slot.close()
        for buffer in (*self.buffers.values(), self._scratch):
            buffer.release()
        for event in (self._asked, self._done):
            self._driver.end_event(event)
        self._driver.end_stream(self.stream)

    def _plain(self, profile: int, stream: int) -> Any:
        """The context of plain calls, for the shapes of a profile."""
        if self._context is None:
            self._context = self._contexts.make(self._scratch)
        if profile != self._profile:
            choose(self._context, profile, stream)
            self._profile, self._shapes = profile, None
        return self._context

    def _enqueue(
        self, profile: int, feeds: Mapping[str, Feed], results: Results, stream: int
    ) -> dict[str, Any]:
        context = self._plain(profile, stream)
        for name, feed in feeds.items():
            read_from(context, name, self._readable(name, feed, stream))
        shapes = self._output_shapes(context, feeds)
        hosted: dict[str, np.ndarray] = {}
        places: dict[str, tuple[Sizes, int]] = {}
        for name, shape in shapes.items():
            if min(shape, default=0) < 0:  # its size depends on the numbers
                self._allocators[name].prepare(results)
                context.set_output_allocator(name, self._allocators[name])
            elif name in self._face.hosted:
                hosted[name] = np.empty(shape, self._face.dtypes[name])
                context.set_tensor_address(name, hosted[name].ctypes.data)
            else:
                places[name] = shape, results.place(name, shape)
                context.set_tensor_address(name, places[name][1])
        execute(context, stream)
        if hosted:
            self._driver.synchronize(stream)
        found: dict[str, Any] = {}
        for name in shapes:
            if name in hosted:
                found[name] = results.keep(hosted[name])
            else:  # TensorRT has told the shapes of all by now
                late = self._allocators[name]
                shape, address = places.get(name, (late.shape, late.address))
                found[name] = results.take(name, shape, address, stream)
        return found

    def _output_shapes(self, context: Any, feeds: Mapping[str, Feed]) -> dict[str, Sizes]:
        """The shape of each output, asked for where it may be another than last time."""
        shapes = tuple(feed.shape for feed in feeds.values())
        if shapes != self._shapes or self._face.hosted:
            self._shapes = None
            for name, feed in feeds.items():
                shape_it(context, name, feed.shape)
            infer(context)
            self._found = {
                spec.name: tuple(context.get_tensor_shape(spec.name)) for spec in self._face.outputs
            }
            self._shapes = shapes
        return self._found

    def _readable(self, name: str, feed: Feed, stream: int) -> int:
        """The address at which TensorRT can read an input."""
        if name in self._face.hosted or feed.usable:
            return feed.address
        address = self.buffers[name].reserve(feed.nbytes)
        copy = self._driver.copy if feed.on_gpu else self._driver.to_device
        copy(address, feed.address, feed.nbytes, stream)
        return address

    def _slot(self, profile: int, feeds: Mapping[str, Feed]) -> Slot | None:
        """The captured call for these shapes; ``None`` where none is to be captured."""
        if not self._captures.wanted:
            return None
        shapes = {name: feed.shape for name, feed in feeds.items()}
        key = profile, tuple(shapes.values())
        if key not in self._slots:
            self.finish()  # capturing takes the scratch memory, and a slot may have to go
            if len(self._slots) == self._captures.limit:
                self._slots.popitem(last=False)[1].close()
            try:
                self._slots[key] = Slot(
                    self._driver,
                    self._contexts,
                    self._face,
                    profile,
                    shapes,
                    self._scratch,
                    self.stream,
                )
            except CannotCaptureError as error:
                self._captures.give_up(str(error))
                return None
        self._slots.move_to_end(key)
        return self._slots[key]
