"""A bundle's file is hostile input: whatever it is, it ends in a bundle or in one line."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.bundle import MAX_PROGRAMS
from engine.bundle_file import MAX_BYTES, _once, read_bundle
from engine.errors import UserError
from tests.engine.bundles import changed, leaves, shipped_tree, without, written

TREE = shipped_tree()
ENTRY = ("programs", 0)


def refused(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read_bundle(path)
    text = str(error.value)
    assert "\n" not in text
    assert text.isprintable()
    assert len(text) < 1100
    return text


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    found = read_bundle(written(TREE, tmp_path / "b.json"))
    (tmp_path / "again.json").write_text(found.to_json())
    assert read_bundle(tmp_path / "again.json") == found
    assert json.loads(found.to_json()) == TREE
    assert found.to_json().isascii()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got no JSON"),
        ("{", "got no JSON"),
        ("[]", 'got JSON without "format"'),
        ("null", 'got JSON without "format"'),
        (
            '{"format": "mergewright-bundle", "version": 2}',
            "got version 2, expected 1; a newer Mergewright may read it",
        ),
        ('{"format": "mergewright-bundle", "version": 1}', "got nothing at licence"),
        ('{"format": "mergewright-bundle", "format": "mergewright-bundle"}', "got key 'format' twice in one object"),
        (
            '{"format": "mergewright-bundle", "version": 1, "licence": NaN}',
            "got the number NaN, which JSON does not have",
        ),
        ('{"format": "mergewright-bundle", "version": -Infinity}', "got the number -Infinity"),
        ('{"format": "mergewright-bundle", "version": ' + "9" * 5000 + "}", "got no JSON"),
        ("[" * 200_000, "got values nested too deeply"),
        ('{"a":' * 200_000, "got values nested too deeply"),
        ("[" * 200_000 + "]" * 200_000, "got values nested too deeply"),
        ("\x00", "got no JSON"),
        ("\ufeff{}", "got no JSON"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else None,
)
def test_what_is_no_bundle_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "b.json").write_text(text)
    assert message in refused(tmp_path / "b.json")


def test_what_is_no_file_of_text_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b'{"format": "\xff"}')
    assert "not UTF-8" in refused(tmp_path / "latin")
    for path in (tmp_path, tmp_path / "nosuch", Path("/dev/zero")):
        assert "no plain file of that name" in refused(path)
    os.mkfifo(tmp_path / "pipe")
    assert "no plain file of that name" in refused(tmp_path / "pipe")


def test_a_file_beyond_the_bound_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    with path.open("wb") as handle:
        handle.truncate(100 * 2**20)
    assert f"more than {MAX_BYTES // 2**20} MiB" in refused(path)


def test_a_million_programs_are_one_line(tmp_path: Path) -> None:
    many = changed(TREE, ("programs",), [{}] * 1_000_000)
    assert f"got 1000000 programs, expected {MAX_PROGRAMS} at most" in refused(written(many, tmp_path / "b.json"))


def test_a_key_that_stands_twice_is_found_in_one_pass() -> None:
    compared = 0

    class Key(str):
        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    pairs = [(Key(f"{at:x}"), 0) for at in range(2000)]
    with pytest.raises(ValueError, match="got key '7cf' twice in one object"):
        _once([*pairs, (Key("7cf"), 0)])
    assert compared < 20 * len(pairs)


@pytest.mark.parametrize("filler", ["[]", "{}", "1", '""'])
def test_a_list_as_long_as_the_file_may_be_is_one_line(tmp_path: Path, filler: str) -> None:
    count = (MAX_BYTES - 100_000) // (len(filler) + 1)
    text = json.dumps(TREE)[:-1] + ', "more": [' + ",".join([filler] * count) + "]}"
    (tmp_path / "b.json").write_text(text)
    assert "got an unknown key at more" in refused(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((*ENTRY, "source"), "x" * 70_000, "at programs.0.source"),
        ((*ENTRY, "source"), 7, "got at programs.0.source 7 where it should be a valid string"),
        ((*ENTRY, "dev", "share"), "0.73", "at programs.0.dev.share '0.73' where it should be a valid number"),
        ((*ENTRY, "dev", "share"), 1e999, "the number Infinity"),
        ((*ENTRY, "dev", "share"), 1.5, "at programs.0.dev.share 1.5"),
        ((*ENTRY, "dev", "share"), True, "at programs.0.dev.share True"),
        ((*ENTRY, "dev", "n"), 600.5, "at programs.0.dev.n 600.5"),
        ((*ENTRY, "dev", "bits"), "2", "at programs.0.dev.bits '2'"),
        ((*ENTRY, "id"), "../../etc", "at programs.0.id '../../etc'"),
        ((*ENTRY, "id"), "2CACD0FDBED4", "at programs.0.id"),
        ((*ENTRY, "path"), "/home", "got an unknown key at programs.0.path"),
        ((*ENTRY, "licence"), "MIT\nlicense: evil", "at programs.0.licence"),
        ((*ENTRY, "title"), "", "at programs.0.title"),
        ((*ENTRY, "title"), "\x1b[31m\u202e" * 90, "at programs.0.title"),
        ((*ENTRY, "descriptors", "numbers"), {"scale": 1.0}, "at programs.0.descriptors.numbers"),
        (("programs",), [], "at programs"),
        (("programs",), {}, "at programs"),
        (("programs",), TREE["programs"] * 2, "each program once"),
        (("format",), "other", 'got JSON without "format"'),
        (("\x1b]0;title\x07",), 1, "got an unknown key"),
    ],
)  # fmt: skip
def test_a_value_out_of_its_bounds_is_named(
    tmp_path: Path, place: tuple[str | int, ...], value: Any, message: str
) -> None:
    assert message in refused(written(changed(TREE, place, value), tmp_path / "b.json"))


def test_a_number_too_large_to_be_one_is_refused(tmp_path: Path) -> None:
    text = json.dumps(changed(TREE, (*ENTRY, "dev", "share"), "HERE")).replace('"HERE"', "1e999")
    (tmp_path / "b.json").write_text(text)
    assert "programs.0.dev.share" in refused(tmp_path / "b.json")


ESSENTIAL = [place for place, _ in leaves(TREE) if not any(part in ("title", "explanation", "families", "numbers", "versions", "made_with", "parameters") for part in place)]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    place=st.sampled_from(ESSENTIAL), value=st.sampled_from([None, [], {}, -1, 10**30, "", "\x1b[2J\u202e", [[]] * 3])
)
def test_any_value_at_any_place_is_a_bundle_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str | int, ...], value: Any
) -> None:
    path = written(changed(TREE, place, value), tmp_path_factory.mktemp("b") / "b.json")
    try:
        said = f"bundle '': expected a Mergewright bundle of version 1, got {type(read_bundle(path)).__name__}"
    except UserError as error:
        said = str(error)
    assert re.fullmatch(r"bundle '[^\n]*': expected a Mergewright bundle of version 1, [^\n]*", said)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("b") / "b.json"
    path.write_bytes(data)
    refused(path)


@pytest.mark.parametrize("name", ["id", "source", "behaviour", "parameters", "licence"])
def test_what_every_program_must_have_is_asked_for(tmp_path: Path, name: str) -> None:
    assert f"got nothing at programs.0.{name}" in refused(written(without(TREE, (*ENTRY, name)), tmp_path / "b.json"))
