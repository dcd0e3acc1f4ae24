"""How a precision is written for TensorRT."""

from __future__ import annotations

from infopt.errors import UsageError
from infopt.pipeline import Step
from infopt.target import Target


def precision(target: Target, name: str, *, data: bool) -> tuple[Step, ...]:
    """The steps that write precision ``name``.

    Raises:
        UsageError: Engines for TensorRT are not written in it.
    """
    del data
    if name != "fp32":
        raise UsageError(
            f"precision {name} is not for {target.name} yet; choose fp32, or onnxruntime:cuda"
        )
    return ()
