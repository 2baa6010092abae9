"""What is written whole is on the disk before its name is, and its name before anybody goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from engine.whole_file import move_whole, write_whole


def test_a_file_is_on_the_disk_before_its_name_and_the_name_before_it_returns(
    tmp_path: Path, disk: list[tuple[str, Path]]
) -> None:
    write_whole(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"
    assert disk == [("sync", tmp_path / ".a.part"), ("name", tmp_path / "a"), ("sync", tmp_path)]


def test_a_folder_is_on_the_disk_with_all_that_is_in_it_before_it_has_its_name(
    tmp_path: Path, disk: list[tuple[str, Path]]
) -> None:
    made, target = tmp_path / "work" / "made", tmp_path / "versions" / "1"
    (made / "inner").mkdir(parents=True)
    target.parent.mkdir()
    for name in ("one", "inner/two"):
        (made / name).write_text(name)
    move_whole(made, target)
    assert (target / "inner" / "two").read_text() == "inner/two"
    named = disk.index(("name", target))
    assert {path for _, path in disk[:named]} == {made, made / "one", made / "inner", made / "inner" / "two"}
    assert disk[named + 1 :] == [("sync", target.parent)]


def test_a_file_system_that_cannot_sync_folders_is_taken_as_it_is_and_a_failing_disk_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, fault = os.fsync, errno.EINVAL

    def failing(descriptor: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).is_dir():
            raise OSError(fault, os.strerror(fault))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    write_whole(tmp_path / "a", "text")
    fault = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_whole(tmp_path / "a", "other")


def test_a_file_that_cannot_get_its_name_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").touch()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "a", "text")
    with pytest.raises(NotADirectoryError):
        write_whole(tmp_path / "b" / "c", "text")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
