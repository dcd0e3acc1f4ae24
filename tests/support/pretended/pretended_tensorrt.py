"""As much of TensorRT's interface as a build uses; it stands in for what no test can provoke.

What is built is decided by the environment variable ``PRETEND``: ``build``, ``refuse``, ``fail``,
``die`` (``kill -9``), ``exit``, ``hang``.
"""

from __future__ import annotations

import enum
import os
import signal
import sys
import time
from typing import Any

__version__ = "99.1"

MemoryPoolType = enum.Enum("MemoryPoolType", ["WORKSPACE"])
BuilderFlag = enum.Enum(
    "BuilderFlag",
    [
        "EXCLUDE_LEAN_RUNTIME",
        "REFIT",
        "SPARSE_WEIGHTS",
        "STRIP_PLAN",
        "TF32",
        "VERSION_COMPATIBLE",
        "WEIGHT_STREAMING",
    ],
)
ComputeCapability = enum.Enum("ComputeCapability", ["SM86", "SM89"])
HardwareCompatibilityLevel = enum.Enum(
    "HardwareCompatibilityLevel", ["NONE", "AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"]
)
ProfilingVerbosity = enum.Enum("ProfilingVerbosity", ["LAYER_NAMES_ONLY", "DETAILED", "NONE"])
TilingOptimizationLevel = enum.Enum("TilingOptimizationLevel", ["NONE", "FAST", "MODERATE", "FULL"])


class TacticSource(enum.IntEnum):
    EDGE_MASK_CONVOLUTIONS = 3
    JIT_CONVOLUTIONS = 4


class NetworkDefinitionCreationFlag(enum.IntEnum):
    STRONGLY_TYPED = 1


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3

    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def phase_start(self, phase: str, parent: str | None, steps: int) -> None: ...

    def step_complete(self, phase: str, step: int) -> bool:
        return True

    def phase_finish(self, phase: str) -> None: ...


class Error:
    def __init__(self, node: str, operator: str, text: str) -> None:
        self._said = node, operator, text

    def code(self) -> Any:
        return enum.Enum("ErrorCode", ["UNSUPPORTED_NODE"]).UNSUPPORTED_NODE  # type: ignore[attr-defined]

    def node_name(self) -> str:
        return self._said[0]

    def node_operator(self) -> str:
        return self._said[1]

    def desc(self) -> str:
        return self._said[2]


class OnnxParser:
    def __init__(self, network: Any, logger: ILogger) -> None:
        refused = os.environ["PRETEND"] == "refuse"
        self._errors = [Error("/layer.0/a", "Det", "no importer"), Error("b", "Det", "too deep")]
        self.num_errors = len(self._errors) if refused else 0

    def parse_from_file(self, path: str) -> bool:
        return self.num_errors == 0

    def get_error(self, index: int) -> Error:
        return self._errors[index]


class Tensor:
    dtype = enum.Enum("DataType", ["FLOAT"]).FLOAT  # type: ignore[attr-defined]


class Layer:
    type = enum.Enum("LayerType", ["ELEMENTWISE"]).ELEMENTWISE  # type: ignore[attr-defined]

    def get_output(self, index: int) -> Tensor:
        return Tensor()


class Network:
    num_layers = 2

    def get_layer(self, index: int) -> Layer:
        return Layer()


class Cache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> bytes:
        return self.content + b"+"


class Config:
    progress_monitor: Any = None
    num_compute_capabilities = 0
    builder_optimization_level = 3
    max_num_tactics = -1
    avg_timing_iterations = 1
    max_aux_streams = -1
    profiling_verbosity = ProfilingVerbosity.LAYER_NAMES_ONLY
    tiling_optimization_level = TilingOptimizationLevel.NONE
    hardware_compatibility_level = HardwareCompatibilityLevel.NONE

    def __init__(self) -> None:
        self.said: list[Any] = []

    def attributes(self) -> list[str]:
        """Every attribute that is not as it was in the beginning."""
        changed = {name: value for name, value in vars(self).items() if hasattr(Config, name)}
        return [
            f"{name}={value.name if isinstance(value, enum.Enum) else value}"
            for name, value in changed.items()
            if name != "progress_monitor"
        ]

    def set_tactic_sources(self, sources: int) -> bool:
        self.said.append(f"sources={sources:#b}")
        return True

    def set_compute_capability(self, capability: Any, index: int) -> None:
        assert index < self.num_compute_capabilities
        self.said.append(capability.name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.said.append(f"{pool.name}={size}")

    def set_flag(self, flag: Any) -> None:
        self.said.append(flag.name)

    def clear_flag(self, flag: Any) -> None:
        self.said.append(f"no {flag.name}")

    def add_optimization_profile(self, profile: list[Any]) -> None:
        self.said += profile

    def create_timing_cache(self, content: bytes) -> Cache:
        return Cache(content)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return True


class Profile(list[Any]):
    def set_shape(self, name: str, *shapes: Any) -> None:
        self.append(f"{name}={shapes}")


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> Network:
        assert flags == 2
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        monitor = config.progress_monitor
        monitor.phase_start("building", None, 2)
        monitor.step_complete("building", 0)
        what = os.environ["PRETEND"]
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "exit":
            print("cuda: an illegal memory access was encountered", file=sys.stderr)
            os._exit(7)
        while what == "hang" and monitor.step_complete("building", 0):
            time.sleep(0.01)
        if what == "fail":
            self._logger.log(ILogger.Severity.ERROR, "no kernel for node c")
            return None
        self._logger.log(ILogger.Severity.WARNING, "slow kernel")
        self._logger.log(ILogger.Severity.INFO, "hello")
        monitor.step_complete("building", 1)
        monitor.phase_finish("building")
        return "\n".join(map(str, [*config.said, *config.attributes()])).encode()
