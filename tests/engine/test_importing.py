"""Import believes nothing: a round trip is exact, a lie is caught, a killed import goes on, and nothing is scored twice."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import importing, rundir
from engine.bench import Prober
from engine.bundle import Bundle, to_text
from engine.bundle_file import read_bundle
from engine.bundling import Notes, entries_of, make_bundle
from engine.config import CampaignConfig
from engine.config_file import build_config
from engine.errors import HostError, RunError, UserError
from engine.importing import Compared, import_bundles
from engine.programs import find_program
from engine.records import Candidate, Outcome
from engine.store import Store
from merges.probes import behaviour_hash
from sandbox import ExecutionResult
from tests.engine.bundles import at, changed, with_share, written
from tests.engine.conftest import Call

ROOT = Path(__file__).parents[2]
SUM, FIRST, NOISE = 0, 1, 2
"""Places of the programs in the bundle."""


def candidates(folder: Path) -> tuple[Candidate, ...]:
    with closing(Store.in_folder(folder)) as store:
        return store.candidates()


@pytest.fixture(scope="module")
def ids(finished_run: Path) -> list[str]:
    """Of the programs that work, in the order of their numbers: the sum, the first alone, the noise."""
    return [c.program.id for c in candidates(finished_run) if c.assessment.outcome is Outcome.OK]


@pytest.fixture(scope="module")
def bundle(finished_run: Path, ids: list[str]) -> Bundle:
    found = [find_program(f"{finished_run}#{id}") for id in ids]
    return make_bundle(entries_of(found, Notes(licence="MIT", title="small", explanation="It sums.")))


@pytest.fixture(scope="module")
def tree(bundle: Bundle) -> dict[str, Any]:
    return json.loads(bundle.to_json())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def config(finished_run: Path) -> CampaignConfig:
    """The campaign that the bundle's programs are from."""
    return rundir.read_config(finished_run)


@pytest.fixture(scope="module")
def imported(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any], config: CampaignConfig
) -> tuple[Path, list[Compared]]:
    folder = tmp_path_factory.mktemp("import") / "runs" / "imported"
    file = written(tree, tmp_path_factory.mktemp("b") / "b.json")
    return folder, import_bundles([file], folder, config)


def test_a_round_trip_is_exact(imported: tuple[Path, list[Compared]], bundle: Bundle, finished_run: Path) -> None:
    folder, found = imported
    assert [one.verdict for one in found] == ["as claimed"] * 3
    again = make_bundle(entries_of([find_program(f"{folder}#{entry.id}") for entry in bundle.programs], Notes()))
    for was, is_ in zip(bundle.programs, again.programs, strict=True):
        same = {
            "id",
            "source",
            "behaviour",
            "parameters",
            "descriptors",
            "dev",
            "found",
            "licence",
            "title",
            "explanation",
        }
        assert is_.model_dump(include=same) == was.model_dump(include=same)
        assert is_.test is None, "a test score is never taken over"
    sums = {c.program.id: c.assessment.sha256 for c in candidates(finished_run)}
    assert all(one.candidate.assessment.sha256 == sums[one.entry.id] for one in found), "another merge"


def test_the_entry_is_kept_as_data_and_nothing_else_is_taken(
    imported: tuple[Path, list[Compared]], tree: dict[str, Any]
) -> None:
    rows = candidates(imported[0])
    assert [json.loads(c.program.text) for c in rows] == tree["programs"]
    assert {(c.program.origin, c.program.prompt, c.program.parents) for c in rows} == {("imported", "", ())}
    assert all(c.assessment.isolation in ("FULL", "REDUCED") for c in rows)


def test_importing_again_changes_nothing_and_asks_nothing(
    imported: tuple[Path, list[Compared]], tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, found = imported
    with closing(Store.in_folder(folder)) as store:
        digest = store.digest()
    monkeypatch.setattr("engine.bench.Bench.merge", None)
    monkeypatch.setattr("engine.bench.Bench.score_merge", None)
    again = import_bundles([written(tree, tmp_path / "other-name.json")], folder, None)
    assert [(one.verdict, one.candidate) for one in again] == [(one.verdict, one.candidate) for one in found]
    with closing(Store.in_folder(folder)) as store:
        assert store.digest() == digest


def lying(tree: dict[str, Any], place: int, flips: int) -> dict[str, Any]:
    """A consistent lie: `flips` wrong answers of a program are called right, and all figures say so."""
    dev = at(tree, ("programs", place, "dev"))
    bits = dev["bits"].replace("0", "1", flips)
    assert bits != dev["bits"]
    verdicts = dict.fromkeys(("bits", "strict_bits", "lenient_bits"), bits)
    return changed(tree, ("programs", place, "dev"), with_share(dev | verdicts, bits.count("1") / len(bits), len(bits)))  # type: ignore[no-any-return]


def weighing(tree: dict[str, Any], place: int, share: float) -> dict[str, Any]:
    """A lie that its own bits do not refute: as if some problems weighed more than others, so that the right ones come to `share`."""
    dev = at(tree, ("programs", place, "dev"))
    alike = dev["bits"].count("1") / dev["n"]
    effective = 0.999 * dev["n"] / (1 + (share - alike) ** 2 / (alike * (1 - alike)))
    return changed(tree, ("programs", place, "dev"), with_share(dev, share, effective))  # type: ignore[no-any-return]


def raced(tree: dict[str, Any], place: int, asked: int) -> dict[str, Any]:
    """The same program, stopped after so many problems; the shares of its families are those of all."""
    dev = at(tree, ("programs", place, "dev"))
    bits = {name: dev[name][:asked] + "-" * (dev["n"] - asked) for name in ("bits", "strict_bits", "lenient_bits")}
    stopped = with_share(dev | bits | {"n": asked}, bits["bits"].count("1") / asked, float(asked))
    return changed(tree, ("programs", place, "dev"), stopped)  # type: ignore[no-any-return]


def test_every_lie_about_what_is_measured_is_told(
    tree: dict[str, Any], config: CampaignConfig, imported: tuple[Path, list[Compared]], tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    shutil.copytree(imported[0], folder)
    families = at(tree, ("programs", FIRST, "dev", "families"))
    measured = ("programs", NOISE, "measured")
    lies = {
        "score": (lying(tree, SUM, 3), SUM, "differs", "measured"),
        "one answer": (lying(tree, SUM, 1), SUM, "differs", "the verdicts on 1 of 24 problems are others"),
        "weights": (weighing(tree, SUM, 0.9), SUM, "differs", "the same verdicts, and another share (0.9) than they come to"),
        "race": (weighing(raced(tree, SUM, 12), SUM, 0.9), SUM, "differs", "the same verdicts, and another share (0.9)"),
        "family of a race": (raced(tree, SUM, 12), SUM, "differs", "the same verdicts, and other shares of the families"),
        "family": (
            changed(tree, ("programs", FIRST, "dev", "families"), dict.fromkeys(families, 0.0)),
            FIRST,
            "differs",
            "the same verdicts, and other shares of the families",
        ),
        "models": (changed(tree, (*measured, "inputs", "base"), "0" * 64), NOISE, "not comparable", "other models"),
        "order": (
            changed(tree, (*measured, "inputs", "experts"), dict(reversed(at(tree, (*measured, "inputs", "experts")).items()))),
            NOISE,
            "not comparable",
            "other models",
        ),
        "problems": (changed(tree, (*measured, "inputs", "dev"), "0" * 64), NOISE, "not comparable", "other dev problems"),
        "seed": (changed(tree, (*measured, "seed"), 9), NOISE, "not comparable", "another seed (9; --set campaign.seed=9)"),
        "prompts": (changed(tree, (*measured, "conditions"), "0" * 64), NOISE, "not comparable", "asked otherwise"),
    }  # fmt: skip
    files = [written(lie, tmp_path / f"{name}.json") for name, (lie, *_) in lies.items()]
    found = import_bundles(files, folder, config)
    for at_, (name, (_, place, verdict, detail)) in enumerate(lies.items()):
        three = found[3 * at_ : 3 * at_ + 3]
        assert three[place].verdict == verdict, name
        assert detail in str(three[place].detail), name
        assert [one.verdict for i, one in enumerate(three) if i != place] == ["as claimed"] * 2, name
    rows = candidates(folder)
    assert sum(c.assessment.score is not None for c in rows) == 3, "the same program is scored once"


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("behaviour", "hash"), "0" * 16, "behaviour: expected 0000000000000000 as it says"),
        (("behaviour", "experts"), 2, "behaviour: experts: expected 3 as of its scores, got 2"),
        (("id",), "0" * 12, "id: expected"),
        (("source",), "def merge_models(model_dict, device):\n    return 0\n", "id: expected"),
        (("dev", "share"), 0.99, "dev: share"),
    ],
)
def test_a_bundle_that_lies_about_itself_is_refused_whole(
    tree: dict[str, Any], config: CampaignConfig, tmp_path: Path, place: tuple[str, ...], value: Any, message: str
) -> None:
    file = written(changed(tree, ("programs", SUM, *place), value), tmp_path / "b.json")
    with pytest.raises(UserError, match=message) as error:
        import_bundles([file], tmp_path / "i", config, scored=False)
    assert str(error.value).count("\n") == 0
    assert not (tmp_path / "i").exists()


def test_a_hash_from_another_processor_is_no_lie(
    tree: dict[str, Any], config: CampaignConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tree["programs"][SUM]["behaviour"]["hash"]
    real = Prober.probe_with

    def elsewhere(prober: Prober, source: str, experts: int) -> ExecutionResult:
        answer = real(prober, source, experts)
        assert answer.outputs is not None
        for seed in itertools.count():
            noise = torch.Generator().manual_seed(seed)
            noisy = {n: t * (1 + 3e-6 * torch.randn(t.shape, generator=noise)) for n, t in answer.outputs.items()}
            if behaviour_hash(noisy) != told:
                return replace(answer, outputs=noisy)
        raise AssertionError

    monkeypatch.setattr(Prober, "probe_with", elsewhere)
    alone = {**tree, "programs": [tree["programs"][SUM]]}
    (found,) = import_bundles([written(alone, tmp_path / "b.json")], tmp_path / "i", config, scored=False)
    assert found.verdict == "not scored"


def test_the_one_line_is_plain_text_whatever_the_bundle_says(
    mergewright: Call, tree: dict[str, Any], tmp_path: Path
) -> None:
    lie = changed(tree, ("programs", SUM, "behaviour", "hash"), "0" * 16) | {
        "made_with": {"torch": "\x1b[31m\u202e\n2"}
    }
    result = mergewright(f"archive import {written(lie, tmp_path / 'b.json')} --into {tmp_path / 'i'} --no-score")
    (line,) = [line for line in result.err.splitlines() if line.startswith("mergewright:")]
    assert result.code == 2
    assert line.isprintable()


def entry(tree: dict[str, Any], source: str) -> dict[str, Any]:
    """An entry of a program of which nothing is claimed but what it does."""
    from merges.contract import program_id

    kept = {name: tree["programs"][SUM][name] for name in ("behaviour", "licence")}
    return {**kept, "id": program_id(source), "source": source, "parameters": {}}


def test_what_the_sandbox_refuses_is_a_row_with_a_reason(tree: dict[str, Any], tmp_path: Path) -> None:
    refused = "import os\nos.getcwd()\ndef merge_models(model_dict, device):\n    return 1\n"
    raising = "def merge_models(model_dict, device):\n    raise ValueError('\\x1b[31m\\u202e no')\n"
    same = "def merge_models(model_dict, device):\n    return 0.3 * sum(model_dict.values())\n"
    programs = [entry(tree, refused), entry(tree, raising), tree["programs"][SUM], entry(tree, same)]
    file = written({**tree, "programs": programs}, tmp_path / "b.json")
    found = import_bundles([file], tmp_path / "i", None, scored=False)
    assert [one.verdict for one in found] == ["rejected", "failed", "not scored", "duplicate"]
    assert [(c.assessment.outcome.value, c.assessment.reason) for c in candidates(tmp_path / "i")] == [
        ("rejected", "policy"),
        ("failed", "exception"),
        ("skipped", None),
        ("duplicate", None),
    ]
    assert "policy" in str(found[0].detail)
    assert tree["programs"][SUM]["id"] in str(found[3].detail)


DYING = """
import os, signal, sys
from pathlib import Path
from engine import importing, rundir
from engine.store import Store

folder, file, run, method, count = sys.argv[1:]
owners = [importing, rundir] if method == "write_whole" else [Store]
original, calls = getattr(owners[0], method), 0

def dying(*args, **kwargs):
    global calls
    calls += 1
    if calls == int(count):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **kwargs)

for owner in owners:
    setattr(owner, method, dying)
importing.import_bundles([Path(file)], Path(folder), rundir.read_config(Path(run)))
"""


@pytest.mark.parametrize(
    ("method", "count"),
    [("write_whole", 1), ("write_whole", 3), ("propose", 1), ("assess", 2), ("learn_verdicts", 2)],
)
def test_a_killed_import_goes_on_and_ends_the_same(
    imported: tuple[Path, list[Compared]],
    tree: dict[str, Any],
    config: CampaignConfig,
    finished_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    count: int,
) -> None:
    file, folder = written(tree, tmp_path / "b.json"), tmp_path / "i"
    command = [sys.executable, "-c", DYING, str(folder), str(file), str(finished_run), method, str(count)]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == -signal.SIGKILL
    before = {c.number for c in candidates(folder) if c.assessment.score} if (folder / "archive.db").exists() else set()
    told = Counter[str]()
    found = import_bundles([file], folder, config, told=lambda what: told.update([what.split(":")[0].split("/")[0]]))
    assert [one.verdict for one in found] == ["as claimed"] * 3
    assert sum(told[str(n)] for n in (1, 2, 3)) == 3 - len(before), "scored twice"
    with closing(Store.in_folder(folder)) as store, closing(Store.in_folder(imported[0])) as unbroken:
        assert store.digest() == unbroken.digest()


@pytest.mark.parametrize("killed", [False, True])
def test_an_archive_that_more_is_imported_into_is_not_finished_before_that_is_done(
    tree: dict[str, Any], tmp_path: Path, killed: bool
) -> None:
    folder, states = tmp_path / "i", []
    few = written({**tree, "programs": tree["programs"][:1]}, tmp_path / "few.json")
    import_bundles([few], folder, None, scored=False)

    def finished() -> bool:
        with closing(Store.in_folder(folder)) as store:
            return store.meta("state") is not None

    def dies(told: str) -> None:
        states.append(finished())
        if killed and told.startswith("1/"):
            raise KeyboardInterrupt

    assert finished()
    everything = written(tree, tmp_path / "b.json")
    with pytest.raises(KeyboardInterrupt) if killed else nullcontext():
        import_bundles([everything], folder, None, scored=False, told=dies)
    assert states == ([True, False] if killed else [True, False, False]), "probing changes nothing"
    assert finished() is not killed
    import_bundles([few], folder, None, scored=False)
    assert finished(), "and what was left undone is done"


def test_an_import_lies_where_its_campaign_says(
    tree: dict[str, Any], bundle: Bundle, config: CampaignConfig, archive_url: str | None, tmp_path: Path
) -> None:
    folder, file = tmp_path / "i", written(tree, tmp_path / "b.json")
    there = build_config(config.model_dump(mode="json"), [f"archive.url={archive_url}"] if archive_url else [])
    found = import_bundles([file], folder, there)
    assert [one.verdict for one in found] == ["as claimed"] * 3
    assert {path.name for path in folder.glob("archive.*")} == {"archive.url" if archive_url else "archive.db"}
    again = import_bundles([file], folder, None)
    assert [one.candidate for one in again] == [one.candidate for one in found]
    entries = entries_of([find_program(f"{folder}#{entry.id}") for entry in bundle.programs], Notes())
    assert [(one.id, one.source, one.dev, one.descriptors) for one in entries] == [
        (one.id, one.source, one.dev, one.descriptors) for one in bundle.programs
    ]


def test_a_server_that_is_not_there_is_told_before_any_work(tree: dict[str, Any], tmp_path: Path) -> None:
    config = build_config({}, ["archive.url=postgresql://me@/a?host=/nonexistent"])
    with pytest.raises(HostError, match="the server does not serve us"):
        import_bundles([written(tree, tmp_path / "b.json")], tmp_path / "i", config, scored=False, told=pytest.fail)
    assert not (tmp_path / "i").exists()


def test_a_campaigns_own_run_is_refused(
    finished_run: Path, tree: dict[str, Any], config: CampaignConfig, tmp_path: Path
) -> None:
    file = written(tree, tmp_path / "b.json")
    before = sorted(finished_run.rglob("*"))
    with pytest.raises(RunError, match="expected a new folder, or one that `archive import` made"):
        import_bundles([file], finished_run, config)
    assert sorted(finished_run.rglob("*")) == before
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="expected a new folder"):
        import_bundles([file], tmp_path / "file", config)


def test_an_import_is_of_one_campaign_and_one_choice(
    imported: tuple[Path, list[Compared]], tree: dict[str, Any], config: CampaignConfig, tmp_path: Path
) -> None:
    file = written(tree, tmp_path / "b.json")
    other = build_config(config.model_dump(mode="json"), ["campaign.seed=3"])
    with pytest.raises(RunError, match="expected the campaign that it was made with"):
        import_bundles([file], imported[0], other)
    with pytest.raises(RunError, match="expected scores as when it was made"):
        import_bundles([file], imported[0], None, scored=False)


def test_an_import_cannot_be_resumed_as_a_campaign(imported: tuple[Path, list[Compared]], mergewright: Call) -> None:
    result = mergewright(f"resume {imported[0]}")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "got one that `archive import` made" in result.err
    facts = json.loads(mergewright(f"status {imported[0]} --json").out)
    assert (facts["finished"], facts["planned"], facts["assessed"]) == (True, 3, 3)


def test_an_imported_archive_is_one_like_any_other(
    imported: tuple[Path, list[Compared]],
    mergewright: Call,
    ids: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = imported[0]
    monkeypatch.chdir(folder.parents[1])
    rows = json.loads(mergewright("archive list imported --json").out)
    assert {row["id"] for row in rows} == set(ids)
    assert "imported; everything here was measured here" in mergewright(f"archive show imported {ids[SUM]}").out
    assert "24 dev problems" in mergewright(f"archive diff imported {ids[SUM]} {ids[FIRST]}").out
    assert mergewright("archive stats imported").code == 0
    assert mergewright(f"archive export imported#{ids[SUM]} --format mergekit --out {tmp_path / 'x'}").code == 0
    models = " ".join(f"--expert pocket/expert_{x}" for x in "abc")
    assert mergewright(f"apply {ids[SUM][:8]} --base pocket/seed {models} --out {tmp_path / 'm'}").code == 0
    facts = json.loads(mergewright(f"score {tmp_path / 'm'} --limit 24 --json").out)
    assert facts["strict"] == next(row["strict"] for row in rows if row["id"] == ids[SUM])


@pytest.mark.parametrize("option", ["", "--no-score"])
def test_what_was_imported_hides_nothing_that_the_campaign_knows(
    mergewright: Call,
    finished_run: Path,
    imported: tuple[Path, list[Compared]],
    tree: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_run, tmp_path / "runs" / "campaign")
    if option:
        file = written(tree, tmp_path / "b.json")
        assert mergewright(f"archive import {file} --into runs/imported {option}").code == 0
    else:
        shutil.copytree(imported[0], tmp_path / "runs" / "imported")
    (tmp_path / "runs" / "imported" / "archive.db").touch()
    tested = next(one["id"] for one in tree["programs"] if one.get("test"))
    assert mergewright(f"archive export {tested[:8]} --format bundle --out again.json").code == 0
    (entry,) = read_bundle(tmp_path / "again.json").programs
    assert (entry.test, entry.dev) == next(
        (one.test, one.dev) for one in read_bundle(written(tree, tmp_path / "b.json")).programs if one.id == tested
    )
    assert entry.test is not None


def test_the_command_says_what_claims_come_to(
    mergewright: Call, imported: tuple[Path, list[Compared]], tree: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "i"
    shutil.copytree(imported[0], folder)
    honest, liar = written(tree, tmp_path / "b.json"), written(lying(tree, SUM, 4), tmp_path / "liar.json")
    result = mergewright(f"archive import {honest} --into {folder}")
    assert result.code == 0
    assert "as claimed" in result.out
    result = mergewright(f"archive import {liar} {honest} --into {folder} --json")
    assert result.code == 3
    rows = json.loads(result.out)["programs"]
    assert rows[SUM]["verdict"] == "differs"
    assert rows[SUM]["claimed"] > rows[SUM]["measured"]
    assert [row["verdict"] for row in rows[3:]] == ["as claimed"] * 3
    other = mergewright(f"archive import {honest} --into {folder} --set campaign.seed=5")
    assert (other.code, other.err.count("\n")) == (2, 1)


def test_a_bundle_shows_as_plain_text(mergewright: Call, tree: dict[str, Any], tmp_path: Path) -> None:
    odd = "\x1b[31m\u202eevil\u2066[bold]x[/bold]"
    source = f"# {odd}\n" + tree["programs"][SUM]["source"]
    one = {**tree["programs"][SUM], "source": source, "title": odd, "explanation": odd}
    one["found"] = one["found"] | {"campaign": odd, "generator": odd}
    file = written({**tree, "programs": [one], "made_with": {odd: odd}}, tmp_path / "b.json")
    folder = tmp_path / "i"
    assert mergewright(f"archive import {file} --into {folder} --no-score").code == 0
    shown = mergewright(f"archive show {folder} 1").out + mergewright(f"archive list {folder}").out
    for form, name in (("py", "x.py"), ("hub", "hub"), ("bundle", "b2.json")):
        assert mergewright(f"archive export {folder}#{one['id']} --format {form} --out {tmp_path / name}").code == 0
    header = (tmp_path / "x.py").read_text().partition("\n\n")[0]
    shown += header + (tmp_path / "hub" / "README.md").read_text() + (tmp_path / "b2.json").read_text()
    assert not {"\x1b", "\u202e", "\u2066"} & set(shown)
    assert to_text(read_bundle(tmp_path / "b2.json").programs[0].found).count("\\u202e") == 2  # type: ignore[arg-type]


def test_ctrl_c_stops_in_order(tree: dict[str, Any], tmp_path: Path) -> None:
    from engine.errors import Interrupted

    def check() -> None:
        raise Interrupted("stopped in order")

    with pytest.raises(Interrupted):
        import_bundles([written(tree, tmp_path / "b.json")], tmp_path / "i", None, scored=False, check=check)
    assert not (tmp_path / "i").exists()


def test_the_campaign_of_an_import_has_no_final_and_no_triage(config: CampaignConfig) -> None:
    judging = build_config(config.model_dump(mode="json"), ["learn.method=self-rewarding", "judge.triage=0.5"])
    made = importing.import_config(judging)
    assert (made.campaign.final, made.learn.method) == (False, "none")
    screening = build_config(config.model_dump(mode="json"), ["explore.screen=0.5"])
    assert importing.import_config(screening).explore.screen == 1.0
    assert made.models == judging.models
