"""int8 engines beside ONNX Runtime's own int8 recipes, on one processor.

``python -m benchmarks.precision`` prints the tables and writes docs/benchmarks/precision.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

import infopt
from benchmarks import data
from benchmarks.models import CACHE, ZOO, Feeds, minilm
from benchmarks.report import DOCS, Page, versions
from benchmarks.sessions import open_session, quiet
from benchmarks.sidebyside.job import Job
from benchmarks.speed import pairs, ratio
from benchmarks.subjects import SUBJECTS
from infopt.measure.statistics import Ratio

METHOD = """\
All get the ONNX file that PyTorch's exporter writes, and the same inputs to calibrate on. *Static*
is `onnxruntime.quantization.quantize_static` with QDQ, uint8 activations, int8 weights of a scale
for each channel, after its own pre-processing, on the operators that are named; *dynamic* is
`quantize_dynamic` after ONNX Runtime's transformer optimizer; *infopt, dynamic* is infopt without
data. infopt and one recipe at a time are
timed in one run, call by call in shuffled order, in several pairs of new sessions. *Speed* is the
median call of the recipe over that of infopt, with the 95 % interval of a bootstrap; *over fp32*
the same for ONNX Runtime's default at fp32. SQNR, cosine and agreement are those of each against
fp32, on inputs that nothing was calibrated on: EfficientNet, calibrated on crops of ten
photographs, on crops of twenty pictures of ImageNet and on others of the photographs (agreement of
the class with the highest score), MiniLM on tweets and Amazon reviews (cosine of the sentence
embeddings; accuracy of a logistic regression on them, in five folds). BERT, ViT and
ResNet have random weights: they tell the speed, and of accuracy only that nothing broke."""

_CALIBRATION = 300
"""So many tweets are for calibration, and not judged on."""

Run = Callable[[Feeds], list[np.ndarray]]
Recipe = Callable[[Job], None]
"""Of ``benchmarks.sidebyside``: reads a model, writes a quantized one."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model, its recipes, and how right a quantized form of it is."""

    name: str
    file: Callable[[Path], Path]
    feeds: Callable[[int], Feeds]
    calibration: Callable[[], Sequence[Feeds]]
    recipes: Mapping[str, Recipe]
    batches: tuple[int, ...]
    judge: Callable[[Run, Run], dict[str, float]]
    """A quantized form and fp32 → figures."""
    kind: str = "bert"
    dynamic: bool = False
    """Whether there is an engine of int8-dynamic, too."""


def _static(*operators: str) -> Recipe:
    from benchmarks.sidebyside.recipes import ort_static

    return lambda job: ort_static.quantize(job, operators)


def _dynamic() -> Recipe:
    from benchmarks.sidebyside.recipes import ort_dynamic

    return ort_dynamic.optimize


def _plain(samples: Sequence[Feeds], computed: Run, expected: Run) -> dict[str, float]:
    """SQNR and cosine of the first output."""
    a = np.concatenate([computed(sample)[0].ravel() for sample in samples]).astype(np.float64)
    b = np.concatenate([expected(sample)[0].ravel() for sample in samples]).astype(np.float64)
    return {
        "sqnr_db": float(10 * np.log10(np.sum(b * b) / np.sum((a - b) ** 2))),
        "cosine": float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)),
    }


def _classes(computed: Run, expected: Run) -> dict[str, float]:
    """SQNR of the logits, and how often the same class has the highest score: 400 crops each.

    Of pictures that nothing was calibrated on, and of other crops of those that it was.
    """
    found = {}
    for ending, source in (("", data.pictures()), ("_photos", data.photos())):
        crops = data.crops(400, 1, source)
        samples = [{"inputs": crops[at : at + 20]} for at in range(0, 400, 20)]
        pairs_ = [(computed(sample)[0], expected(sample)[0]) for sample in samples]
        a, b = (np.concatenate(both).astype(np.float64) for both in zip(*pairs_, strict=True))
        found[f"sqnr_db{ending}"] = float(10 * np.log10(np.sum(b * b) / np.sum((a - b) ** 2)))
        found[f"agreement{ending}"] = float(np.mean(a.argmax(axis=1) == b.argmax(axis=1)))
    return found


@functools.cache
def _corpus(name: str) -> tuple[list[Feeds], np.ndarray]:
    """Tokens of all sentences, in a shuffled order, and whether they are positive."""
    texts, positive = data.sentences(name)
    order = np.random.default_rng(0).permutation(len(texts))
    return data.tokens([texts[at] for at in order], minilm(), 128), positive[order]


def _sentences(computed: Run, expected: Run) -> dict[str, float]:
    """Mean cosine of embeddings; accuracy of a classifier on them, less that at fp32.

    Of five folds each is classified by what the other four have taught: one part of the sentences
    alone would leave half a point to chance.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    found: dict[str, float] = {}
    cosines = []
    for name in ("tweets", "amazonReviewSnippets"):
        tokens, positive = _corpus(name)
        if name == "tweets":
            tokens, positive = tokens[_CALIBRATION:], positive[_CALIBRATION:]
        scores = []
        for run in (expected, computed):
            rows = np.stack([_embedding(run(sample)[0]) for sample in tokens])
            folds = StratifiedKFold(5, shuffle=True, random_state=0)
            said = cross_val_predict(LogisticRegression(max_iter=1000), rows, positive, cv=folds)
            scores.append((float(np.mean(said == positive)), rows))
        (exact, a), (rounded, b) = scores
        found[name] = rounded
        found[f"{name}_lost"] = exact - rounded
        cosines.append(np.sum(a * b, axis=1))
    return {"cosine": float(np.concatenate(cosines).mean()), **found}


def _embedding(states: np.ndarray) -> np.ndarray:
    mean = states[0].mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


def _tweets() -> list[Feeds]:
    return _corpus("tweets")[0][:_CALIBRATION]


def _photos() -> list[Feeds]:
    return [{"inputs": crop[None]} for crop in data.crops(40, seed=0)]


def _subjects() -> Iterator[Subject]:
    zoo = {model.name: model for model in ZOO}
    lite, mini = zoo["EfficientNet-lite0"], zoo["MiniLM-L6"]
    rng = np.random.default_rng(0)
    yield Subject(
        "EfficientNet-lite0",
        lite.original,
        lambda batch: lite.feeds(batch, 224, rng),
        _photos,
        {"static": _static()},
        (1, 8),
        _classes,
    )
    yield Subject(
        "MiniLM-L6, 64 tokens",
        mini.original,
        lambda batch: mini.feeds(batch, 64, rng),
        _tweets,
        {"dynamic": _dynamic(), "static, MatMul": _static("MatMul")},
        (1, 32),
        _sentences,
        dynamic=True,
    )
    for subject in SUBJECTS:
        if subject.name not in ("BERT-base", "ViT-base", "ResNet-50"):
            continue
        size = subject.sizes[0]
        network = not subject.kind
        recipes = {
            "dynamic": _dynamic(),
            "static, MatMul": _static("MatMul", "Gemm"),
            "static, MatMul and Add": _static("MatMul", "Gemm", "Add"),
        }
        yield Subject(
            f"{subject.name}, {subject.size(size)}",
            subject.file,
            lambda batch, subject=subject, size=size: subject.feeds(batch, size, 0),  # type: ignore[misc]
            subject.samples,
            {"static": _static()} if network else recipes,
            (1, 8),
            functools.partial(_plain, subject.unseen()),
            subject.kind,
        )


def measure(
    subject: Subject, cache: Path, *, threads: int, seconds: float, sessions: int
) -> dict[str, Any]:
    """Make every form of a model, judge it, and time infopt beside each other one."""
    original = subject.file(cache)
    engine = cache / f"{original.stem}.int8.infopt"
    samples = list(subject.calibration())
    wanted = _inputs(original)
    built = infopt.optimize(
        original,
        engine,
        precision="int8",
        data=[{name: sample[name] for name in wanted} for sample in samples],
        measure=False,
        threads=threads,
    )

    def fp32(file: Path = original) -> Run:
        return _runner(file, threads)

    def load(path: Path = engine) -> Run:
        session = infopt.load(path, threads=threads)
        return lambda feeds: list(session({name: feeds[name] for name in wanted}).values())

    forms = {"infopt": load, "fp32": fp32}
    if subject.dynamic:
        path = cache / f"{original.stem}.int8-dynamic.infopt"
        infopt.optimize(original, path, precision="int8-dynamic", measure=False, threads=threads)
        forms[_DYNAMIC] = functools.partial(load, path)
    for name, recipe in subject.recipes.items():
        directory = cache / f"{original.stem}.{name.replace(' ', '-').replace(',', '')}"
        target = directory / "model.onnx"
        if not target.exists():
            shown = [{n: s[n] for n in wanted} for s in samples]
            job = Job.of(original, directory, threads=threads, kind=subject.kind, samples=shown)
            with quiet():
                recipe(job)
        forms[name] = functools.partial(fp32, target)
    exact = fp32()
    rows: dict[str, Any] = {
        name: {"quality": None if name == "fp32" else subject.judge(make(), exact), "speed": {}}
        for name, make in forms.items()
    }
    for batch in subject.batches:
        feeds = subject.feeds(batch)
        for name, make in forms.items():
            if name == "infopt":
                continue
            speed = _beside(make, load, feeds, seconds=seconds, sessions=sessions)
            rows[name]["speed"][str(batch)] = speed.as_dict()
            click.echo(f"{subject.name} × {batch} beside {name}: {speed.value:.3f}")
    return {"model": subject.name, "outcome": built.manifest.evidence["outcome"], "forms": rows}


def _beside(
    make: Callable[[], Run], ours: Callable[[], Run], feeds: Feeds, *, seconds: float, sessions: int
) -> Ratio:
    theirs, mine = pairs(
        lambda: functools.partial(make(), feeds),
        lambda: functools.partial(ours(), feeds),
        count=sessions,
        seconds=seconds / sessions,
    )
    return ratio(theirs, mine)


def _inputs(file: Path) -> list[str]:
    import onnx

    return [value.name for value in onnx.load(file, load_external_data=False).graph.input]


def _runner(file: Path, threads: int) -> Run:
    session = open_session(file, threads)
    names = [value.name for value in session.get_inputs()]
    return lambda feeds: list(session.run(None, {name: feeds[name] for name in names}))


def page(results: Mapping[str, Any]) -> Page:
    """The results as tables."""
    tables = []
    for row in results["models"]:
        figures = list(dict.fromkeys(k for f in row["forms"].values() for k in f["quality"] or ()))
        batches = list(row["forms"]["fp32"]["speed"])
        header = ["Form", *(_WORDS.get(name, name) for name in figures)]
        header += [word for batch in batches for word in (f"Speed × {batch}", "Interval")]
        lines = []
        for name, form in row["forms"].items():
            quality = form["quality"] or {}
            cells = [_figure(key, quality[key]) if key in quality else "–" for key in figures]
            for batch in batches:
                speed = form["speed"].get(batch)
                cells += (
                    ["1", ""]
                    if speed is None
                    else [
                        f"{speed['value']:.2f}",
                        f"{speed['low']:.2f}-{speed['high']:.2f}",
                    ]
                )
            lines.append([f"**{name}**" if name == "infopt" else name, *cells])
        tables.append((row["model"], header, lines))
    lines = [
        [model, f"{best:.3f}"]
        for model, best in (
            *((row["model"], _best(row)) for row in results["models"]),
            ("Geometric mean of BERT, ViT, ResNet", mean(results["models"])),
        )
    ]
    tables.append(("infopt beside the fastest int8 recipe", ["Model", "Speed"], lines))
    return Page(
        name="precision",
        title=f"int8 in ONNX Runtime, {results['threads']} threads of a CPU",
        command="python -m benchmarks.precision",
        method="\n\n".join(filter(None, [METHOD, results.get("note")])),
        tables=tables,
        results=results,
        extra_versions=versions("scikit-learn"),
    )


_DYNAMIC = "infopt, dynamic"
_NO_RECIPES = ("infopt", _DYNAMIC, "fp32")

_WORDS = {
    "sqnr_db": "SQNR",
    "cosine": "Cosine",
    "agreement": "Top-1",
    "sqnr_db_photos": "SQNR, photos",
    "agreement_photos": "Top-1, photos",
    "tweets": "Tweets",
    "amazonReviewSnippets": "Amazon",
    "tweets_lost": "lost",
    "amazonReviewSnippets_lost": "lost ",
}


def _figure(name: str, value: float) -> str:
    if name.startswith("sqnr_db"):
        return f"{value:.1f} dB"
    return f"{value:.4f}" if name == "cosine" else f"{value:.2%}"


def _best(row: Mapping[str, Any]) -> float:
    """The speed beside the fastest recipe, over the batch sizes."""
    ratios = [f["speed"] for name, f in row["forms"].items() if name not in _NO_RECIPES]
    least = [min(speed[batch]["value"] for speed in ratios) for batch in ratios[0]]
    return math.exp(sum(map(math.log, least)) / len(least))


def mean(rows: Sequence[Mapping[str, Any]]) -> float:
    """The geometric mean over the three large models."""
    large = [_best(row) for row in rows if row["model"].split("-")[0] in ("BERT", "ViT", "ResNet")]
    return math.exp(sum(map(math.log, large)) / len(large)) if large else math.nan


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=DOCS, show_default=True)
@click.option("--seconds", default=8.0, show_default=True, help="For each batch and recipe.")
@click.option("--sessions", default=4, show_default=True, help="Pairs of sessions.")
@click.option("--threads", default=None, type=int, help="By default every core.")
@click.option("--only", default="", help="Models whose name contains this; nothing is written.")
def main(
    cache: Path, output: Path, seconds: float, sessions: int, threads: int | None, only: str
) -> None:
    """Judge and time int8 engines beside ONNX Runtime's recipes."""
    threads = threads or len(os.sched_getaffinity(0))
    rows = []
    for subject in _subjects():
        if only.lower() in subject.name.lower():
            found = measure(subject, cache, threads=threads, seconds=seconds, sessions=sessions)
            for name, form in found["forms"].items():
                click.echo(f"{subject.name} {name}: {form['quality']}")
            rows.append(found)
    report = page({"threads": threads, "models": rows})
    with contextlib.suppress(UnicodeEncodeError):
        report.print()
    if not only:
        report.write(output)


if __name__ == "__main__":
    main()
