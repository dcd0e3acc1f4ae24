"""The GPU benchmark as far as it goes without a GPU: no figure here is one."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import infopt
from benchmarks import gpu, gpu_forms, gpu_limits, gpu_models, gpu_page
from benchmarks.gpu_forms import COMPILED, Cell, Form
from benchmarks.gpu_limits import Device, Work
from benchmarks.report import DOCS
from infopt.backends import backend_for
from infopt.errors import UnavailableError
from infopt.presets import pipeline_for
from infopt.target import parse_target
from tests.support.small_subject import SMALL, Small, feeds
from tests.support.tensorrt import needs_tensorrt

CPU, CUDA = Device("cpu"), Device("cuda")
CEILINGS = {"bytes_per_s": 1e9, "operations_per_s": {"fp32": 1e9, "fp16": 4e9, "int8": None}}


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Cell:
    return Cell(SMALL, 4, CPU, tmp_path_factory.mktemp("cache"))


# What is measured


def test_the_models_and_batches_are_those_that_were_asked_for() -> None:
    names = {subject.name for subject in gpu_models.subjects()}
    assert names == {
        "BERT-base",
        "BERT-large",
        "ViT-base",
        "ResNet-50",
        "Whisper-base encoder",
        "MiniLM-L6",
        "EfficientNet-lite0",
    }
    cells = list(gpu.planned((), gpu_models.BATCHES, CUDA, Path()))
    assert len(cells) == 21
    assert {cell.batch for cell in cells} == {1, 8, 32}
    only = gpu.planned(("bert", "vit"), (8,), CUDA, Path())
    assert [cell.subject.name for cell in only] == ["BERT-base", "ViT-base", "BERT-large"]


def test_the_same_seed_gives_the_same_inputs() -> None:
    for subject in gpu_models.subjects():
        first, again, other = (subject.feeds(2, seed) for seed in (3, 3, 4))
        assert all(len(array) == 2 for array in first.values())
        assert all(np.array_equal(first[name], again[name]) for name in first)
        assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_engines_stand_beside_all_that_was_asked_for() -> None:
    made = list(gpu_forms.forms(CUDA))
    assert [(f.name, f.precision) for f in made if not f.ours] == [
        ("torch.compile", "fp16"),
        ("torch eager", "fp16"),
        ("ONNX Runtime", "fp32"),
    ]
    assert [(f.name.removeprefix("infopt, "), f.precision) for f in made if f.ours] == [
        ("onnxruntime:cuda", "fp16"),
        ("onnxruntime:cuda with graphs", "fp16"),
        *itertools.product(("tensorrt", "tensorrt-rtx"), ("fp16", "int8", "fp8")),
    ]
    resnet = next(s for s in gpu_models.subjects() if s.name == "ResNet-50")
    assert {f.precision for f in made if not f.fits(resnet)} == {"fp8"}
    for form in made:
        if form.ours:  # the target has that precision
            target = form.name.removeprefix("infopt, ").removesuffix(" with graphs")
            backend = backend_for(parse_target(target))
            assert pipeline_for(backend, form.precision, None, None, data=True).calibrates()


def test_a_target_that_is_not_there_is_a_reason_and_no_crash(tmp_path: Path) -> None:
    cell = Cell(SMALL, 1, CPU, tmp_path)
    for form in gpu_forms.forms(CUDA):
        target = form.name.removeprefix("infopt, ").removesuffix(" with graphs")
        if form.ours and backend_for(parse_target(target)).unavailable() is not None:
            row, call = gpu._judged(form, cell, np.zeros(1))
            assert call is None
            assert len(row["reason"]) > 20
            assert "Error" not in row["reason"]


def test_every_form_computes_what_the_module_does(cell: Cell) -> None:
    expected = gpu_forms.reference(cell)
    with torch.no_grad():
        hidden, _ = Small()(*map(torch.from_numpy, feeds(4, 0).values()))
    np.testing.assert_allclose(expected, hidden.numpy(), rtol=1e-6)
    for form in gpu_forms.forms(CPU):
        if form.name != COMPILED:  # takes a compiler, and minutes
            row, call = gpu._judged(form, cell, expected)
            assert call is not None, row
            assert row["sqnr_db"] > (15 if form.precision == "int8" else 100)


@needs_tensorrt
def test_engines_of_tensorrt_are_built_for_one_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(SMALL, 4, CPU, tmp_path)
    monkeypatch.setattr(gpu_forms, "_require", lambda target: None)
    opened: list[Path] = []

    def load(path: Path) -> infopt.Session:
        opened.append(path)
        raise UnavailableError("only a GPU opens it")

    monkeypatch.setattr(infopt, "load", load)
    for precision in ("int8", "fp16"):
        with pytest.raises(UnavailableError, match="only a GPU opens it"):
            gpu_forms._fixed_engine(cell, target="tensorrt-rtx:sm89", precision=precision)
        manifest = json.loads((opened[-1] / "manifest.json").read_text())
        profile = manifest["build"]["profiles"][0]["x"]
        assert [profile[end] for end in ("least", "usual", "most")] == [[4, 8, 32]] * 3
    names = {path.name for path in (tmp_path / "gpu" / "engines").iterdir()}
    assert "small-one.tensorrt-rtx-sm89.int8.4" in names
    gpu_forms.clear(tmp_path)
    assert not (tmp_path / "gpu" / "engines").exists()
    assert cell.subject.file(tmp_path).exists()  # an export stays


# What a form is found to be


def _form(name: str, call: Any, *, ours: bool = True) -> Form:
    return Form(name, "fp32", lambda _: call, ours=ours)


def test_only_what_is_right_and_steady_is_timed(cell: Cell) -> None:
    right = torch.from_numpy(gpu_forms.reference(cell))
    wrong, unsteady = right.clone(), (right * (1 + 0.05 * (n % 2)) for n in itertools.count())
    wrong[0, 0, 0] += right.abs().max()

    def breaks() -> torch.Tensor:
        raise RuntimeError("out of memory\nat line 7")

    wanted = [
        _form(COMPILED, lambda: right, ours=False),
        _form("wrong", lambda: wrong),
        _form("unsteady", functools.partial(next, unsteady)),
        _form("breaks", breaks),
        # A peer may be as far off as it likes: it is not ours to judge.
        _form("rough", lambda: wrong, ours=False),
        _form("good", lambda: right),
    ]
    found = gpu.measure(cell, wanted, CEILINGS, seconds=0.05)
    rows = {row["form"]: row for row in found["forms"]}
    assert {name for name, row in rows.items() if "seconds" in row} == {COMPILED, "rough", "good"}
    assert rows["wrong"]["reason"].startswith("too far off: error ")
    assert rows["unsteady"]["reason"] == "differs by 4.8e-02 between runs"
    assert rows["breaks"]["reason"] == "RuntimeError: out of memory"
    assert rows["good"]["identical"]
    assert rows["good"]["error"] == 0
    assert rows["good"]["speed"]["low"] <= rows["good"]["speed"]["value"]
    assert rows["good"]["limited_by"] == "products"
    assert found["macs"] == 4 * 8 * 32 * 16
    json.dumps(found)


def test_a_form_with_no_ceiling_has_no_share(cell: Cell) -> None:
    right = torch.from_numpy(gpu_forms.reference(cell))
    form = Form("ours", "fp32", lambda _: lambda: right, ours=True, arithmetic="int8")
    (row,) = gpu.measure(cell, [form], CEILINGS, seconds=0.01)["forms"]
    assert row["seconds"]["median"] > 0
    assert not {"share", "limit_s", "speed"} & set(row)  # nor anything to compare with


# Limits


def test_the_limit_is_whichever_takes_longer() -> None:
    for work, arithmetic, seconds, why in (
        (Work(2_000_000, 10, 4), "fp32", 4e-3, "products"),
        (Work(2_000_000, 10, 4), "fp16", 1e-3, "products"),
        (Work(10, 1_000_000, 4), "fp32", 4.000004e-3, "memory"),
        (Work(10, 1_000_000, 4), "fp16", 2.000004e-3, "memory"),
    ):
        found = work.limit(arithmetic, CEILINGS)
        assert found is not None
        assert found[0] == pytest.approx(seconds)
        assert found[1] == why
    assert Work(1, 1, 1).limit("int8", CEILINGS) is None


def test_tables_that_rows_are_looked_up_in_are_not_read_as_a_whole(cell: Cell) -> None:
    inputs, output = feeds(4, 0), np.zeros((4, 8, 16), np.float32)
    found = gpu_limits.work(SMALL.file(cell.cache), inputs, output)
    assert found.macs == 4 * 8 * 32 * 16
    assert found.weights == 32 * 16 + 16
    assert found.moved == 4 * 8 * 8 + 4 * 8 * 32 * 4 + 4 * 8 * 16 * 4


def test_ceilings_are_taken_of_every_arithmetic_that_there_is() -> None:
    found = gpu_limits.ceilings(CPU)
    assert found["bytes_per_s"] > 0
    assert list(found["operations_per_s"]) == ["fp32", "tf32", "fp16", "int8", "fp8"]
    assert found["operations_per_s"]["fp32"] > 0


# Parts, and the page


def _run(date: str = "2026-01-02", device: str = "cuda") -> dict[str, Any]:
    return {
        "date": date,
        "device": device,
        "gpu": {
            "name": "NVIDIA Made-up",
            "capability": "sm00",
            "memory_bytes": 8 << 30,
            "multiprocessors": 3,
            "driver_version": "1.2",
        },
        "hardware": {"processor": "None", "cores": 4, "system": "Linux"},
        "versions": {"infopt": "0"},
        "ceilings": {"bytes_per_s": 2e12, "operations_per_s": {"fp16": 5e14, "fp8": None}},
    }


def _row(form: str, median: float, compiled: float, **more: Any) -> dict[str, Any]:
    speed = {"value": compiled / median, "low": 0.9, "high": 3.0, "verdict": "faster"}
    return {
        "form": form,
        "precision": "fp16",
        "ours": form.startswith("infopt"),
        "seconds": {"samples": 9, "median": median, "p90": 1.5 * median, "p99": 2 * median},
        "speed": speed,
        "error": 1.2e-3,
        "sqnr_db": 61.4,
        "made_in_s": 12.0,
        "limit_s": 2e-4,
        "limited_by": "memory",
        "share": 2e-4 / median,
        **more,
    }


def _cell(model: str, batch: int, ours: float, compiled: float, run: int = 0) -> dict[str, Any]:
    missing = {"form": "infopt, tensorrt", "precision": "int8", "ours": True, "reason": "no GPU"}
    return {
        "model": model,
        "size": "128 tokens",
        "batch": batch,
        "run": run,
        "macs": 1,
        "weights": 1,
        "forms": [
            _row(COMPILED, compiled, compiled),
            _row("infopt, onnxruntime:cuda", ours, compiled, identical=True),
            _row("infopt, slow", 2 * ours, compiled, identical=False),
            missing,
        ],
    }


def _results() -> dict[str, Any]:
    cells = [_cell("MiniLM-L6", 1, 0.001, 0.0018), _cell("BERT-base", 1, 0.002, 0.002)]
    return {"runs": [_run()], "cells": [*cells, _cell("BERT-base", 8, 0.004, 0.003)]}


def test_the_page_says_what_the_results_say(tmp_path: Path) -> None:
    gpu_page.page(_results()).write(tmp_path)
    text = (tmp_path / "gpu.md").read_text()
    assert "Not measured.**" not in text
    assert (
        "Taken on 2026-01-02, NVIDIA Made-up, sm00, 8 GiB, 3 multiprocessors, driver 1.2, "
        "None, 4 cores, Linux.\nVersions: infopt 0." in text
    )
    assert (
        "| MiniLM-L6 | 128 tokens | 1 | onnxruntime:cuda fp16 | 1.000 ms | 1.800 ms | – | – "
        "| 1.80 | 0.90-3.00 | 20% |" in text
    )
    assert "| Geometric mean |  | 1 |  |  |  |  |  | 1.34 |  |  |" in text
    assert (
        "| BERT-base | 8 | infopt, slow | fp16 | 8.000 ms | 12.000 ms | 0.38 | 0.90-3.00 "
        "| 0.200 ms | memory | 2% | 1e-03 | 61 dB | no | 12 s |" in text
    )
    assert "| NVIDIA Made-up | 2026-01-02 | 2,000 | 500.0 | – |" in text
    assert "| BERT-base | 8 | infopt, tensorrt | int8 | no GPU |" in text
    assert "| BERT-base | 32 | every form |  | there was no time, or no such model here |" in text
    assert text.count("| every form |") == 21 - 3
    document = json.loads((tmp_path / "gpu.json").read_text())
    assert gpu_page.page(document["results"]).render(document) == text
    assert {path.name for path in tmp_path.iterdir()} == {"gpu.md", "gpu.json"}


def test_goals_that_are_missed_are_named() -> None:
    assert gpu_page.goals_missed(_results()) == ["BERT-base × 8: 0.75"]
    slow = {"runs": [_run()], "cells": [_cell("BERT-base", 1, 0.001, 0.0011)]}
    assert gpu_page.goals_missed(slow) == ["the geometric mean at batch 1: 1.10"]
    assert gpu_page.goals_missed({"runs": [], "cells": []}) == []
    failed = _cell("BERT-base", 1, 0.001, 0.0011)
    for row in failed["forms"]:
        if row["ours"]:
            row.pop("seconds", None)
    missed = gpu_page.goals_missed({"runs": [_run()], "cells": [failed]})
    assert missed == ["BERT-base × 1: no engine of infopt's was timed"]


def test_without_a_gpu_the_page_holds_no_figure(tmp_path: Path) -> None:
    gpu_page.page({"runs": [], "cells": []}).write(tmp_path)
    text = (tmp_path / "gpu.md").read_text()
    assert "**Not measured.** No NVIDIA GPU was at hand" in text
    assert "|" not in text.replace("max|a-b| / max|b|", "")


def test_a_rehearsal_is_called_one(tmp_path: Path) -> None:
    results = {"runs": [_run(device="cpu")], "cells": [_cell("MiniLM-L6", 1, 1e-3, 2e-3)]}
    gpu_page.page(results).write(tmp_path)
    assert "**This is a rehearsal on a processor" in (tmp_path / "gpu.md").read_text()


def test_parts_are_merged_and_what_was_taken_again_replaces_what_was() -> None:
    again = {
        "runs": [_run("2026-02-03")],
        "cells": [_cell("BERT-base", 1, 0.001, 0.002), _cell("ViT-base", 1, 0.001, 0.002)],
    }
    both = gpu.merged(_results(), again)
    assert [(c["model"], c["batch"], c["run"]) for c in both["cells"]] == [
        ("MiniLM-L6", 1, 0),
        ("BERT-base", 1, 1),
        ("BERT-base", 8, 0),
        ("ViT-base", 1, 1),
    ]
    assert [run["date"] for run in both["runs"]] == ["2026-01-02", "2026-02-03"]
    # A run of which nothing is left goes.
    all_again = {"runs": [_run("2026-03-04")], "cells": _results()["cells"]}
    assert [run["date"] for run in gpu.merged(_results(), all_again)["runs"]] == ["2026-03-04"]
    assert gpu.merged({"runs": [], "cells": []}, again)["runs"] == again["runs"]


# The command


def _invoke(*arguments: object) -> Any:
    return CliRunner().invoke(gpu.main, [str(word) for word in arguments])


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Lets cells be made up, and tells which."""
    seen: list[tuple[str, int]] = []

    def measure(cell: Cell, wanted: object, found: Mapping[str, Any], *, seconds: float) -> Any:
        seen.append((cell.subject.name, cell.batch))
        made = _cell(cell.subject.name, cell.batch, 1e-3, 2e-3)
        del made["run"]
        return {**made, "size": cell.subject.size}

    monkeypatch.setattr(gpu, "measure", measure)
    monkeypatch.setattr(gpu, "describe_run", lambda device: _run(device=device.kind))
    return seen


def test_without_a_gpu_nothing_is_measured(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    done = _invoke("--output", tmp_path)
    assert done.exit_code == 3
    assert "Nothing was measured: torch sees no CUDA device here" in done.output
    assert "Not measured" in (tmp_path / "gpu.md").read_text()
    # Figures that are there are kept.
    gpu_page.page(_results()).write(tmp_path)
    before = (tmp_path / "gpu.md").read_text()
    assert _invoke("--output", tmp_path).exit_code == 3
    assert (tmp_path / "gpu.md").read_text() == before


def test_a_rehearsal_does_not_touch_the_page() -> None:
    done = _invoke("--device", "cpu", "--output", DOCS)
    assert done.exit_code == 2
    assert "a rehearsal gives no figures for the page" in done.output


def test_cells_are_written_one_by_one_and_resumed(
    tmp_path: Path, measured: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--device", "cpu", "--output", tmp_path, "--cache", tmp_path, "--models", "BERT")
    whole = gpu.measure

    def dies_at_the_third(*arguments: Any, **options: Any) -> Any:
        if len(measured) == 2:
            raise KeyboardInterrupt
        return whole(*arguments, **options)

    monkeypatch.setattr(gpu, "measure", dies_at_the_third)
    assert _invoke(*common).exit_code != 0
    assert len(gpu.read(tmp_path)["cells"]) == 2
    monkeypatch.setattr(gpu, "measure", whole)
    done = _invoke(*common, "--resume")
    assert done.exit_code == 0, done.output
    assert measured == list(itertools.product(("BERT-base", "BERT-large"), (1, 8, 32)))
    results = gpu.read(tmp_path)
    assert len(results["cells"]) == 6
    assert len(results["runs"]) == 2
    assert _invoke(*common, "--resume").exit_code == 0  # nothing is left to do
    assert len(measured) == 6


def test_it_ends_in_time(
    tmp_path: Path, measured: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each look at the clock is 50 seconds after the one before.
    monkeypatch.setattr("benchmarks.gpu.time.monotonic", itertools.count(0.0, 50.0).__next__)
    common = ("--device", "cpu", "--output", tmp_path, "--cache", tmp_path)
    done = _invoke(*common, "--time-budget", 330)
    assert "the time budget ends here; 18 cells are left" in done.output
    assert len(measured) == 3
    assert len(gpu.read(tmp_path)["cells"]) == 3


def test_a_model_that_is_not_installed_costs_nothing_else(
    tmp_path: Path, measured: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = gpu.measure

    def some(cell: Cell, *rest: Any, **options: Any) -> Any:
        if cell.subject.name == "MiniLM-L6":
            raise ModuleNotFoundError("it is not installed; pip install it")
        return whole(cell, *rest, **options)

    monkeypatch.setattr(gpu, "measure", some)
    done = _invoke("--device", "cpu", "--output", tmp_path, "--cache", tmp_path, "--batches", 1)
    assert done.exit_code == 0, done.output
    assert "not measured: it is not installed; pip install it" in done.output
    assert len(gpu.read(tmp_path)["cells"]) == 6


def test_files_of_other_machines_are_merged(tmp_path: Path) -> None:
    gpu_page.page(_results()).write(tmp_path / "a")
    other = {"runs": [_run("2026-02-03")], "cells": [_cell("ViT-base", 1, 1e-3, 2e-3)]}
    gpu_page.page(other).write(tmp_path / "b")
    done = _invoke("--merge", tmp_path / "b/gpu.json", "--output", tmp_path / "a")
    assert done.exit_code == 0, done.output
    assert len(gpu.read(tmp_path / "a")["cells"]) == 4
