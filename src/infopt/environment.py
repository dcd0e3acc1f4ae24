"""What is installed here, and whether it fits together: what ``infopt doctor`` reports.

The version ranges come from infopt's own package metadata, and versions are read without
importing the packages, so this works where they are missing or broken. Only what cannot be
known otherwise is tried: the installed ONNX Runtime is asked for its providers and loads tiny
models to find its limits.
"""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import functools
import importlib.metadata
import platform
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from infopt.errors import UnavailableError
from infopt.target import TARGETS, Target


class Level(enum.Enum):
    """How a check went."""

    OK = "ok"
    NOTE = "note"
    """Something optional is not there."""
    WARN = "warn"
    FAIL = "fail"


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the doctor's report."""

    subject: str
    level: Level
    found: str
    """What is there: a version, a list of providers, the name of a GPU."""
    wanted: str = ""
    """What fits: a version range; empty where nothing is wanted."""
    advice: str = ""
    """What to do; empty where all is well."""


@dataclasses.dataclass(frozen=True)
class Gpu:
    """The NVIDIA driver's answer."""

    names: tuple[str, ...]
    """One name for each device; empty where there is none."""
    driver: str
    """The driver's CUDA version such as ``13.0``; empty where there is no driver."""


@dataclasses.dataclass(frozen=True)
class Runtime:
    """What the installed ONNX Runtime says of itself."""

    version: str
    providers: tuple[str, ...]
    """The execution providers that it was built with, best first."""
    max_opset: int
    """The newest opset of the standard domain that it loads."""
    max_ir_version: int
    """The newest IR version that it loads."""


_RUNTIME_EXTRAS = {"cpu": "onnxruntime", "gpu": "onnxruntime-gpu"}
_OPTIONAL_EXTRAS = {
    "torch": "to optimize PyTorch modules",
    "hf": "to optimize Hugging Face models",
    "lightning": "to make engines while Lightning trains",
    "transformers": "to make engines while the Trainer of transformers trains",
    "tensorrt": "for TensorRT engines",
    "tensorrt-rtx": "for TensorRT for RTX engines",
    "sign": "to sign engines, and to insist on signatures",
}


def diagnose() -> list[Check]:
    """Check everything; cheap enough (about a second) to run before any work starts."""
    return [
        _python(),
        *_core(),
        *_onnxruntime(),
        *_optional(),
        *_broken_dependencies(),
        _gpu(),
        *_targets(),
    ]


def unavailable(target: Target) -> str:
    """Why ``target`` cannot run on this machine and what to do, or ``""`` where it can."""
    if target.runtime == "onnxruntime" and target.device == "cuda" and not gpu().names:
        return "there is no NVIDIA GPU here, or its driver is not installed"
    try:
        from infopt.backends import backend_for

        return backend_for(target).unavailable() or ""
    except ImportError as error:
        return f"{error}; `infopt doctor` says what is missing"


def unbuildable(target: Target) -> str:
    """Why no engine for ``target`` can be built here and what to do, or ``""`` where one can."""
    try:
        from infopt.backends import backend_for

        return backend_for(target).unbuildable() or ""
    except ImportError as error:
        return f"{error}; `infopt doctor` says what is missing"


def _python() -> Check:
    wanted = importlib.metadata.metadata("infopt")["Requires-Python"]
    version = platform.python_version()
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Check("python", Level.OK, version, wanted)
    return Check("python", Level.FAIL, version, wanted, f"use a Python that is {wanted}")


def _core() -> Iterator[Check]:
    for requirement in _requirements(""):
        yield _package(requirement, "infopt", missing=Level.FAIL, unfit=Level.FAIL)


def _onnxruntime() -> Iterator[Check]:
    """Which ONNX Runtime is installed, whether it is the only one, and what it can do."""
    owners = _owners("onnxruntime")
    if not owners:
        yield Check(
            "onnxruntime",
            Level.FAIL,
            "not installed",
            "one runtime",
            'pip install "infopt[cpu]", or "infopt[gpu]" on a machine with an NVIDIA GPU',
        )
        return
    if len(owners) > 1:
        yield Check(
            "onnxruntime",
            Level.FAIL,
            " and ".join(owners),
            "one runtime",
            "they overwrite each other: "
            f'pip uninstall {" ".join(owners)}, then pip install "infopt[cpu]" or "infopt[gpu]"',
        )
        return
    for extra, package in _RUNTIME_EXTRAS.items():
        if package in owners:
            for requirement in _requirements(extra):
                yield _package(
                    requirement, f"infopt[{extra}]", missing=Level.FAIL, unfit=Level.FAIL
                )
    found = runtime()
    if isinstance(found, str):
        advice = f"pip install --force-reinstall {owners[0]}"
        yield Check("onnxruntime loads", Level.FAIL, found, "", advice)
        return
    yield Check("execution providers", Level.OK, ", ".join(found.providers))
    yield _limits(found)


def _limits(found: Runtime) -> Check:
    """Whether the installed runtime loads what infopt writes for it."""
    ours = [target for target in TARGETS.values() if target.runtime == "onnxruntime"]
    wanted_opset = min(target.max_opset for target in ours)
    wanted_ir = min(target.max_ir_version for target in ours)
    fits = found.max_opset >= wanted_opset and found.max_ir_version >= wanted_ir
    return Check(
        "ONNX limits",
        Level.OK if fits else Level.FAIL,
        f"opset {found.max_opset}, IR version {found.max_ir_version}",
        f"opset ≥ {wanted_opset}, IR ≥ {wanted_ir}",
        "" if fits else "install an ONNX Runtime in the range above",
    )


def _optional() -> Iterator[Check]:
    shown: set[str] = set()
    for extra, purpose in _OPTIONAL_EXTRAS.items():
        for requirement in _requirements(extra):
            if requirement.name in shown:
                continue
            shown.add(requirement.name)
            check = _package(requirement, f"infopt[{extra}]", missing=Level.NOTE, unfit=Level.WARN)
            if check.level is Level.NOTE:
                check = dataclasses.replace(check, advice=f"{purpose}: {check.advice}")
            yield check


def _package(requirement: Requirement, source: str, *, missing: Level, unfit: Level) -> Check:
    """Whether the installed version of a package is in its range."""
    wanted = _range(requirement.specifier)
    version = _version(requirement.name)
    install = f'pip install "{source}"'
    if version is None:
        return Check(requirement.name, missing, "not installed", wanted, install)
    if requirement.specifier.contains(version, prereleases=True):
        return Check(requirement.name, Level.OK, version, wanted)
    return Check(requirement.name, unfit, version, wanted, f'pip install "{requirement}"')


def _broken_dependencies() -> Iterator[Check]:
    """Wishes that are not met: of the packages that infopt uses, and of others about them."""
    extras = ("", *_RUNTIME_EXTRAS, "hf")
    ours = {canonicalize_name(r.name) for extra in extras for r in _requirements(extra)}
    for distribution in importlib.metadata.distributions():
        name = canonicalize_name(distribution.metadata["Name"] or "")
        for text in distribution.requires or ():
            needed = Requirement(text)
            if name == "infopt" or not {name, canonicalize_name(needed.name)} & ours:
                continue
            if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
                continue
            version = _version(needed.name)
            if version is None or not needed.specifier.contains(version, prereleases=True):
                yield Check(
                    f"{name} needs {needed.name}",
                    Level.WARN,
                    version or "not installed",
                    _range(needed.specifier),
                    f"{name} may fail; another version of it may accept what is installed",
                )


def _gpu() -> Check:
    found = gpu()
    if not found.names:
        return Check("NVIDIA GPU", Level.NOTE, "none found", "", "only CUDA targets need one")
    described = f"{', '.join(found.names)} (driver: CUDA {found.driver or 'unknown'})"
    if _owners("onnxruntime") == ["onnxruntime"]:
        advice = 'to use it: pip uninstall onnxruntime, then pip install "infopt[gpu]"'
        return Check("NVIDIA GPU", Level.WARN, described, "", advice)
    return Check("NVIDIA GPU", Level.OK, described)


def _targets() -> Iterator[Check]:
    for target in TARGETS.values():
        reason = unavailable(target)
        if not reason:
            yield Check(f"target {target.name}", Level.OK, "runs here")
        else:
            built = "is built here, but " if not unbuildable(target) else ""
            found = f"{built}does not run here"
            yield Check(f"target {target.name}", Level.NOTE, found, "", reason)


def _requirements(extra: str) -> list[Requirement]:
    """The requirements of infopt itself under ``extra``; those without an extra for ``""``."""
    found: dict[str, Requirement] = {}
    for text in importlib.metadata.requires("infopt") or ():
        requirement = Requirement(text)
        marker = requirement.marker
        core = marker is None or marker.evaluate({"extra": ""})
        wanted = core if not extra else not core and marker.evaluate({"extra": extra})  # type: ignore[union-attr]
        if wanted and requirement.name != "infopt":
            found[requirement.name] = requirement
    return sorted(found.values(), key=lambda r: r.name)


def _range(specifier: SpecifierSet) -> str:
    """``>=1.23, <1.24``: the lower bound first, as people say it."""
    return ", ".join(sorted(map(str, specifier), key=lambda part: (part[0] != ">", part)))


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _owners(module: str) -> list[str]:
    """The installed packages that provide a top-level module; more than one is a conflict."""
    owners = importlib.metadata.packages_distributions().get(module, [])
    return sorted({str(canonicalize_name(owner)) for owner in owners})


@functools.cache
def runtime() -> Runtime | str:
    """What the installed ONNX Runtime can do, or why it does not load."""
    try:
        from infopt.backends.onnxruntime.runtime import onnxruntime

        ort = onnxruntime()
        opset, ir_version = _try_limits(ort)
    except (ImportError, UnavailableError) as error:
        return str(error)
    return Runtime(
        version=ort.__version__,
        providers=tuple(ort.get_available_providers()),
        max_opset=opset,
        max_ir_version=ir_version,
    )


def _try_limits(ort: ModuleType) -> tuple[int, int]:
    """The newest opset and IR version that the runtime loads, found by trying."""
    import onnx

    newest_opset = onnx.defs.onnx_opset_version()
    newest_ir = int(onnx.IR_VERSION)
    opset = next((n for n in range(newest_opset, 0, -1) if _loads(ort, n, 8)), 0)
    ir_version = next((n for n in range(newest_ir, 0, -1) if _loads(ort, max(opset, 1), n)), 0)
    return opset, ir_version


def _loads(ort: ModuleType, opset: int, ir_version: int) -> bool:
    """Whether the runtime loads a model of one node at this opset and IR version."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [x], [y])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )
    try:
        ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:  # the refusal is the answer
        return False
    return True


@functools.cache
def gpu() -> Gpu:
    """The NVIDIA GPUs here, asked of the driver itself; loads no CUDA runtime."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return _gpu_from_proc(Path("/proc/driver/nvidia"))
    version, count = ctypes.c_int(), ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    driver = f"{version.value // 1000}.{version.value % 1000 // 10}" if version.value else ""
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return Gpu((), driver)
    names = []
    for ordinal in range(count.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
        cuda.cuDeviceGet(ctypes.byref(device), ordinal)
        cuda.cuDeviceGetName(name, len(name), device)
        names.append(name.value.decode(errors="replace"))
    return Gpu(tuple(names), driver)


def _gpu_from_proc(root: Path) -> Gpu:
    """The kernel driver's own files: there without libcuda in some containers."""
    lines = (
        line
        for information in sorted(root.glob("gpus/*/information"))
        for line in information.read_text(errors="replace").splitlines()
    )
    models = (line.removeprefix("Model:") for line in lines if line.startswith("Model:"))
    return Gpu(tuple(model.strip() for model in models), "")
