"""Options that several commands share, so that each is spelled and explained once."""

from __future__ import annotations

import click

json_option = click.option(
    "--json",
    "as_json",
    is_flag=True,
    expose_value=False,  # read where every command ends, not by the command
    help="Print one JSON document on stdout.",
)

shape_option = click.option(
    "--shape",
    "shapes",
    multiple=True,
    metavar="NAME=1x128",
    help="Sizes of an input, such as x=1x128, or ranges, x=1..8x1..512; repeatable.",
)
