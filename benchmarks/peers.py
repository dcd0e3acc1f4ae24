"""infopt beside the other optimizers for ONNX Runtime, on one processor, at fp32.

``python -m benchmarks.peers`` prints the table and writes docs/benchmarks/peers.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import logging
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

import infopt
from benchmarks.models import CACHE, ZOO, Feeds
from benchmarks.report import DOCS, Page
from benchmarks.speed import Series, pairs, relative
from infopt.evidence.metrics import difference
from infopt.measure.statistics import Ratio, ratio_of_medians

LOWEST_SPEED = 0.98
MEAN_SPEED = 1.05
LARGEST_ERROR = 1e-4
SLOW = 1.0
"""Seconds of a call from which on one pair of sessions is timed."""

METHOD = f"""\
Every optimizer gets the same ONNX file: what PyTorch's exporter writes of the model with the
attention that `transformers` uses by default. Its result runs in a default session of ONNX Runtime;
infopt's is what `infopt.load` returns. BERT, ViT, Whisper, LLaMA and ResNet have random weights,
MiniLM and EfficientNet trained ones. infopt and one peer at a time are timed in one run, call by
call in shuffled order, in several pairs of new sessions (one, where a call takes more than a
second). *Speed* is the median call of the fastest
peer over that of infopt, with the 95 % interval of a bootstrap; the columns behind it give the same
for each peer ("–": it refuses the model, or its result does not run). *Error* is the largest
`max|a-b| / max|b|` of the outputs, against the original with ONNX Runtime's optimizations off.
Rows with a star were taken again on their own, for longer (`--only MODEL --again`), after a run of
all models.
The goals are {LOWEST_SPEED} in every row and {MEAN_SPEED} in the geometric mean."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model, as a file, and its inputs."""

    name: str
    size: str
    file: Callable[[Path], Path]
    """Where the file is, made if need be in the folder that is given."""
    feeds: Callable[[int], Feeds]
    """Inputs for a batch size."""
    kind: str
    """What ONNX Runtime's transformer optimizer is told."""


def _random(
    name: str, make: Callable[[], Any], inputs: Callable[[int], Feeds], free: str = ""
) -> Any:
    """A model of ``transformers`` with random weights, exported once."""

    def file(cache: Path) -> Path:
        path = cache / f"{name}.onnx"
        if not path.exists():
            _export(make(), inputs(2), free, path)
        return path

    return file


def _export(model: Any, feeds: Feeds, free: str, path: Path) -> None:
    import torch

    names = list(feeds)

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> Any:
            return self.model(**dict(zip(names, inputs, strict=True)))[0]

    batch, sequence = torch.export.Dim("batch", max=64), torch.export.Dim("sequence", max=512)
    shapes = [{0: batch, 1: sequence} if name in free.split() else {0: batch} for name in names]
    with quiet():
        program = torch.onnx.export(
            First().eval(),
            tuple(torch.from_numpy(feeds[name]) for name in names),
            dynamo=True,
            input_names=names,
            dynamic_shapes={"inputs": tuple(shapes)},
            verbose=False,
        )
        assert program is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        program.save(str(path), external_data=False)


def _build(
    model: str, config: Mapping[str, Any] | None = None, part: str = ""
) -> Callable[[], Any]:
    def make() -> Any:
        import torch
        import transformers

        torch.manual_seed(0)
        cls = getattr(transformers, model)
        built = cls(cls.config_class(**(config or {})))
        return getattr(built, part) if part else built

    return make


def _text(length: int, batch: int) -> Feeds:
    rng = np.random.default_rng(0)
    mask = np.ones((batch, length), np.int64)
    return {"input_ids": rng.integers(5, 1000, (batch, length)), "attention_mask": mask}


def _array(name: str, *shape: int) -> Callable[[int], Feeds]:
    def feeds(batch: int) -> Feeds:
        rng = np.random.default_rng(0)
        return {name: rng.normal(0, 1, (batch, *shape)).astype(np.float32)}

    return feeds


_TEXT = "input_ids attention_mask"
_BERT = _random("bert-base", _build("BertModel"), functools.partial(_text, 16), _TEXT)
_IMAGE = _array("pixel_values", 3, 224, 224)
_SOUND = _array("input_features", 80, 3000)
_WHISPER = {
    "d_model": 512,
    "encoder_layers": 6,
    "decoder_layers": 1,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
}
_LLAMA = {
    "hidden_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 2816,
    "vocab_size": 1000,
    "use_cache": False,
}


def subjects() -> Iterator[Subject]:
    yield Subject("BERT-base", "128 tokens", _BERT, functools.partial(_text, 128), "bert")
    yield Subject("BERT-base", "512 tokens", _BERT, functools.partial(_text, 512), "bert")
    vit = _random("vit-base", _build("ViTModel"), _IMAGE)
    yield Subject("ViT-base", "224 pixels", vit, _IMAGE, "vit")
    resnet = _random("resnet-50", _build("ResNetModel"), _IMAGE)
    yield Subject("ResNet-50", "224 pixels", resnet, _IMAGE, "bert")
    whisper = _random("whisper-base", _build("WhisperModel", _WHISPER, "encoder"), _SOUND)
    yield Subject("Whisper-base encoder", "30 s", whisper, _SOUND, "bart")
    llama = _random("llama-4", _build("LlamaModel", _LLAMA), functools.partial(_text, 16), _TEXT)
    yield Subject("LLaMA, 4 layers", "256 tokens", llama, functools.partial(_text, 256), "gpt2")
    for model in ZOO:
        if "MiniLM" in model.name or "EfficientNet" in model.name:
            yield Subject(
                model.name,
                f"{model.sizes[0]} {model.unit}",
                lambda cache, model=model: model.original(cache),  # type: ignore[misc]
                lambda batch, model=model: model.feeds(  # type: ignore[misc]
                    batch, model.sizes[0], np.random.default_rng(0)
                ),
                "bert",
            )


def _slim(source: Path, target: Path, kind: str) -> None:
    del kind
    import onnxslim

    onnxslim.slim(str(source), str(target))


def _script(source: Path, target: Path, kind: str) -> None:
    del kind
    import onnx_ir
    from onnxscript import optimizer
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    model = onnx_ir.load(source)
    optimizer.optimize(model)
    result = optimize_for_ort(model)
    onnx_ir.save(result[0] if isinstance(result, tuple) else result, target)


def _transformers(source: Path, target: Path, kind: str) -> None:
    from onnxruntime.transformers.optimizer import optimize_model

    optimize_model(str(source), model_type=kind, use_gpu=False).save_model_to_file(str(target))


DEFAULT = "ORT default"
PEERS: Mapping[str, Callable[[Path, Path, str], None] | None] = {
    DEFAULT: None,
    "ORT transformers": _transformers,
    "onnxscript": _script,
    "onnxslim": _slim,
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One model at one batch size."""

    subject: Subject
    batch: int
    error: float
    ratios: Mapping[str, Ratio | None]
    """How many times as fast as each peer infopt is; ``None`` where the peer fails."""

    @property
    def best(self) -> Ratio:
        """The ratio to the fastest peer."""
        return min((r for r in self.ratios.values() if r is not None), key=lambda r: r.value)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "model": self.subject.name,
            "size": self.subject.size,
            "batch": self.batch,
            "largest_relative_error": self.error,
            "speed": self.best.as_dict(),
            "peers": {k: None if r is None else r.as_dict() for k, r in self.ratios.items()},
        }


def measure(
    subject: Subject, batch: int, cache: Path, *, threads: int, seconds: float, sessions: int
) -> Row:
    """Time infopt beside every peer."""
    original = subject.file(cache)
    feeds = subject.feeds(batch)
    engine = cache / f"{original.stem}.infopt"
    if not engine.exists():
        infopt.optimize(original, engine, measure=False, threads=threads, verify=False)

    def ours() -> Callable[[], object]:
        return functools.partial(infopt.load(engine, threads=threads), feeds)

    expected = open_session(original, threads, optimize=False).run(None, feeds)
    found = list(infopt.load(engine, threads=threads)(feeds).values())
    error = max(difference(a, b).max_relative for a, b in zip(found, expected, strict=True))
    # A session that takes seconds for a call does not depend on where its memory lies.
    count = 1 if _seconds(ours()) > SLOW else sessions
    ratios: dict[str, Ratio | None] = {}
    for name, make in PEERS.items():
        file = _peer(name, make, subject, original)
        if file is None or not _runs(file, threads, feeds):
            ratios[name] = None
            continue
        theirs = functools.partial(_bound, file, threads, feeds)
        first, second = pairs(theirs, ours, count=count, seconds=seconds / count)
        ratios[name] = ratio(first, second)
    return Row(subject, batch, error, ratios)


def _seconds(call: Callable[[], object]) -> float:
    """How long the second call takes."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def ratio(theirs: Series, ours: Series) -> Ratio:
    return ratio_of_medians(relative(theirs, theirs), relative(ours, theirs), noise=0.0)


def _peer(
    name: str, make: Callable[[Path, Path, str], None] | None, subject: Subject, original: Path
) -> Path | None:
    """The file that a peer makes of the original; ``None`` if it fails."""
    if make is None:
        return original
    target = original.with_name(f"{original.stem}.{name.replace(' ', '-')}.onnx")
    if not target.exists():
        try:
            with quiet():
                make(original, target, subject.kind)
        except Exception as error:
            click.echo(f"{name}: {type(error).__name__}: {error}"[:200], err=True)
            return None
    return target


def _runs(file: Path, threads: int, feeds: Feeds) -> bool:
    try:
        _bound(file, threads, feeds)()
    except Exception as error:
        click.echo(f"{file.name}: {error}"[:200], err=True)
        return False
    return True


def _bound(file: Path, threads: int, feeds: Feeds) -> Callable[[], object]:
    session = open_session(file, threads)
    wanted = {value.name: feeds[value.name] for value in session.get_inputs()}
    return functools.partial(session.run, None, wanted)


def open_session(file: Path, threads: int, *, optimize: bool = True) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def mean(rows: list[dict[str, Any]]) -> float:
    """The geometric mean of all speeds."""
    return math.exp(sum(math.log(row["speed"]["value"]) for row in rows) / len(rows))


def page(results: Mapping[str, Any]) -> Page:
    """The results as a table."""
    rows = results["rows"]
    header = ["Model", "Size", "Batch", "Speed", "Interval", *PEERS, "Error"]
    lines = []
    for row in rows:
        speed = row["speed"]
        lines.append(
            [
                row["model"] + " *" * row.get("again", False),
                row["size"],
                str(row["batch"]),
                f"{speed['value']:.3f}",
                f"{speed['low']:.3f}-{speed['high']:.3f}",
                *("–" if r is None else f"{r['value']:.2f}" for r in row["peers"].values()),
                f"{row['largest_relative_error']:.0e}",
            ]
        )
    lines.append(["Geometric mean", "", "", f"{mean(rows):.3f}", *[""] * (len(PEERS) + 2)])
    return Page(
        name="peers",
        title="infopt beside other optimizers for ONNX Runtime on a CPU",
        command="python -m benchmarks.peers",
        method=METHOD,
        tables=[(f"Speed, {results['threads']} threads", header, lines)],
        results=results,
        extra_versions=versions("onnxscript", "onnxslim"),
    )


def replaced(rows: list[dict[str, Any]], by: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``rows``, those of them that were taken again as they came out then."""
    new = {_which(row): {**row, "again": True} for row in by}
    return [new.get(_which(row), row) for row in rows]


def _which(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return row["model"], row["size"], row["batch"]


def versions(*names: str) -> dict[str, str]:
    """The versions of those that are installed."""
    from importlib import metadata

    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=DOCS, show_default=True)
@click.option("--seconds", default=16.0, show_default=True, help="For each cell and peer.")
@click.option("--sessions", default=4, show_default=True, help="Pairs of sessions.")
@click.option("--threads", default=None, type=int, help="By default every core.")
@click.option("--only", default="", help="Models whose name contains this; nothing is written …")
@click.option("--again", is_flag=True, help="… but their rows, in the place of those on the page.")
def main(
    cache: Path,
    output: Path,
    seconds: float,
    sessions: int,
    threads: int | None,
    only: str,
    again: bool,
) -> None:
    """Time infopt beside its peers; exit code 1 if it misses a goal."""
    threads = threads or len(os.sched_getaffinity(0))
    rows = []
    for subject in subjects():
        for batch in (1, 8) if only.lower() in subject.name.lower() else ():
            row = measure(
                subject, batch, cache, threads=threads, seconds=seconds, sessions=sessions
            )
            rows.append(row.as_dict())
            best = row.best
            each = {k: None if r is None else round(r.value, 3) for k, r in row.ratios.items()}
            click.echo(f"{subject.name} {subject.size} × {batch}: {best.value:.3f} {each}")
    if again:
        rows = replaced(json.loads((output / "peers.json").read_text())["results"]["rows"], rows)
    report = page({"threads": threads, "rows": rows})
    report.print()
    if again or not only:
        report.write(output)
    slow = [row for row in rows if row["speed"]["value"] < LOWEST_SPEED]
    if slow or mean(rows) < MEAN_SPEED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
