"""``infopt sign``: say that an engine is ours, so that others can insist on it."""

from __future__ import annotations

import click

from infopt.cli.answer import Answer
from infopt.cli.options import Command, json_option


@click.command(cls=Command, short_help="Sign an engine, for those who trust a key only.")
@click.argument("engine")
@click.option(
    "--key",
    required=True,
    metavar="KEY.pem",
    help="A private Ed25519 key: openssl genpkey -algorithm ed25519 -out KEY.pem",
)
@json_option
def command(engine: str, key: str) -> Answer:
    """Sign ENGINE with a private key, after its digests have been verified.

    Others load it with --require-signature KEY.pub, the public key:
    openssl pkey -in KEY.pem -pubout -out KEY.pub
    """
    from infopt import api

    fingerprint = api.sign(engine, key)
    return Answer(
        document={"engine": engine, "key": fingerprint},
        view=lambda: f"{engine} is signed with key {fingerprint}\n",
    )
