"""Control groups: where one may be made, what is written into it, and that nothing of it stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox import Sandbox, TensorJob
from sandbox.confinement import cgroups
from sandbox.records import MIB

FILES = {
    2: {"cgroup.controllers": "memory pids", "memory.max": "max", "memory.current": "1000", "memory.swap.max": "max",
        "memory.events": "low 0\noom 3\noom_kill 2\n", "memory.stat": "anon 7\nfile 4096\n",
        "pids.max": "max", "pids.current": "2", "cgroup.procs": ""},
    1: {"memory.limit_in_bytes": "9", "memory.usage_in_bytes": "1000", "memory.oom_control": "oom_kill_disable 0\noom_kill 2\n",
        "memory.stat": "cache 1\ntotal_cache 4096\n", "pids.max": "max", "pids.current": "2", "cgroup.procs": ""},
}  # fmt: skip


@pytest.fixture(params=[2, 1])
def imitation(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Path]:
    """A folder in which every new folder gets the files that the kernel would put there."""
    real = Path.mkdir

    def mkdir(folder: Path, *arguments: object, **options: object) -> None:
        real(folder, *arguments, **options)  # type: ignore[arg-type]
        for name, content in FILES[request.param].items():
            (folder / name).write_text(content)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    return request.param, tmp_path


def test_a_group_is_bounded_by_what_it_holds_now(imitation: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    version, parent = imitation
    group = cgroups.make({"memory": parent, "pids": parent})
    assert group.version == version
    folder = parent / f"{cgroups.PREFIX}{os.getpid()}"
    assert (folder / "cgroup.procs").read_text() == str(os.getpid())
    assert cgroups.mapped_file_bytes() > MIB
    monkeypatch.setattr(cgroups, "mapped_file_bytes", lambda: 7 * MIB)
    assert group.limit_memory(5 * MIB) == 12 * MIB + cgroups.SLACK_BYTES
    group.limit_processes(1)
    bound = "memory.max" if version == 2 else "memory.limit_in_bytes"
    assert int((folder / bound).read_text()) == 1000 + 12 * MIB + cgroups.SLACK_BYTES
    assert (folder / "pids.max").read_text() == "3"
    assert group.out_of_memory() == 2
    assert group.cached_bytes() == 4096
    if version == 2:
        assert (folder / "memory.swap.max").read_text() == "0"


def test_the_bound_of_the_probes_is_lifted_after_them(
    imitation: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    version, parent = imitation
    monkeypatch.setattr(cgroups, "group", cgroups.make({"memory": parent, "pids": parent}))
    bound = parent / f"{cgroups.PREFIX}{os.getpid()}" / ("memory.max" if version == 2 else "memory.limit_in_bytes")
    with cgroups.bounded():
        assert int(bound.read_text()) < cgroups.ZYGOTE_BYTES
    assert int(bound.read_text()) > cgroups.ZYGOTE_BYTES


def test_a_folder_without_controllers_is_left_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"memory\.limit_in_bytes"):
        cgroups.make({"memory": tmp_path, "pids": tmp_path})
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] == []


def mount(folder: Path, kind: str, options: str, root: str = "/") -> str:
    return f"30 23 0:26 {root} {folder} rw,nosuid - {kind} {kind} {options}\n"


def test_places_are_our_own_group_then_its_parent_then_the_old_hierarchies(tmp_path: Path) -> None:
    for name in ("v2/user.slice/mine", "memory/job", "pids"):
        (tmp_path / name).mkdir(parents=True)
    mountinfo = (
        mount(tmp_path / "v2", "cgroup2", "rw,nsdelegate")
        + mount(tmp_path / "memory", "cgroup", "rw,memory")
        + mount(tmp_path / "pids", "cgroup", "rw,pids")
        + "1 1 0:1 / / rw - ext4 /dev/vda rw\n"
    )
    found = list(cgroups.places(mountinfo, "4:memory:/job\n8:pids:/gone\n0::/user.slice/mine\n"))
    own = tmp_path / "v2/user.slice/mine"
    assert found == [
        {"memory": own, "pids": own},
        {"memory": own.parent, "pids": own.parent},
        {"memory": tmp_path / "memory/job", "pids": tmp_path / "pids"},
    ]


def test_a_mount_that_shows_a_part_is_read_from_there(tmp_path: Path) -> None:
    (tmp_path / "leaf").mkdir()
    found = list(cgroups.places(mount(tmp_path, "cgroup2", "rw", "/docker/abc"), "0::/docker/abc/leaf\n"))
    assert found[0]["memory"] == tmp_path / "leaf"


def test_what_killed_zygotes_left_is_removed_too(tmp_path: Path) -> None:
    stale, mine, other = (tmp_path / name for name in (cgroups.PREFIX + "1", cgroups.PREFIX + "2", "other"))
    for folder in (stale, mine, other):
        folder.mkdir()
    cgroups.remove((str(mine),))
    assert [entry.name for entry in tmp_path.iterdir()] == ["other"]


def groups_of(box: Sandbox) -> tuple[Path, ...]:
    assert box.isolation
    assert box._zygote is not None
    return tuple(map(Path, box._zygote._groups))


def test_the_zygote_is_in_a_group_or_says_why_not(box: Sandbox) -> None:
    if "cgroups" in box.isolation.layers:
        assert all(folder.is_dir() for folder in groups_of(box))
    else:
        assert box.isolation.extra[0].startswith("cgroups: ")
        assert "Delegate=yes" in box.isolation.extra[0]
    assert not any(line.startswith("cgroups") for line in box.isolation.missing)


def test_no_group_outlives_its_sandbox() -> None:
    with Sandbox() as sandbox:
        folders = groups_of(sandbox)
        if "cgroups" not in sandbox.isolation.layers:
            pytest.skip("no control group is delegated here")
        source = "def merge_models(m, d):\n    return m['a']\n"
        import torch

        assert sandbox.execute(source, [TensorJob("w", 0.0, {"a": torch.ones(2)}, None, 0)]).ok
    assert folders
    assert not any(folder.exists() for folder in folders)
