"""The peers: which recipe in which environment, and what kind of thing each is."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"


@dataclasses.dataclass(frozen=True)
class Peer:
    """One column of the comparison."""

    name: str
    recipe: str
    """A module of ``benchmarks.sidebyside.recipes``."""
    environment: str
    """A file of ``requirements/``; empty for the environment that runs the benchmark."""
    runtime: str
    """Whose kernels compute: ``ONNX Runtime``, ``OpenVINO`` or ``PyTorch``."""
    needs: float = 0.0
    """Seconds that it takes to optimize a large model, roughly: with less it is not begun, and
    where time is short, those that need less come first."""

    @property
    def ours(self) -> bool:
        """Whether it is infopt."""
        return self.recipe.startswith("infopt")

    def _documentation(self) -> str:
        return ast.get_docstring(ast.parse((RECIPES / f"{self.recipe}.py").read_text())) or ""

    @property
    def summary(self) -> str:
        """What the recipe does, in a line."""
        return self._documentation().partition("\n")[0]

    @property
    def page(self) -> str:
        """The address of the page that the recipe follows."""
        return self._documentation().rpartition("\n")[2]


PYTORCH = "PyTorch"
_ORT, _OPENVINO = "ONNX Runtime", "OpenVINO"

BASELINE = Peer("ORT default", "ort", "onnxruntime", _ORT)
REFERENCE = Peer("reference", "reference", "onnxruntime", _ORT)
PEERS: tuple[Peer, ...] = (
    BASELINE,
    Peer("ORT transformers", "ort_transformers", "onnxruntime", _ORT),
    Peer("ORT dynamic int8", "ort_dynamic", "onnxruntime", _ORT),
    Peer("ORT static int8", "ort_static", "onnxruntime", _ORT),
    Peer("ORT static int8, Add", "ort_static_add", "onnxruntime", _ORT),
    Peer("onnxscript", "onnxscript_ort", "onnxscript", _ORT),
    Peer("onnxslim", "onnxslim_default", "onnxslim", _ORT),
    Peer("Olive", "olive_fp32", "olive", _ORT),
    Peer("Olive int8", "olive_int8", "olive", _ORT, needs=30),
    Peer("optimum O2", "optimum_o2", "optimum", _ORT, needs=30),
    Peer("optimum O3", "optimum_o3", "optimum", _ORT, needs=30),
    Peer("optimum dynamic int8", "optimum_dynamic", "optimum", _ORT, needs=30),
    Peer("OpenVINO", "openvino_fp32", "openvino", _OPENVINO),
    Peer("OpenVINO bf16", "openvino_bf16", "openvino", _OPENVINO),
    Peer("OpenVINO NNCF int8", "openvino_int8", "openvino", _OPENVINO, needs=30),
    Peer("torch eager", "torch_eager", "torch", PYTORCH),
    Peer("torch.compile", "torch_compile", "torch", PYTORCH, needs=120),
    Peer("torch.compile bf16", "torch_compile_bf16", "torch", PYTORCH, needs=120),
    Peer("torch.compile int8", "torch_compile_int8", "torch", PYTORCH, needs=120),
    Peer("infopt", "infopt_fp32", "", _ORT),
    Peer("infopt int8", "infopt_int8", "", _ORT),
    Peer("infopt int8, unsaturated", "infopt_unsaturated", "", _ORT),
    Peer("infopt int8, unsaturated, GPTQ", "infopt_unsaturated_gptq", "", _ORT, needs=30),
    Peer("infopt int8-dynamic", "infopt_dynamic", "", _ORT),
    Peer("infopt int8-dynamic, unsaturated", "infopt_dynamic_unsaturated", "", _ORT),
)
