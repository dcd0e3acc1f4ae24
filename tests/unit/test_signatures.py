from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infopt import api, signatures
from infopt import engine as engines
from infopt.engine import Engine
from infopt.errors import EngineError, UnavailableError, UsageError
from tests.support.small_engines import build_engine

cryptography = pytest.importorskip("cryptography", reason="signatures need infopt[sign]")


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return build_engine(tmp_path / "e")


def _keys(directory: Path, name: str, kind: str = "ed25519") -> tuple[Path, Path]:
    """A private and a public key, as OpenSSL would write them."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ed25519, x25519

    kinds: dict[str, Any] = {
        "ed25519": ed25519.Ed25519PrivateKey,
        "x25519": x25519.X25519PrivateKey,
    }
    made = kinds[kind]
    private = made.generate()
    files = directory / f"{name}.pem", directory / f"{name}.pub"
    plain = s.NoEncryption()
    files[0].write_bytes(private.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, plain))
    public = private.public_key()
    files[1].write_bytes(public.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return files


def test_signed_and_trusted(engine: Engine, tmp_path: Path) -> None:
    private, public = _keys(tmp_path, "ours")
    _, other = _keys(tmp_path, "other")
    fingerprint = api.sign(engine.path, private)
    opened = engines.open_engine(engine.path)
    assert signatures.require(opened, [other, public]) == fingerprint
    assert api.sign(engine.path, private) == fingerprint  # again, in place of the first
    assert sorted(p.name for p in engine.path.iterdir()) == [
        "manifest.json",
        "model.onnx",
        "signature.json",
    ]


def test_unsigned(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="is not signed, and only signed engines"):
        signatures.require(engine, [_keys(tmp_path, "ours")[1]])


def test_signed_by_somebody_else(engine: Engine, tmp_path: Path) -> None:
    theirs, _ = _keys(tmp_path, "theirs")
    signatures.sign(engine, theirs)
    with pytest.raises(EngineError, match="not among those that are trusted"):
        signatures.require(engine, [_keys(tmp_path, "ours")[1]])


def test_a_signature_of_another_engine(engine: Engine, tmp_path: Path) -> None:
    private, public = _keys(tmp_path, "ours")
    signatures.sign(engine, private)
    other = build_engine(tmp_path / "other", "another model")
    (engine.path / "signature.json").rename(other.path / "signature.json")
    with pytest.raises(EngineError, match="is not what was signed"):
        signatures.require(engines.open_engine(other.path), [public])


def test_a_manifest_that_was_edited_and_sealed_again(engine: Engine, tmp_path: Path) -> None:
    private, public = _keys(tmp_path, "ours")
    signatures.sign(engine, private)
    document = json.loads((engine.path / "manifest.json").read_text())
    document.pop("seal")
    document["precision"] = "int8"
    document["seal"] = engines._seal(document)
    (engine.path / "manifest.json").write_text(json.dumps(document))
    opened = engines.open_engine(engine.path)  # the seal alone shows nothing
    with pytest.raises(EngineError, match="is not what was signed"):
        signatures.require(opened, [public])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"algorithm": "rsa", "key": "", "signature": ""}',
        '{"algorithm": "ed25519", "key": "k", "signature": "§"}',
        '{"algorithm": "ed25519", "key": "k", "signature": 7}',
        "[" * 50_000,
    ],
)
def test_malformed_signatures(engine: Engine, tmp_path: Path, text: str) -> None:
    (engine.path / "signature.json").write_text(text)
    with pytest.raises(EngineError, match="malformed"):
        signatures.require(engine, [_keys(tmp_path, "ours")[1]])


def test_files_that_hold_no_such_key(engine: Engine, tmp_path: Path) -> None:
    private, public = _keys(tmp_path, "ours")
    wrong_private, wrong_public = _keys(tmp_path, "wrong", "x25519")
    with pytest.raises(UsageError, match="no private key without passphrase"):
        signatures.sign(engine, public)
    with pytest.raises(UsageError, match="no public key"):
        signatures.require(engine, [private])
    with pytest.raises(UsageError, match=r"another kind.*openssl genpkey"):
        signatures.sign(engine, wrong_private)
    with pytest.raises(UsageError, match=r"another kind.*openssl genpkey"):
        signatures.require(engine, [wrong_public])
    with pytest.raises(UsageError, match=r"absent\.pem cannot be read"):
        signatures.sign(engine, tmp_path / "absent.pem")


def test_an_older_engine_has_nothing_to_sign(engine: Engine, tmp_path: Path) -> None:
    document = json.loads((engine.path / "manifest.json").read_text())
    del document["seal"]
    (engine.path / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(EngineError, match="no seal to sign; build it again"):
        api.sign(engine.path, _keys(tmp_path, "ours")[0])


def test_without_the_package(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(UnavailableError, match=r"infopt\[sign\]"):
        signatures.sign(engine, "key.pem")
