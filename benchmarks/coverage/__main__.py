"""Makes the coverage matrix and its page."""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

from benchmarks.coverage import page
from benchmarks.coverage.families import FAMILIES, cells
from benchmarks.coverage.matrix import evaluate_by_name
from infopt import provenance


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--only", default="", metavar="TEXT", help="cells whose name has it")
    parser.add_argument("--cache", type=Path, default=Path("build/coverage"), help="exports")
    parser.add_argument("--jobs", "-j", type=int, default=2, metavar="N")
    options = parser.parse_args()
    chosen = [cell for family in FAMILIES for cell in cells(family) if options.only in cell.name]
    results: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context) as pool:
        names = [cell.name for cell in chosen]
        for cell_result in pool.map(evaluate_by_name, names, repeat(options.cache)):
            result = dataclasses.asdict(cell_result)
            results.append(result)
            found, expected = sum(result["found"].values()), sum(result["expected"].values())
            what = result["error"] or f"{found}/{expected}  {result['difference']:.0e}"
            print(f"{result['cell']:42} {what}", flush=True)
            for miss in result["misses"]:
                print(f"{'':42} {miss}")
    found, expected = page.totals(results)
    print(f"{found} of {expected} sites")
    if not options.only:
        page.write({"versions": _versions(), "cells": results})


def _versions() -> dict[str, str]:
    wanted = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime")
    known = provenance.versions()
    return {name: known[name] for name in wanted if name in known}


if __name__ == "__main__":
    main()
