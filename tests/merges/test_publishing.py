"""Publishing against a hub on this machine: the real client asks, sends and fails; what arrives is compared with the folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from merges import layout, library, plan, publishing
from merges.apply import apply_program
from merges.errors import CheckpointError, DestinationError, PublishError
from merges.publishing import prepare, publish
from tests.merges.fake_hub import READER, SIGNATURE, WRITER, Repository, in_place_of_the_hub

NAME = "writer/merged"


@pytest.fixture
def hub(monkeypatch):
    """A hub, a token for it, uploads as plain files, and retries that do not wait."""
    with in_place_of_the_hub(monkeypatch) as running:
        yield running


@pytest.fixture(scope="session")
def made(sandbox, llamas, tmp_path_factory):
    """A merge in three shards."""
    out = tmp_path_factory.mktemp("publishing") / "merged model"
    experts = {name: llamas[name] for name in ("expert_a", "expert_b")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "plan_shards", lambda entries, limit: layout.plan_shards(entries, 4000))
        apply_program(library.source("ties"), base=llamas["base"], experts=experts, out=out, sandbox=sandbox)
    assert (out / "model.safetensors.index.json").is_file()
    return out


@pytest.fixture
def folder(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "merged model"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def arrived(hub, name: str = NAME) -> dict[str, bytes]:
    return {path: data for path, data in hub.repositories[name].files.items() if path != ".gitattributes"}


def test_what_arrives_is_the_folder_byte_for_byte_in_one_commit(hub, folder):
    assert publish(folder, prepare(NAME)) == f"{hub.url}/{NAME}"
    assert arrived(hub) == contents(folder)
    assert len(hub.repositories[NAME].pointers) > 1, "the shards were to go to the large-file store"
    assert [commit["summary"] for commit in hub.repositories[NAME].commits] == [publishing.COMMIT_MESSAGE]


def test_only_what_belongs_to_the_model_is_sent(hub, folder):
    before = contents(folder)
    for name in (".journal", ".token", "notes.txt", "extra.safetensors", "modeling_evil.py"):
        (folder / name).write_bytes(b"secret")
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "config.json").write_bytes(b"secret")
    publish(folder, prepare(NAME))
    assert arrived(hub) == before


@pytest.mark.parametrize("private", [True, False])
def test_a_repository_is_made_as_asked_before_anything_is_sent(hub, private):
    destination = prepare(NAME, private=private)
    assert hub.repositories[NAME].private is private
    assert arrived(hub) == {}
    assert (destination.private, destination.account) == (private, "writer")


def test_private_is_what_is_not_asked_for_otherwise(hub):
    prepare(NAME)
    assert hub.repositories[NAME].private


@pytest.mark.parametrize("there", [True, False])
def test_asking_alone_makes_nothing(hub, there):
    if there:
        hub.repositories[NAME] = Repository(private=True)
    destination = prepare(NAME, make=False)
    assert (destination.head is not None) is there
    assert (NAME in hub.repositories) is there
    assert all(line.startswith("GET ") for line in hub.asked)


def test_an_empty_repository_is_taken(hub, folder):
    hub.repositories[NAME] = Repository(private=True)
    publish(folder, prepare(NAME))
    assert arrived(hub) == contents(folder)
    assert "POST /api/repos/create" not in hub.asked


def test_a_repository_with_files_is_refused_with_the_way_to_replace_them(hub):
    hub.repositories[NAME] = Repository(True, {".gitattributes": b"", "model.safetensors": b"other", "README.md": b""})
    with pytest.raises(
        DestinationError,
        match=r"^writer/merged: expected a new or empty repository, got one with 2 file\(s\), first 'README.md'; choose another name, "
        r"or replace .* hf upload writer/merged FOLDER \. --delete '\*'$",
    ):
        prepare(NAME)


@pytest.mark.parametrize(("wanted", "got"), [("private", "public"), ("public", "private")])
def test_a_repository_that_others_see_otherwise_than_asked_is_refused(hub, wanted, got):
    hub.repositories[NAME] = Repository(private=got == "private")
    with pytest.raises(
        DestinationError, match=f"^{NAME}: expected a {wanted} repository, got a {got} one; .* or pass --{got}$"
    ):
        prepare(NAME, private=wanted == "private")


@pytest.mark.parametrize(
    "name",
    ["merged", "writer/", "/merged", "a/b/c", "writer/mer ged", "writer/merged@v1", "-writer/merged", "writer/merged-", "w..r/m", "w/m--m",
     "writer/merged.git", "writer/" + "m" * 97, "writer/é", "", "writer/merged\n", "../merged"],
)  # fmt: skip
def test_an_id_of_another_form_is_one_line_and_nobody_is_asked(hub, name):
    with pytest.raises(DestinationError, match=r"expected OWNER/NAME, .* got no such form; correct it$"):
        prepare(name)
    assert hub.asked == []


@pytest.mark.parametrize("name", ["a/b", "Team-1/my_merge.v2", "writer/" + "m" * 96, "_a/_b"])
def test_ids_that_the_hub_takes_are_taken(hub, name):
    assert prepare(name, make=False).repository == name


def test_a_hub_that_must_not_be_asked_is_not(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        DestinationError, match=r"^writer/merged: expected a hub .* got HF_HUB_OFFLINE .* set; unset it, or push the "
    ):
        prepare(NAME)
    assert hub.asked == []


def test_no_token_is_one_line_and_nobody_is_asked(hub, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(
        DestinationError, match=r"^token of the hub: .* got none; log in with `hf auth login` or set HF_TOKEN$"
    ):
        prepare(NAME)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("token", "name", "match"),
    [
        ("hf_NobodyKnowsThisWord", NAME, r"expected a token that the hub knows, got .*401.*; log in with"),
        (READER, NAME, r"expected a token that may write there, got .*403.*rights to create.*; give the token"),
        (
            READER,
            "writer/empty",
            r"expected a token that may write there, got .*403.*no write access.*; give the token",
        ),
        (WRITER, "stranger/merged", r"expected a token that may write there, got .*403.*; .* choose another OWNER$"),
        (WRITER, "stranger/empty", r"expected a token that may write there, got .*403.*; .* choose another OWNER$"),
    ],
)
def test_a_token_without_the_right_is_found_before_any_work(hub, monkeypatch, token, name, match):
    for owner in ("writer", "stranger"):
        hub.repositories[f"{owner}/empty"] = Repository(private=True)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(DestinationError, match=match) as refused:
        prepare(name)
    assert str(refused.value).startswith(name)
    assert token not in str(refused.value)


@pytest.mark.parametrize("token", ["hf_a b", "hf_\x01secret", "hf_sécret", "hf_se\ncret"])
def test_a_token_that_no_header_can_hold_is_not_shown(hub, monkeypatch, token):
    monkeypatch.setattr(publishing, "get_token", lambda: token)
    with pytest.raises(DestinationError, match=r"expected printable ASCII without spaces, got other characters") as refused:  # fmt: skip
        prepare(NAME)
    assert "ret" not in str(refused.value)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("asked", "status", "match"),
    [
        (("GET", "/api/whoami-v2"), 500, "expected a hub that agrees, got .*500.*no luck"),
        (("GET", "/api/models/.*"), 503, "expected a hub that agrees, got .*503.*no luck"),
        (("POST", "/api/repos/create"), 409, "expected a hub that agrees, got .*409.*no luck.*; choose another name"),
    ],
)
def test_a_hub_that_fails_early_is_one_line(hub, asked, status, match):
    hub.fails[asked] = (status, "no\nluck")
    with pytest.raises(DestinationError, match=match):
        prepare(NAME)


def test_a_hub_that_is_not_there_is_one_line(hub):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(DestinationError, match=r"expected a hub that answers, got ConnectError .*; check the network"):
        prepare(NAME, endpoint=nobody)


def test_a_hub_that_accepts_and_never_answers_is_given_up(hub, monkeypatch):
    monkeypatch.setattr(publishing, "HUB_WAIT_SECONDS", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(DestinationError, match=r"expected a hub that answers, got ReadTimeout"),
    ):
        prepare(NAME, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")


UPLOADS = [
    ("POST", "/api/validate-yaml"),
    ("POST", ".*/preupload/main"),
    ("POST", ".*/objects/batch"),
    ("PUT", "/lfs/.*"),
    ("POST", "/verify"),
    ("POST", ".*/commit/main"),
]


@pytest.mark.parametrize("asked", UPLOADS)
@pytest.mark.parametrize("status", [403, 500])
def test_a_failed_upload_says_where_the_folder_is_and_leaves_both_sides_whole(hub, folder, asked, status):
    before, destination = contents(folder), prepare(NAME)
    hub.fails[asked] = (status, f"not {WRITER} today")
    with pytest.raises(PublishError, match=rf"^{NAME}: expected the hub to take \d+ files, got .*{status}") as failed:
        publish(folder, destination)
    line = str(failed.value)
    assert line.endswith(f"; the merge is complete in {folder}, push it again with: hf upload {NAME} '{folder}' . --private")  # fmt: skip
    assert WRITER not in line
    assert SIGNATURE not in line
    assert contents(folder) == before
    assert arrived(hub) == {}


def test_the_line_of_a_failed_upload_pushes_the_folder(hub, folder):
    destination = prepare(NAME)
    hub.fails[("PUT", "/lfs/.*")] = (500, "no luck")
    with pytest.raises(PublishError, match="expected the hub to take") as failed:
        publish(folder, destination)
    hub.fails.clear()
    command, *arguments = shlex.split(str(failed.value).rpartition("push it again with: ")[2])
    assert command == "hf"
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
    hf = Path(sys.executable).with_name("hf")
    subprocess.run([hf, *arguments], env=environment, check=True, capture_output=True, timeout=120)
    assert arrived(hub) == contents(folder)


def test_a_server_that_breaks_off_during_the_upload_is_one_line(hub, folder, monkeypatch):
    monkeypatch.setattr(publishing, "UPLOAD_WAIT_SECONDS", 0.2)
    destination = prepare(NAME)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(PublishError, match=r"got ReadTimeout .*; the merge is complete in "),
    ):
        publish(folder, destination, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_a_repository_that_was_written_to_since_is_left_as_it_is(hub, folder):
    destination = prepare(NAME)
    hub.repositories[NAME].files["theirs.txt"] = b"theirs"
    with pytest.raises(PublishError, match=r"412.*A commit has happened since"):
        publish(folder, destination)
    assert arrived(hub) == {"theirs.txt": b"theirs"}


def test_ctrl_c_during_the_upload_is_not_swallowed(hub, folder, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    destination = prepare(NAME)
    monkeypatch.setattr(publishing.HfApi, "create_commit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        publish(folder, destination)


def test_the_token_goes_to_the_hub_and_to_nobody_it_names(hub, folder):
    publish(folder, prepare(NAME))
    sent = {path: given for path, given in hub.headers if path.startswith("/lfs/")}
    assert sent
    assert set(sent.values()) == {None}
    assert WRITER.encode() not in b"".join(arrived(hub).values())


@pytest.mark.parametrize("name", ["../secret", ".journal", "gone.json", "checkpoint/config.json", "/etc/passwd"])
def test_a_record_that_names_odd_files_sends_none(hub, folder, name):
    (folder.parent / "secret").write_text("x")
    (folder / ".journal").write_text("x")
    record = json.loads((folder / "provenance.json").read_text())
    record["files"] = {**record["files"], name: "0" * 64}
    (folder / "provenance.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=f"got none called {re.escape(repr(name))}; apply the merge again$"):
        publish(folder, prepare(NAME))
    assert arrived(hub) == {}


def test_a_folder_that_is_no_merge_is_not_sent(hub, llamas):
    with pytest.raises(CheckpointError, match=r"expected a folder with provenance.json, got none"):
        publish(llamas["base"], prepare(NAME))
    assert arrived(hub) == {}
