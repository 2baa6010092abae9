"""What an export writes: a `.py` file with the same id, a folder whose card is YAML, nothing of this machine, never over what is there."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import discovered, rundir
from engine.bundle import Entry
from engine.bundle_claims import check_claims
from engine.bundle_file import read_bundle
from engine.bundling import Notes, entries_of, make_bundle, measured
from engine.config import CampaignConfig
from engine.config_file import build_config
from engine.errors import RunError, UserError
from engine.exporting import HUB_LICENCES, card, program_text, write_bundle, write_hub, write_program
from engine.programs import Found, find_program
from engine.records import Outcome
from engine.store import Store
from merges.contract import program_id
from merges.errors import OptionError, ProgramError, TargetError
from sandbox import check
from tests.engine.bundles import SHIPPED
from tests.engine.conftest import Call, candidate, dev_score


@pytest.fixture(scope="module")
def entry() -> Entry:
    """The shipped program's."""
    return discovered.entries()[SHIPPED]


def test_an_exported_file_passes_the_gate_with_its_id_and_says_what_it_is(entry: Entry, tmp_path: Path) -> None:
    out = tmp_path / "new" / "x.py"
    write_program(entry, out)
    text = out.read_text()
    assert check(text).ok
    assert program_id(text) == entry.id
    for words in (
        SHIPPED,
        "campaign pocket",
        "dev: 73.0 % [69.3, 76.4]",
        "test: 69.0 %",
        "Apache-2.0",
        "mergewright apply x.py --base pocket/seed",
    ):
        assert words in text
    assert find_program(str(out)).source == text


BODY = "def merge_models(model_dict, device):\n    return sum(model_dict.values())\n"
HEADS = st.sampled_from(["", "\ufeff", "# -*- coding: latin-1 -*-\n", "#!/usr/bin/python\n", '"""Doc."""\n', "\n\n", "\x0c\n", "# \u202e\n", "import math\n"])  # fmt: skip


@given(head=HEADS, tail=st.sampled_from(["", "# x", "\\\n", "\r\n", "\n\n"]), title=st.text(min_size=1, max_size=200))
@settings(max_examples=80, deadline=None)
def test_whatever_stands_around_a_program_its_file_has_its_id(entry: Entry, head: str, tail: str, title: str) -> None:
    source = head + BODY + tail
    if not check(source).ok:
        return
    text = program_text(entry.model_copy(update={"source": source, "id": program_id(source), "title": title}), "x.py")
    assert check(text).ok
    assert program_id(text) == program_id(source)
    assert all(line.isprintable() for line in text.partition("\n\n")[0].splitlines())


def test_a_program_without_room_for_a_header_is_refused(entry: Entry, tmp_path: Path) -> None:
    source = BODY + "#" * (65_536 - len(BODY) - 10)
    long = entry.model_copy(update={"source": source, "id": program_id(BODY)})
    with pytest.raises(OptionError, match="expected one that has room for a header"):
        write_program(long, tmp_path / "x.py")
    assert list(tmp_path.iterdir()) == []


def front(text: str) -> dict[str, object]:
    start, head, _ = text.split("---\n", 2)
    assert start == ""
    return yaml.safe_load(head)  # type: ignore[no-any-return]


def test_the_folder_for_a_hub_has_a_card_a_program_and_a_bundle(entry: Entry, tmp_path: Path) -> None:
    out = tmp_path / "hub"
    assert set(write_hub(make_bundle([entry]), out)) == {"README.md", "program.py", "bundle.json"}
    text = (out / "README.md").read_text()
    assert front(text) == {
        "license": "apache-2.0",
        "library_name": "mergewright",
        "tags": ["mergewright", "model-merging", "merge-program"],
    }
    for words in (entry.title, entry.explanation, "merged += w * v", "archive import bundle.json"):
        assert str(words) in text
    assert program_id((out / "program.py").read_text()) == entry.id
    assert read_bundle(out / "bundle.json").programs == (entry,)
    assert {path.name for path in tmp_path.iterdir()} == {"hub"}, "something was left beside it"


@pytest.mark.parametrize(
    ("licence", "named"),
    [("MIT", "mit"), ("LicenseRef-mine", "other"), ("MIT OR Apache-2.0", "other"), ("no", "other")],
)
def test_a_licence_that_hubs_do_not_know_stands_under_its_own_name(entry: Entry, licence: str, named: str) -> None:
    found = front(card(entry.model_copy(update={"licence": licence})))
    assert found["license"] == named
    assert found.get("license_name") == (licence if named == "other" else None)
    assert {"mit", "apache-2.0"} <= HUB_LICENCES


def test_a_card_stays_a_card_whatever_the_program_says(entry: Entry) -> None:
    odd = {"title": "---\n```\x1b", "explanation": "---\nlicense: x\n\x1b[31m", "source": f"# ```` \n{entry.source}"}
    text = card(entry.model_copy(update=odd))
    assert front(text)["license"] == "apache-2.0"
    assert "\x1b" not in text
    assert "`````python" in text


def test_nothing_is_written_over_what_is_there(entry: Entry, tmp_path: Path) -> None:
    for name, write in (
        ("x.py", lambda out: write_program(entry, out)),
        ("b.json", lambda out: write_bundle(make_bundle([entry]), out)),
        ("hub", lambda out: write_hub(make_bundle([entry]), out)),
    ):
        out = tmp_path / name
        out.write_text("mine")
        with pytest.raises(TargetError, match="expected no such file or folder yet"):
            write(out)
        assert out.read_text() == "mine"
    with pytest.raises(TargetError, match="expected a place to write"):
        write_bundle(make_bundle([entry]), tmp_path / "x.py" / "b.json")
    assert len(list(tmp_path.iterdir())) == 3


def test_a_bundle_names_no_place_of_this_machine(finished_run: Path, tmp_path: Path, entry: Entry) -> None:
    run = tmp_path / "secret-home" / "runs" / "mine"
    shutil.copytree(finished_run, run)
    config = rundir.read_config(run)
    assert str(finished_run.parents[1].parent) in (config.generator.script or ""), "the campaign names a place"
    rows = Store.in_folder(run).candidates()
    found = [find_program(f"{run}#{c.program.id}") for c in rows if c.assessment.outcome is Outcome.OK]
    made = make_bundle(entries_of(found, Notes()))
    check_claims(tmp_path, made)
    text = made.to_json()
    assert "/tmp" not in text
    assert "secret-home" not in text
    assert made.programs[0].test is not None, "a finalist has its test score"
    assert made.programs[0].measured is not None
    assert made.programs[0].measured.inputs is not None
    folders = build_config({"models": {"base": "/secret/seed", "experts": ["./a", str(tmp_path), "owner/name"]}})
    said = measured(folders, None, None)
    assert (said.base, said.experts) == ("seed", ("a", tmp_path.name, "owner/name"))


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ("{", "expected a readable manifest.json, got JSONDecodeError"),
        ("[]", "expected a readable manifest.json, got TypeError"),
        ('["campaign", "inputs", "versions"]', "expected a readable manifest.json, got TypeError"),
        ('{"campaign": "", "inputs": {}}', "expected a readable manifest.json, got KeyError"),
        ('{"campaign": "", "inputs": {}, "versions": {}}', "manifest.json: expected what a bundle can hold, got KeyError: 'base'"),
        ('{"campaign": "", "inputs": {"base": 1}, "versions": {}}', "manifest.json: expected what a bundle can hold, got KeyError: 'experts'"),
        ('{"campaign": "", "inputs": [1], "versions": {}}', "manifest.json: expected what a bundle can hold, got TypeError"),
        ("experts", "manifest.json: expected what a bundle can hold, got '{}' at Inputs.experts: Dictionary should have at least 2 items"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_is_one_line(finished_run: Path, tmp_path: Path, manifest: str, said: str) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    if manifest == "experts":
        there = json.loads((run / "manifest.json").read_text())
        manifest = json.dumps({**there, "inputs": {**there["inputs"], "experts": {}}})
    (run / "manifest.json").write_text(manifest)
    known = next(c.program.id for c in Store.in_folder(run).candidates() if c.assessment.outcome is Outcome.OK)
    with pytest.raises(RunError) as caught:
        entries_of([find_program(f"{run}#{known}")], Notes())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_score_that_a_bundle_cannot_hold_is_one_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    rundir.new_folder(CampaignConfig(), run, "now")
    one = candidate(1, 0.5)
    long = replace(dev_score(), families={"x" * 201: 0.5})
    program = replace(one.program, source=BODY, id=program_id(BODY))
    behaviour = replace(one.assessment, score=long, behaviour="0" * 16)
    with closing(Store.in_folder(run, create=True)) as store:
        store.take_over([replace(one, program=program, assessment=behaviour)])
    with pytest.raises(
        RunError, match=rf"program {program_id(BODY)}: expected what a bundle .* at DevScore.families.x+"
    ) as caught:
        entries_of([find_program(f"{run}#{program_id(BODY)}")], Notes())
    assert "\n" not in str(caught.value)


def test_what_a_bundle_cannot_hold_of_a_file_or_of_several_is_one_line(entry: Entry) -> None:
    source = f"def merge_models(model_dict, device, *, {'x' * 201}=0.5):\n    return sum(model_dict.values())\n"
    with pytest.raises(UserError, match=r"program \w+: expected what a bundle can hold, got .* at Entry.parameters"):
        entries_of([Found(source, "x")], Notes())
    licences = [f"MIT OR ISC OR LicenseRef-{at:040d}" for at in range(2)]
    both = [entry.model_copy(update={"id": f"{at:012x}", "licence": one}) for at, one in enumerate(licences)]
    with pytest.raises(UserError, match=r"bundle: expected .* at Bundle.licence.*; export fewer programs at once"):
        make_bundle(both)


def test_a_file_and_a_library_program_have_what_the_probes_say(tmp_path: Path, mergewright: Call) -> None:
    (tmp_path / "p.py").write_text(
        "def merge_models(model_dict, device, *, scale=0.5):\n    return scale * sum(model_dict.values())\n"
    )
    out = tmp_path / "b.json"
    assert mergewright(f"archive export {tmp_path / 'p.py'} ties {SHIPPED} --format bundle --out {out}").code == 0
    mine, ties, shipped = read_bundle(out).programs
    assert mine.parameters == {"scale": 0.5}
    assert mine.descriptors is not None
    assert mine.descriptors.numbers["scale"] == pytest.approx(1.5)
    assert (mine.dev, mine.found, mine.measured, mine.licence) == (None, None, None, "Apache-2.0")
    assert ties.descriptors is not None
    assert shipped.test is not None
    assert str(tmp_path) not in out.read_text()
    assert json.loads(out.read_text())["licence"] == "Apache-2.0"


def test_a_program_that_does_not_run_is_its_own_fault(finished_run: Path, tmp_path: Path, mergewright: Call) -> None:
    for source, reason in (
        ("import os\nos.getcwd()\n" + BODY, "policy"),
        ("def merge_models(model_dict, device):\n    return 1 / 0\n", "exception"),
    ):
        with pytest.raises(ProgramError, match=reason):
            entries_of([Found(source, "x")], Notes())
    failed = next(
        c.program.id for c in Store.in_folder(finished_run).candidates() if c.assessment.reason == "wrong_shape"
    )
    result = mergewright(f"archive export {finished_run}#{failed} --format bundle --out {tmp_path / 'b.json'}")
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert "got wrong_shape" in result.err
    assert not (tmp_path / "b.json").exists()


def test_licences_of_several_programs_stand_together(entry: Entry) -> None:
    other = entry.model_copy(update={"id": "0" * 12, "licence": "MIT OR ISC"})
    assert make_bundle([entry, other, entry]).licence == "Apache-2.0 AND (MIT OR ISC)"
    assert len(make_bundle([entry, other, entry]).programs) == 2
