"""Hashes of whole input files, and when they are taken from memory."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from blake3 import blake3

from merges import input_hashes
from merges.errors import CheckpointError
from merges.input_hashes import default_cache, file_hashes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"abc" * 1000)
    return path


def test_a_file_that_has_not_changed_is_read_once(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "deep" / "hashes.json"
    expected = {str(file): blake3(file.read_bytes()).hexdigest()}
    assert file_hashes([file], cache) == expected
    with monkeypatch.context() as patch:
        patch.setattr(input_hashes, "hash_of", lambda path: pytest.fail("read again"))
        assert file_hashes([file], cache) == expected
    file.write_bytes(b"abd" * 1000)
    os.utime(file, ns=(1, 1))
    assert file_hashes([file], cache) == {str(file): blake3(file.read_bytes()).hexdigest()}
    assert sorted(path.name for path in cache.parent.iterdir()) == ["hashes.json"]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"FILE": 3}', '{"FILE": [1, 2, 3, 4]}'])
def test_a_spoilt_memory_does_no_harm(content: str, file: Path, tmp_path: Path) -> None:
    cache = tmp_path / "hashes.json"
    cache.write_text(content.replace("FILE", str(file)))
    assert file_hashes([file], cache) == {str(file): blake3(file.read_bytes()).hexdigest()}
    assert str(file) in json.loads(cache.read_text())


def test_a_memory_that_cannot_be_written_does_no_harm(file: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    assert len(file_hashes([file], tmp_path / "taken" / "hashes.json")) == 1


def test_a_file_that_cannot_be_read_is_the_models_fault(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(CheckpointError, match=r"folder: expected a readable file"):
        file_hashes([tmp_path / "folder"], tmp_path / "hashes.json")


def test_the_memory_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "mergewright" / "hashes.json"


def test_a_file_that_is_gone_is_the_models_fault(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"gone: expected a readable file, got No such file or directory; check the disk$"
    ):
        file_hashes([tmp_path / "gone"], tmp_path / "hashes.json")


def test_who_has_no_home_has_no_memory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    assert default_cache() is None
    assert file_hashes([file], default_cache()) == {str(file): blake3(file.read_bytes()).hexdigest()}
