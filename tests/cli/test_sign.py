"""``infopt sign``, and ``--require-signature`` wherever engines are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import Run, document

pytest.importorskip("cryptography", reason="signatures need infopt[sign]")


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_only_what_is_signed_is_loaded(
    infopt: Run, engine: Path, model: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    insist = ("--require-signature", public)
    baseline = engine.with_name("baseline.json")
    commands = (
        ("bench", engine, "--seconds", "0.1"),
        ("compare", engine, model),
        ("baseline", engine, "-o", baseline, "--seconds", "1", "--no-cold-start"),
        ("check", engine, "--baseline", baseline, "--seconds", "1", "--allow", "latency"),
    )
    for command in commands:
        result = infopt(*command, *insist)
        assert result.exit_code == 3
        assert "is not signed, and only signed engines are to be loaded" in result.stderr
    signed = infopt("sign", engine, "--key", private)
    assert signed.exit_code == 0, signed.stderr
    assert "is signed with key sha256:" in signed.stdout
    for command in commands:
        assert infopt(*command, *insist).exit_code == 0


def test_json(infopt: Run, engine: Path, keys: tuple[Path, Path]) -> None:
    found = document(infopt("sign", engine, "--key", keys[0], "--json"))
    assert found["engine"] == str(engine)
    assert found["key"].startswith("sha256:")


def test_a_damaged_engine_is_not_signed(infopt: Run, engine: Path, keys: tuple[Path, Path]) -> None:
    (engine / "model.data").write_bytes(b"")
    result = infopt("sign", engine, "--key", keys[0])
    assert result.exit_code == 3
    assert "is damaged" in result.stderr
    assert not (engine / "signature.json").exists()
