"""Signatures of engines: who built this, and whether whoever loads it trusts them.

A signature is Ed25519 (RFC 8032) over the seal of an engine's manifest, which holds the digest of
every file; so it stands for all of them. It lies beside the manifest as ``signature.json``. Keys
are PEM files, as OpenSSL writes them::

    openssl genpkey -algorithm ed25519 -out key.pem
    openssl pkey -in key.pem -pubout -out key.pub
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infopt.engine import Engine
from infopt.errors import EngineError, UnavailableError, UsageError
from infopt.outputs import write_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

SIGNATURE = "signature.json"
_ALGORITHM = "ed25519"
_MOST = 1 << 16  # a signature and keys are text of some hundred bytes; more is hostile

KeyFile = str | os.PathLike[str]


def sign(engine: Engine, key: KeyFile) -> str:
    """Sign an engine that was verified; an older signature is replaced.

    Args:
        engine: As :func:`infopt.engine.open_engine` returns it.
        key: A PEM file with a private Ed25519 key that has no passphrase.

    Returns:
        The fingerprint of the key.

    Raises:
        UsageError: The file holds no such key.
        EngineError: The engine has no seal to sign: it is older than these.
        StorageError: The signature cannot be written.
        UnavailableError: The cryptography package is not installed.
    """
    serialization, ed25519 = _cryptography()
    try:
        private = serialization.load_pem_private_key(_read(key), password=None)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{key} holds no private key without passphrase: {error}") from None
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise UsageError(_other_kind(key))
    if not engine.seal:
        raise EngineError(f"{engine.path} has no seal to sign; build it again")
    fingerprint = _fingerprint(private.public_key())
    document = {
        "algorithm": _ALGORITHM,
        "key": fingerprint,
        "signature": base64.b64encode(private.sign(_message(engine))).decode(),
    }
    write_text(engine.path / SIGNATURE, json.dumps(document, indent=2) + "\n")
    return fingerprint


def require(engine: Engine, trusted: Sequence[KeyFile]) -> str:
    """Insist that one of some keys has signed an engine.

    Args:
        engine: As :func:`infopt.engine.open_engine` returns it.
        trusted: PEM files, each with a public Ed25519 key.

    Returns:
        The fingerprint of the key that did.

    Raises:
        EngineError: The engine is not signed, or by nobody who is trusted.
        UsageError: A file holds no such key.
        UnavailableError: The cryptography package is not installed.
    """
    keys = {_fingerprint(key): key for key in map(_public_key, trusted)}
    name, signature = _signature(engine)
    if name not in keys:
        raise EngineError(
            f"{engine.path} is signed with key {name}, which is not among those that are trusted: "
            f"{', '.join(keys)}"
        )
    from cryptography.exceptions import InvalidSignature

    try:
        keys[name].verify(signature, _message(engine))
    except InvalidSignature:
        raise EngineError(
            f"{engine.path} is not what was signed with key {name}; do not use it"
        ) from None
    return name


def _signature(engine: Engine) -> tuple[str, bytes]:
    """The fingerprint of the key that is said to have signed, and the signature."""
    file = engine.path / SIGNATURE
    if not file.is_file():
        raise EngineError(
            f"{engine.path} is not signed, and only signed engines are to be loaded; have whoever "
            "built it run: infopt sign ENGINE --key KEY.pem"
        )
    try:
        document = json.loads(_read(file))
        if document["algorithm"] != _ALGORITHM:
            raise ValueError("it is of another algorithm")
        return str(document["key"]), base64.b64decode(document["signature"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise EngineError(f"{file} is malformed ({error}); have the engine signed again") from None


def _public_key(file: KeyFile) -> Ed25519PublicKey:
    serialization, ed25519 = _cryptography()
    try:
        key = serialization.load_pem_public_key(_read(file))
    except ValueError as error:
        raise UsageError(f"{file} holds no public key: {error}") from None
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise UsageError(_other_kind(file))
    found: Ed25519PublicKey = key
    return found


def _other_kind(file: KeyFile) -> str:
    return (
        f"{file} holds a key of another kind; make one with: "
        "openssl genpkey -algorithm ed25519 -out key.pem"
    )


def _message(engine: Engine) -> bytes:
    return f"infopt-engine {engine.seal}".encode()


def _fingerprint(key: Ed25519PublicKey) -> str:
    return f"sha256:{hashlib.sha256(key.public_bytes_raw()).hexdigest()}"


def _read(file: KeyFile) -> bytes:
    try:
        with Path(file).open("rb") as opened:
            return opened.read(_MOST)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from None


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise UnavailableError(
            f'signatures need the cryptography package: pip install "infopt[sign]" ({error})'
        ) from None
    return serialization, ed25519
