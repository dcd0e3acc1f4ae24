"""A Hugging Face directory or hub id → Model: encoders, classifiers and vision models.

What is loaded is ``config.json`` and safetensors. No code from the directory runs unless the
user trusts it, and a directory never reaches for the network.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from infopt.errors import ImportFailed, SourceError, UnavailableError, UsageError
from infopt.importers import huggingface_inputs, torch_module
from infopt.importers.base import Imported, ImportOptions
from infopt.importers.sniff import read_json
from infopt.importers.torch_export import quiet, require_torch, short

TASKS = (
    "feature-extraction",
    "fill-mask",
    "text-classification",
    "token-classification",
    "question-answering",
    "image-classification",
    "image-segmentation",
    "semantic-segmentation",
    "object-detection",
    "depth-estimation",
    "masked-im",
    "zero-shot-image-classification",
)
_LATER = "decoders and encoder-decoders with a cache come in a later version of infopt"

# Keys of config.json by which a model could fetch or run code, or start from other weights.
_FORBIDDEN_KEYS = (
    "auto_map",
    "_attn_implementation",
    "_attn_implementation_internal",
    "attn_implementation",
    "_experts_implementation",
    "_experts_implementation_internal",
    "experts_implementation",
    "use_kernels",
    "use_pretrained_backbone",
    "custom_pipelines",
)
_UNTRAINED = re.compile(r"(.*\.)?pooler\..*")
"""Weights that checkpoints often lack; an output that needs them is left out."""


def import_huggingface(source: str, options: ImportOptions) -> Imported:
    """Import a model that ``save_pretrained`` wrote.

    Args:
        source: A directory, or a hub id ``organization/name``.
        options: ``task`` overrides the architecture's; ``trust_remote_code`` lets code in the
            directory run; ``dynamic_shapes`` overrides the dynamic dimensions.

    Raises:
        SourceError: The directory lacks something, is damaged, or needs code to be run.
        UsageError: There is no such task.
        ImportFailed: A kind of model that infopt cannot import yet, or the exporter gave up.
        UnavailableError: A library is missing, or the hub cannot be reached.
    """
    require_torch()
    _require_libraries()
    path = Path(source)
    directory = path if path.is_dir() else _download(source, options)
    name = path.resolve().name if path.is_dir() else source
    with quiet(), _offline():
        directory = _encoder_directory(directory)
        raw, architecture = _read_config(directory, options)
        config = _configuration(directory, raw, options)
        cls, task = _model_class(directory, config, architecture, options)
        _check_weights(directory)
        model, untrained = _load(directory, config, cls, options)
        details = _details(model, task, raw)
        return _export(model, name, details, untrained, directory, options)


def _require_libraries() -> None:
    try:
        with quiet():
            import optimum.exporters.tasks  # noqa: F401
            import transformers  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"importing from Hugging Face needs transformers and optimum ({error}); "
            'pip install "infopt[hf]"'
        ) from None


def _download(hub_id: str, options: ImportOptions) -> Path:
    import huggingface_hub

    patterns = ["*.json", "*.safetensors"] + (["*.py"] if options.trust_remote_code else [])
    try:
        return Path(huggingface_hub.snapshot_download(hub_id, allow_patterns=patterns))
    except Exception as error:
        raise UnavailableError(
            f"there is no directory {hub_id}, and the model of that name cannot be fetched from "
            f"the Hugging Face hub: {short(error)}; download it and give its directory"
        ) from error


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep transformers from the network: all that a model needs is in its directory."""
    from huggingface_hub import constants
    from transformers.utils import logging as transformers_logging

    logging: Any = transformers_logging
    before, bars = constants.HF_HUB_OFFLINE, logging.is_progress_bar_enabled()
    constants.HF_HUB_OFFLINE = True
    logging.disable_progress_bar()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        if bars:
            logging.enable_progress_bar()


# The directory ------------------------------------------------------------------------------


def _encoder_directory(directory: Path) -> Path:
    """Where the encoder lies: sentence-transformers may put it one level below."""
    if (directory / "config.json").exists() or not (directory / "modules.json").exists():
        return directory
    for below in sorted(directory.glob("*Transformer/config.json")):
        return below.parent
    raise SourceError(
        f"{directory} has modules.json but no encoder with a config.json; download it again"
    )


def _read_config(directory: Path, options: ImportOptions) -> tuple[dict[str, object], str]:
    """The configuration and the architecture's name, checked to be one that can be imported."""
    from transformers.models.auto import configuration_auto, modeling_auto

    path = directory / "config.json"
    config = read_json(path)
    names = config.get("architectures") or []
    model_type = config.get("model_type")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SourceError(f"architectures in {path} is not a list of names; mend it")
    architecture = names[0] if names else ""
    if config.get("quantization_config"):
        raise ImportFailed(f"the weights in {directory} are quantized; give the original model")
    known = isinstance(model_type, str) and model_type in configuration_auto.CONFIG_MAPPING
    if not known and config.get("auto_map") and not options.trust_remote_code:
        raise SourceError(
            f"the model in {directory} needs Python code that lies beside it, which infopt does "
            "not run; read the code, and if you trust it, give trust_remote_code=True "
            "(--trust-remote-code)"
        )
    if not known and not options.trust_remote_code:
        raise SourceError(
            f"the installed transformers knows no model_type {model_type!r} ({path}); "
            "upgrade transformers"
        )
    encoder_only = architecture.endswith("EncoderModel")
    generates = architecture.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"))
    decoder = (
        model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and model_type not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    )
    if not encoder_only and (generates or decoder or config.get("is_encoder_decoder")):
        raise ImportFailed(f"{architecture or model_type} in {directory} generates text; {_LATER}")
    return config, architecture


def _check_weights(directory: Path) -> None:
    """Check that there are safetensors and that none of them is damaged."""
    import safetensors

    index = directory / "model.safetensors.index.json"
    if (directory / "model.safetensors").exists():
        files = ["model.safetensors"]
    elif index.exists():
        weights = read_json(index).get("weight_map")
        files = sorted(map(str, weights.values())) if isinstance(weights, dict) else []
        if not files:
            raise SourceError(f"{index} lists no files; download it again")
    else:
        names = [entry.name for entry in directory.iterdir()]
        pickles = [name for name in names if re.fullmatch(r".*\.(bin|pt|pth)", name)]
        if "adapter_config.json" in names:
            raise SourceError(
                f"{directory} holds an adapter; merge it with its model and save that"
            )
        if pickles:
            raise SourceError(
                f"{directory} holds its weights as a pickle ({pickles[0]}), which can run any "
                "code; if you trust it, load it with transformers and save_pretrained it again"
            )
        raise SourceError(f"{directory} has a config.json but no model.safetensors; add it")
    for name in sorted(set(files)):
        if not re.fullmatch(r"[\w.-]+\.safetensors", name):
            raise SourceError(f"{index} names {name!r}, which is no safetensors file beside it")
        try:
            with safetensors.safe_open(directory / name, framework="np"):
                pass
        except (safetensors.SafetensorError, OSError) as error:
            raise SourceError(
                f"{directory / name} is missing or damaged ({short(error)}); download it again"
            ) from None


# The model ----------------------------------------------------------------------------------


def _configuration(directory: Path, raw: Mapping[str, object], options: ImportOptions) -> Any:
    """The configuration as transformers' object."""
    import transformers
    from transformers.models.auto import configuration_auto

    config: Any
    try:
        if options.trust_remote_code and raw.get("auto_map"):
            config = transformers.AutoConfig.from_pretrained(
                directory, trust_remote_code=True, local_files_only=True
            )
        else:
            kind = configuration_auto.CONFIG_MAPPING[cast(str, raw["model_type"])]
            config = kind.from_dict(_harmless(raw))
    except Exception as error:
        raise SourceError(
            f"{directory / 'config.json'} is no configuration that transformers knows: "
            f"{short(error)}; mend it"
        ) from error
    for key in ("use_cache", "output_hidden_states"):
        if hasattr(config, key):
            setattr(config, key, False)
    return config


def _harmless(config: object) -> Any:
    """``config`` without the keys by which it could reach for code, at every level."""
    if isinstance(config, Mapping):
        return {k: _harmless(v) for k, v in config.items() if k not in _FORBIDDEN_KEYS}
    return [_harmless(item) for item in config] if isinstance(config, list) else config


def _model_class(
    directory: Path, config: Any, architecture: str, options: ImportOptions
) -> tuple[Any, str]:
    """The class to load, and its task: from the user's word, else from the architecture."""
    import transformers
    from optimum.exporters.tasks import TasksManager

    auto_map = getattr(config, "auto_map", None)
    if options.trust_remote_code and isinstance(auto_map, dict):
        names = [key for key, value in auto_map.items() if str(value).endswith(f".{architecture}")]
        cls = getattr(transformers, names[0] if names else "AutoModel")
        return cls, options.task or "feature-extraction"
    if options.task is not None:
        task = TasksManager.map_from_synonym(options.task)
        if task not in TASKS:
            raise UsageError(
                f"task {options.task!r} is none that infopt can import; known: {', '.join(TASKS)}"
            )
        auto: Any = TasksManager.get_model_class_for_task(task, "pt", config.model_type)
        if type(config) not in auto._model_mapping:
            raise UsageError(f"transformers has no {config.model_type} model for task {task!r}")
        found = auto._model_mapping[type(config)]
        return (found[0] if isinstance(found, tuple) else found), task
    if not architecture:
        raise UsageError(
            f"{directory / 'config.json'} names no architecture; say what the model does with "
            "task (--task), such as feature-extraction"
        )
    cls = getattr(transformers, architecture, None)
    if not isinstance(cls, type) or not issubclass(cls, transformers.PreTrainedModel):
        raise SourceError(
            f"the installed transformers has no model {architecture!r} "
            f"({directory / 'config.json'}); upgrade transformers"
        )
    try:
        task = TasksManager._infer_task_from_model_or_model_class(model_class=cls)
    except ValueError:  # a variant that optimum has no word for
        task = "feature-extraction"
    if task not in TASKS:
        raise ImportFailed(f"{architecture} is for {task}, which infopt cannot import yet")
    return cls, task


def _load(directory: Path, config: Any, cls: Any, options: ImportOptions) -> tuple[Any, bool]:
    """The model in float32, and whether its pooler has no weights."""
    import torch

    arguments: dict[str, Any] = {
        "config": config,
        "local_files_only": True,
        "use_safetensors": True,
        "trust_remote_code": options.trust_remote_code,
        "output_loading_info": True,
        "dtype": torch.float32,
        # Said here, so that nothing else can say it; torch's own, else plain operators.
        "attn_implementation": "sdpa" if getattr(cls, "_supports_sdpa", True) else "eager",
    }
    try:
        try:
            model, loading = cls.from_pretrained(directory, **arguments)
        except ValueError as error:
            if "attention" not in str(error):
                raise
            arguments["attn_implementation"] = "eager"
            model, loading = cls.from_pretrained(directory, **arguments)
    except Exception as error:
        raise SourceError(
            f"transformers cannot load {directory} as {cls.__name__}: {short(error)}"
        ) from error
    missing = sorted(loading["missing_keys"])
    # In a bare model nothing else depends on the pooler; a classifier would be random.
    bare = getattr(model, "base_model", None) is model
    untrained = bool(missing) and bare and all(_UNTRAINED.fullmatch(key) for key in missing)
    if missing and not untrained:
        raise SourceError(
            f"{directory} has no weights for {missing[0]} and {len(missing) - 1} more of "
            f"{type(model).__name__}, which would be random; give the task it was trained for"
        )
    return model, untrained


def _details(model: Any, task: str, raw: Mapping[str, object]) -> dict[str, str]:
    import torch
    import transformers

    stored = raw.get("dtype") or raw.get("torch_dtype") or "float32"
    return {
        "task": task,
        "class": type(model).__name__,
        "exporter": f"torch.onnx {torch.__version__}, transformers {transformers.__version__}",
        "dtype": "float32" if stored == "float32" else f"{stored}, computed in float32",
    }


# The export ---------------------------------------------------------------------------------


def _export(
    model: Any,
    name: str,
    details: dict[str, str],
    untrained: bool,
    directory: Path,
    options: ImportOptions,
) -> Imported:
    plan = huggingface_inputs.plan(model, directory)
    wrapper = _tensors_in_tensors_out(model, ("pooler_output",) if untrained else ())
    calls = [torch_module.bind(wrapper, inputs) for inputs in plan.samples]
    dims = plan.dims if options.dynamic_shapes is None else options.dynamic_shapes
    exported = torch_module.export_module(wrapper, calls, dims, prefix="inner.model.")
    details["dynamic"] = exported.dynamic
    if untrained:
        details["left out"] = "pooler_output, for which there are no trained weights"
    return Imported(
        model=exported.model,
        kind="huggingface",
        name=name,
        details=details,
        samples=exported.samples,
        expected=exported.expected,
    )


def _tensors_in_tensors_out(model: Any, without: tuple[str, ...]) -> Any:
    """``model`` taking tensors by keyword and returning those of its outputs that are tensors."""
    import torch

    class Wrapper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
            outputs = self.model(**inputs, return_dict=True)
            return {
                name: value
                for name, value in outputs.items()
                if isinstance(value, torch.Tensor) and name not in without
            }

    Wrapper.__name__ = type(model).__name__  # what messages call it
    return Wrapper()
