from pathlib import Path

import pytest

from infopt.backends.tensorrt import timings


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "a.timings"
    assert timings.read(file, tmp_path) is None
    timings.write(file, b"first")
    timings.write(file, b"second")
    copy = timings.read(file, tmp_path)
    assert copy is not None
    assert copy.read_bytes() == b"second"
    assert [entry.name for entry in file.parent.iterdir()] == ["a.timings"]


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 100])
def test_what_is_damaged_is_as_good_as_none(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "a.timings"
    file.write_bytes(damage)
    assert timings.read(file, tmp_path) is None


def test_a_flipped_byte_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "a.timings"
    timings.write(file, b"timings")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert timings.read(file, tmp_path) is None


def test_where_nothing_can_be_kept_the_build_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    timings.write(tmp_path / "file" / "a.timings", b"timings")
    assert timings.read(tmp_path / "file" / "a.timings", tmp_path) is None


def test_one_file_for_each_kind_of_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kinds = [("11.4", "sm89"), ("11.4", "sm90"), ("11.5", "sm89"), ("11.4sm", "89")]
    files = {timings.path_of(*kind) for kind in kinds}
    assert len(files) == len(kinds)
    assert all(file.is_relative_to(tmp_path / "infopt" / "tensorrt") for file in files)
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert timings.path_of("a").is_relative_to(Path.home() / ".cache")
