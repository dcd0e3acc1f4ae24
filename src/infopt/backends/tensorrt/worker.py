"""The process that builds: it reads one ONNX file, writes one plan, and says how it goes.

:mod:`infopt.backends.tensorrt.builder` starts it, with the request as JSON on its standard input
and the number of a pipe on its command line; down that pipe it writes one JSON object a line.
What it writes lies where nobody takes it for an engine: it may be killed at any moment.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

Say = Callable[..., bool]
"""Sends a message of a kind; whether anybody still listens."""

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_MOST_WARNINGS = 20


def main() -> None:
    """Do what the request says."""
    request = json.load(sys.stdin)
    _die_with(request["parent"])
    pipe = os.fdopen(int(sys.argv[1]), "w", encoding="utf-8", buffering=1)
    lock = threading.Lock()

    def say(kind: str, **facts: Any) -> bool:
        with lock:
            try:
                pipe.write(json.dumps({"kind": kind, **facts}) + "\n")
            except OSError:
                return False
        return True

    try:
        trt = importlib.import_module(request["module"])
    except Exception as error:  # whatever a missing library of NVIDIA's makes it say
        say("unavailable", message=f"{request['module']} does not load: {error}")
        return
    _Build(trt, request, say).run()


def _die_with(parent: int) -> None:
    """Do not outlive the process that waits for the plan."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        sys.exit(1)


class _Build:
    def __init__(self, trt: Any, request: dict[str, Any], say: Say) -> None:
        self._trt, self._request, self._say = trt, request, say
        self._logger = _logger(trt)
        self._builder = trt.Builder(self._logger)
        self._network = self._builder.create_network(_strongly_typed(trt))

    def run(self) -> None:
        if not self._parse():
            return
        began = time.perf_counter()
        config = self._config()
        cache = self._timing_cache(config)
        plan = self._builder.build_serialized_network(self._network, config)
        if plan is None:
            self._say("failed", message=self._logger.last_error())
            return
        with Path(self._request["plan"]).open("wb") as file:
            written = file.write(plan)
        if cache is not None:
            Path(self._request["cache_out"]).write_bytes(cache.serialize())
        self._say(
            "built",
            version=self._trt.__version__,
            bytes=written,
            seconds=time.perf_counter() - began,
            network=self._layers(),
            warnings=self._logger.warnings,
            timing_cache=cache is not None,
        )

    def _parse(self) -> bool:
        parser = self._trt.OnnxParser(self._network, self._logger)
        if parser.parse_from_file(self._request["model"]):
            _allow_parts_of_attention(self._trt, self._network)
            return True
        found = [parser.get_error(index) for index in range(parser.num_errors)]
        self._say("refused", complaints=[_complaint(error) for error in found])
        return False

    def _config(self) -> Any:
        trt, options = self._trt, self._request["options"]
        config = self._builder.create_builder_config()
        for index, capability in enumerate(self._request["capabilities"]):
            config.num_compute_capabilities = len(self._request["capabilities"])
            chosen = getattr(trt.ComputeCapability, capability.upper())
            config.set_compute_capability(chosen, index)
        if options["workspace"] is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options["workspace"])
        for option, attribute in _NUMBERS.items():
            if options[option] is not None:
                setattr(config, attribute, options[option])
        if options["tiling"] is not None:
            level = getattr(trt.TilingOptimizationLevel, options["tiling"].upper())
            config.tiling_optimization_level = level
        if options["tactic_sources"] is not None:
            named = [getattr(trt.TacticSource, name) for name in options["tactic_sources"]]
            config.set_tactic_sources(sum(1 << int(source) for source in named))
        # So that the plan can tell which type each layer got; it changes no kernel.
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        for option, flag in _FLAGS.items():
            change = config.set_flag if options[option] else config.clear_flag
            change(getattr(trt.BuilderFlag, flag))
        if options["hardware_compatible"] is not None:
            level = _COMPATIBLE[options["hardware_compatible"]]
            config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
        for wanted in filter(None, self._request["profiles"]):
            profile = self._builder.create_optimization_profile()
            for name, shapes in wanted.items():
                profile.set_shape(name, shapes["least"], shapes["usual"], shapes["most"])
            config.add_optimization_profile(profile)
        self._monitor = _monitor(trt, self._say)  # has to live as long as the build
        config.progress_monitor = self._monitor
        return config

    def _timing_cache(self, config: Any) -> Any:
        """The cache that the build uses and fills; ``None`` where it is off or there is none."""
        if self._request["cache_out"] is None or not hasattr(config, "create_timing_cache"):
            return None
        before = self._request["cache_in"]
        cache = config.create_timing_cache(Path(before).read_bytes() if before else b"")
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
        return cache

    def _layers(self) -> dict[str, int]:
        """Kind of layer and type of its first output → how many the parsed network has."""
        found: Counter[str] = Counter()
        for index in range(self._network.num_layers):
            layer = self._network.get_layer(index)
            kind, output = layer.type.name.lower(), layer.get_output(0)
            found[f"{kind} {output.dtype.name.lower()}" if output is not None else kind] += 1
        return dict(found.most_common())


_FLAGS = {
    "version_compatible": "VERSION_COMPATIBLE",
    "refit": "REFIT",
    "strip_weights": "STRIP_PLAN",
    "tf32": "TF32",  # set unless it is cleared
    "weight_streaming": "WEIGHT_STREAMING",
    "sparse_weights": "SPARSE_WEIGHTS",
    "exclude_lean_runtime": "EXCLUDE_LEAN_RUNTIME",  # behind what it needs
}
_NUMBERS = {
    "optimization_level": "builder_optimization_level",
    "max_tactics": "max_num_tactics",
    "timing_iterations": "avg_timing_iterations",
    "aux_streams": "max_aux_streams",
}
_COMPATIBLE = {"ampere": "AMPERE_PLUS", "same": "SAME_COMPUTE_CAPABILITY"}
"""Options → what TensorRT calls them."""


def _strongly_typed(trt: Any) -> int:
    """The flags of a network whose types are those of the graph; newer versions know no other."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _allow_parts_of_attention(trt: Any, network: Any) -> None:
    """Let attention be computed in parts where TensorRT has no kernel for the whole.

    It has some for 16 bits only, and for some sizes; without this, it refuses the others.
    """
    if not hasattr(trt, "IAttentionInputLayer"):
        return
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # which it is, but it comes as any layer
            layer.attention.decomposable = True


def _complaint(error: Any) -> dict[str, str]:
    return {
        "code": error.code().name,
        "node": error.node_name(),
        "operator": error.node_operator(),
        "text": error.desc(),
    }


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps what matters; TensorRT is talkative."""

        def __init__(self) -> None:
            super().__init__()
            self.warnings: list[str] = []
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            serious = severity in (self.Severity.ERROR, self.Severity.INTERNAL_ERROR)
            kept = self.errors if serious else self.warnings
            warned = serious or severity == self.Severity.WARNING
            if warned and message not in kept and len(kept) < _MOST_WARNINGS:
                kept.append(message)

        def last_error(self) -> str:
            return self.errors[-1] if self.errors else "it gives no reason"

    return Logger()


def _monitor(trt: Any, say: Say) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Passes progress on; a build that nobody waits for any more is given up."""

        def __init__(self) -> None:
            super().__init__()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._steps[phase] = steps
            say("progress", phase=phase, done=0, total=steps)

        def step_complete(self, phase: str, step: int) -> bool:
            return say("progress", phase=phase, done=step + 1, total=self._steps.get(phase, 0))

        def phase_finish(self, phase: str) -> None:
            self._steps.pop(phase, None)

    return Monitor()


if __name__ == "__main__":
    main()
