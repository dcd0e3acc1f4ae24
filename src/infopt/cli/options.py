"""What several commands share: their base class, and options that are explained once."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import click


class Command(click.Command):
    """A command whose work cannot write to stdout: that is for the answer alone.

    Exporters and runtimes print as they please, from Python and from C; while a command works,
    all of it goes to stderr. Their warnings are addressed to developers and stay unheard; what
    matters to a user comes back as an error.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command's function."""
        with _stdout_to_stderr(), _libraries_silenced():
            return super().invoke(ctx)


@contextlib.contextmanager
def _libraries_silenced() -> Iterator[None]:
    last_resort = logging.lastResort
    with warnings.catch_warnings():
        if not sys.warnoptions:  # `python -W …` asks to hear them
            warnings.simplefilter("ignore")
        logging.lastResort = logging.NullHandler()  # it prints what nobody else handles
        try:
            yield
        finally:
            logging.lastResort = last_resort


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    real = None not in (sys.stdout, sys.stderr) and sys.stdout is sys.__stdout__
    kept = os.dup(1) if real else -1
    try:
        if real:
            sys.stdout.flush()
            os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if real:
            os.dup2(kept, 1)
            os.close(kept)


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,  # read where every command ends, not by the command
    help="Print one JSON document on stdout.",
)

shape_option = click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=1x128",
    help="Sizes of an input, x=1x128, or ranges, x=1..8x1..512, with usual sizes for TensorRT, "
    "x=1..8x1..512@4x128; or of a dynamic dimension, batch=8. Repeatable.",
)

data_option = click.option(
    "--data",
    metavar="NPZ|DIR|MODULE:FUNC",
    help="Real inputs: an .npz file, a folder of them, or a function that yields dictionaries. "
    "Without it, seeded synthetic inputs.",
)

target_option = click.option(
    "--target", default="onnxruntime:cpu", show_default=True, help="What to compile for."
)

precision_option = click.option(
    "--precision",
    default="fp32",
    show_default=True,
    help="What the engine computes in: fp32 leaves every type as it is; fp16 and bf16 are for "
    "GPUs; int8 needs --data; int8-dynamic does without and finds ranges of linear layers as it "
    "runs; int8-trained computes with the integers that a model was trained for; int4 stores the "
    "weights of linear layers in 4 bits, with --data more exactly.",
)

scheme_option = click.option(
    "--scheme",
    metavar="OPTIONS",
    help="How to quantize, as in block=128,algorithm=awq.  [default: the target's preset]",
)

synthetic_calibration_option = click.option(
    "--synthetic-calibration",
    is_flag=True,
    help="Without --data, calibrate on made-up inputs; the manifest says so.",
)

calibration_option = click.option(
    "--calibration",
    metavar="FILE",
    help="What `infopt calibrate` saw, instead of running the data once more.",
)

metric_option = click.option(
    "--metric",
    metavar="MODULE:FUNC",
    help="How good outputs are: a function of two lists, the outputs and the inputs of the samples "
    "as dictionaries; it returns a number, higher is better.",
)

expect_option = click.option(
    "--expect",
    metavar="OPERATOR=N,…",
    help="How many of an operator there have to be at least after raising, as in "
    "Attention=12,LayerNormalization=25; with fewer the command fails.",
)

reference_option = click.option(
    "--reference",
    metavar="MODEL",
    help="The model that the engine was made from.  [default: where it was, or as it is called]",
)

task_option = click.option("--task", help="For Hugging Face: what the model does.")

remote_code_option = click.option(
    "--trust-remote-code", is_flag=True, help="Allow code that lies in a Hugging Face directory."
)

verbose_option = click.option("-v", "--verbose", is_flag=True, help="Show every detail.")

seed_option = click.option(
    "--seed", type=int, default=0, show_default=True, help="Of the synthetic inputs."
)

threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads of one operator; by default every core.",
)


def _pairs(
    ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise click.BadParameter("write KEY=VALUE", ctx, parameter)
    return {key: value for key, _, value in pairs}


provider_option = click.option(
    "--provider-option",
    "provider_options",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_pairs,
    help="The runtime's own options for the device, such as device_id=1; for TensorRT, of the "
    "build, such as workspace=4GiB. Repeatable.",
)

signature_option = click.option(
    "--require-signature",
    "trusted",
    multiple=True,
    metavar="KEY.pub",
    help="Load engines only if this public key, or another one that is named so, has signed them. "
    "Repeatable.",
)

tolerance_option = click.option(
    "--tolerance",
    type=float,
    metavar="ERROR",
    help="Largest relative error of an output, max|a-b| / max|b|.  [default: 1e-4 at fp32]",
)

min_sqnr_option = click.option(
    "--min-sqnr",
    "least_sqnr",
    type=float,
    metavar="DB",
    help="Least signal-to-noise ratio of an output.  [default: by the precision]",
)

report_option = click.option(
    "--report",
    metavar="FILE.html",
    help="Write all that was found as one HTML file that opens anywhere.",
)

quiet_option = click.option(
    "-q", "--quiet", is_flag=True, help="Show neither progress nor the report."
)
