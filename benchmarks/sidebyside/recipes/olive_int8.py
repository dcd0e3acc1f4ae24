"""``olive optimize --precision int8``: its own configuration, calibrated on our samples.

As it is, the command calibrates on wikitext from the hub, with the CUDA provider. Its ``--dry_run``
writes the configuration instead, which is run with these two lines changed.

https://microsoft.github.io/Olive/how-to/cli/cli-optimize.html
"""

from __future__ import annotations

import json
import os
from typing import Any

from olive.cli.api import optimize as olive_optimize
from olive.cli.api import run
from olive.data.registry import Registry

from benchmarks.sidebyside.job import Job
from benchmarks.sidebyside.recipes.ort import optimized as load

__all__ = ["load", "optimize"]


def optimize(job: Job) -> None:
    os.chdir(job.directory.parent)  # where it leaves its cache
    options: dict[str, Any] = {
        "device": "cpu",
        "provider": "CPUExecutionProvider",
        "precision": "int8",
        "output_path": str(job.directory),
        "disable_telemetry": True,
    }
    olive_optimize(str(job.model), dry_run=True, **options)
    written = job.directory / "config.json"
    config = json.loads(written.read_text())
    written.unlink()
    samples = list(job.samples())
    Registry.register_dataset("samples")(lambda **_: [(sample, 0) for sample in samples])
    (data,) = config["data_configs"]
    config["data_configs"] = [
        {
            "name": data["name"],
            "type": "DataContainer",
            "load_dataset_config": {"type": "samples"},
            "dataloader_config": {"type": "no_auto_batch_dataloader"},
        }
    ]
    config["passes"]["onnx_static_quantization"]["calibration_providers"] = ["CPUExecutionProvider"]
    run(config)
