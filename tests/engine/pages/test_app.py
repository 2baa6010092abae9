"""The pages: what they show is what the archive holds, and text is text."""

from __future__ import annotations

import html
import json
import re
import shutil
from contextlib import closing
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from engine import rundir
from engine.ablation import known_ablation
from engine.ablation_page import points
from engine.cells import Axis, cells
from engine.cli import app
from engine.config import CampaignConfig
from engine.pages.app import create_app
from engine.pages.guard import HEADERS
from engine.pages.parts import SHADES
from engine.pages.report import write_report
from engine.pages.runs import Run, Runs
from engine.records import IMPORTED, Candidate, Outcome, Program
from engine.store import Store
from tests.engine.conftest import candidate
from tests.engine.pages.conftest import BASE, ESCAPE, HOSTILE, OVERRIDE, SCRIPT

RUN = "/runs/small"


def hostile(run: Run) -> Candidate:
    return next(c for c in run.store.candidates() if c.program.source.startswith('"""<script>'))


def best(run: Run) -> Candidate:
    return max((c for c in run.store.candidates() if c.score is not None), key=lambda c: (c.score or 0, -c.number))


def every_page(run: Run) -> list[str]:
    one, other = best(run).program.id, hostile(run).program.id
    programs = [f"{RUN}/programs/{c.number}" for c in run.store.candidates()]
    searched = [
        f"{RUN}/programs{query}"
        for query in ("", "?verdict=ok&sort=-score", "?text=script", "?where=scale>0.1&operation=rand", "?page=2")
    ]
    others = [
        f"{RUN}/map",
        f"{RUN}/map?across=nodes&down=size&columns=3&rows=2",
        f"{RUN}/compare",
        f"{RUN}/compare?first={one}&second={other}",
    ]
    return ["/", "/beside", "/beside?run=small", RUN, f"{RUN}/live", *searched, *programs, *others]


class Tags(HTMLParser):
    """Everything in a page that could act: elements, attributes, and where they lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def test_every_page_is_there_and_nothing_in_it_acts(visitor: TestClient, run: Run) -> None:
    for address in every_page(run):
        answer = visitor.get(address)
        assert answer.status_code == 200, (address, answer.text)
        tags = Tags(answer.text)
        scripts = [value for tag, name, value in tags.attributes if (tag, name) == ("script", "src")]
        assert tags.elements.count("script") == len(scripts), "no script of the page's own"
        assert set(scripts) <= {"/static/pages.js"}
        assert not [name for _, name, _ in tags.attributes if name.startswith("on") or name == "style"], address
        assert all(
            value.startswith(("/", "#", "?")) for _, name, value in tags.attributes if name in ("href", "src")
        ), address
        assert len(tags.ids) == len(set(tags.ids)), (address, "ids are unique")
        assert "'unsafe" not in answer.headers["Content-Security-Policy"]


def test_every_link_leads_somewhere(visitor: TestClient, run: Run) -> None:
    found = {
        value
        for address in every_page(run)
        for _, name, value in Tags(visitor.get(address).text).attributes
        if name in ("href", "src")
    }
    inside = {value for value in found if value.startswith("/")}
    assert len(inside) > 12
    for address in inside:
        assert visitor.get(address).status_code == 200, address


def test_hostile_text_is_shown_and_does_nothing(visitor: TestClient, run: Run, tmp_path: Path) -> None:
    one = hostile(run)
    failed = next(
        c
        for c in run.store.candidates()
        if c.assessment.outcome is Outcome.FAILED and SCRIPT in (c.assessment.detail or "")
    )
    write_report(run, tmp_path / "r.html")
    pages = {address: visitor.get(address).text for address in every_page(run)} | {
        "report": (tmp_path / "r.html").read_text()
    }
    for address, page in pages.items():
        assert SCRIPT not in page, address
        assert "<img" not in page, address
        assert OVERRIDE not in page, address
        assert ESCAPE[0] not in page, address
    shown = text_of(pages[f"{RUN}/programs/{one.number}"])
    for piece in (SCRIPT, "\\u202e", "\\x1b[31m", "</code></pre><img src=x onerror=alert(1)> {{ 7 * 7 }} &amp;"):
        assert piece in shown, "as it was written"
    assert SCRIPT in text_of(pages[f"{RUN}/programs/{failed.number}"])
    assert SCRIPT in text_of(visitor.get(f"{RUN}/compare?first={one.number}&second=1").text)
    assert SCRIPT in text_of(visitor.get(f"{RUN}/programs?text=<script>").text)
    searched = visitor.get(f'{RUN}/programs?where="><script>').text
    assert "<script>" not in searched.replace('<script src="/static/pages.js" defer></script>', "")


def test_no_page_runs_a_program(visitor: TestClient, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a page started a sandbox")

    for place in ("sandbox.host.Sandbox.__init__", "subprocess.Popen.__init__", "os.fork"):
        monkeypatch.setattr(place, never)
    for address in every_page(run):
        assert visitor.get(address).status_code == 200


def test_the_run_at_a_glance_has_the_archives_figures(visitor: TestClient, run: Run) -> None:
    page = text_of(visitor.get(RUN).text)
    everyone = run.store.candidates()
    first = best(run)
    assert re.search(rf"Programs assessed\s*{len(everyone)}\s*of 11; finished", page)
    assert f"{100 * (first.score or 0):.1f} %" in page
    assert first.program.id in page
    for reason in {c.assessment.reason for c in everyone if c.assessment.reason}:
        assert reason in page
    for final in run.store.finals():
        assert final.name in page
    assert "Held-out test problems, n = 24" in page


def test_the_leaderboard_finds_and_orders_as_the_archive_does(visitor: TestClient, run: Run) -> None:
    def listed(query: str) -> list[str]:
        return re.findall(
            rf'<th scope="row" class="text"><a class="id" href="{RUN}/programs/(\w+)">',
            visitor.get(f"{RUN}/programs{query}").text,
        )

    everyone = {c.number: c for c in run.store.candidates()}
    assert len(listed("")) == 11
    assert listed("")[0] == best(run).program.id
    assert listed("?sort=number") == [everyone[n].program.id for n in sorted(everyone)]
    assert listed("?sort=-number") == [everyone[n].program.id for n in sorted(everyone, reverse=True)]
    failed = [c.program.id for c in everyone.values() if c.assessment.outcome is Outcome.FAILED]
    assert sorted(listed("?verdict=failed")) == sorted(failed)
    assert listed("?operation=rand&where=randomness>0.1,score>=0") == [
        c.program.id for c in everyone.values() if "torch.rand(" in c.program.source
    ]
    assert listed("?page=2") == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("where=foo>1", "expected a name out of score"),
        ("where=score", "expected NAME"),
        ("sort=beauty", "sort: expected one of"),
        ("verdict=great", "verdict: expected one of"),
        ("iteration=x", "iteration: expected a whole number"),
        (f"text={'a' * 50_001}", "text: expected 3000 characters at most, got 50001"),
        ("page=0", "page: expected a whole number"),
        ("page=99999999999999999999", "page: expected a whole number"),
    ],
)
def test_a_filter_that_is_none_is_one_line_above_the_form(visitor: TestClient, query: str, message: str) -> None:
    answer = visitor.get(f"{RUN}/programs?{query}")
    assert answer.status_code == 400
    assert message in text_of(answer.text)


def test_a_program_is_found_by_id_beginning_and_number(visitor: TestClient, run: Run) -> None:
    one = best(run)
    whole = visitor.get(f"{RUN}/programs/{one.program.id}")
    assert "merge_models" in text_of(whole.text)
    assert visitor.get(f"{RUN}/programs/{one.number}").text == whole.text
    led = visitor.get(f"{RUN}/programs/{one.program.id[:6]}")
    assert (led.status_code, led.headers["Location"]) == (303, f"{RUN}/programs/{one.program.id}")
    missing = visitor.get(f"{RUN}/programs/ffffffffffff")
    assert missing.status_code == 404
    assert "expected an id or number of 'small'" in text_of(missing.text)


def test_a_programs_page_says_whom_it_beats_and_where_it_weighs_what(visitor: TestClient, run: Run) -> None:
    one = best(run)
    page = text_of(visitor.get(f"{RUN}/programs/{one.program.id}").text)
    seed = next(t for t in run.store.trials() if t.kind == "seed")
    assert one.assessment.score
    won = sum(a == "1" and b == "0" for a, b in zip(one.assessment.score.bits, seed.score.bits, strict=True))
    assert f"Solved here and not by seed ({won})" in page
    assert page.count("pocket-dev-") >= won
    effects = run.store.effects(one.program.id)
    assert effects
    assert all(f"{weight:.2f}" in page for effect in effects for weight in effect.weights.values())
    assert "weight of expert_a" in page
    assert "mergewright apply" in page
    assert one.program.id in page


def test_a_programs_page_says_what_carries_its_score_or_how_to_ask(visitor: TestClient, run: Run) -> None:
    asked, other = (
        next(c for c in run.store.candidates() if c.assessment.score and (c.program.source == HOSTILE) is wanted)
        for wanted in (True, False)
    )
    found = known_ablation(run.store, asked.program.id)
    assert found is not None
    page = visitor.get(f"/runs/small/programs/{asked.program.id}").text
    assert page.count("<tr><td><a href=") == len(found.telling) > 2
    for one in found.telling:
        assert f'href="#{asked.program.id}-{one.line}"' in page
        assert f"<td>{points(one)}</td>" in page
    assert f"As it is: {100 * found.score:.1f} % of 24 dev problems" in page
    assert "one|" not in page
    page = visitor.get(f"/runs/small/programs/{other.program.id}").text
    assert f"mergewright archive ablate {run.folder} {other.program.id}" in page


def test_other_problems_of_the_same_number_are_not_shown_under_the_old_verdicts(run: Run, tmp_path: Path) -> None:
    folder, others = tmp_path / "run", tmp_path / "others.jsonl"
    shutil.copytree(run.folder, folder)
    others.write_text("".join(json.dumps({"question": f"Other {at}?", "answer": "#### 1"}) + "\n" for at in range(24)))
    config = json.loads((folder / "campaign.json").read_text())
    config["benchmark"] |= {"name": "jsonl", "data": str(others)}
    (folder / "campaign.json").write_text(json.dumps(config))
    one = best(run).number
    worst = min((c for c in run.store.candidates() if c.score is not None), key=lambda c: c.score or 0).number
    with closing(Runs([str(folder)])) as runs:
        visitor = TestClient(create_app(runs), base_url=BASE)
        places = (f"programs/{one}", f"compare?first={one}&second={worst}")
        pages = [visitor.get(f"/runs/run/{place}").text for place in places]
    for page in map(text_of, pages):
        assert "alone solved" in page
        assert "Other" not in page
        assert "the run's problems are not at hand" in page


def test_the_map_shows_the_best_of_each_cell(visitor: TestClient, run: Run) -> None:
    page = visitor.get(f"{RUN}/map?across=scale&down=randomness&columns=40&rows=3").text
    held = cells(run.store, Axis("scale", 40), Axis("randomness", 3)).held
    assert len(held) >= 3
    linked = re.findall(rf'<td class="q\d"><a href="{RUN}/programs/(\w+)"', page)
    assert sorted(linked) == sorted(cell.program for cell in held)
    shades = {
        program: int(shade) for shade, program in re.findall(rf'<td class="q(\d)"><a href="{RUN}/programs/(\w+)"', page)
    }
    ranked = sorted(held, key=lambda cell: cell.value)
    assert [shades[cell.program] for cell in ranked] == sorted(shades.values())
    assert (shades[ranked[0].program], shades[ranked[-1].program]) == (0, SHADES)
    assert visitor.get(f"{RUN}/map?across=scale&down=scale").status_code == 400
    assert visitor.get(f"{RUN}/map?across=nobody").status_code == 400
    assert visitor.get(f"{RUN}/map?columns=1000").status_code == 400


def test_two_programs_are_compared_and_one_that_does_not_parse_is_told(visitor: TestClient, run: Run) -> None:
    broken = next(c for c in run.store.candidates() if c.assessment.reason == "syntax")
    answer = visitor.get(f"{RUN}/compare?first={best(run).program.id}&second={broken.number}")
    assert answer.status_code == 400
    assert "expected" in text_of(answer.text)
    assert visitor.get(f"{RUN}/compare?first=1&second=nobody").status_code == 404


def test_an_address_that_is_none_is_a_page_and_json_below_api(visitor: TestClient) -> None:
    assert "That is not here" in visitor.get("/nothing").text
    assert visitor.get("/runs/nobody").status_code == 404
    assert (
        visitor.get("/api/runs/nobody")
        .json()["detail"]
        .startswith("run 'nobody': expected one of those that are shown (small)")
    )
    assert visitor.get("/static/../app.py").status_code == 404
    assert visitor.get("/static/%2e%2e/app.py").status_code == 404


@pytest.mark.parametrize(
    ("path", "media", "begin"),
    [
        ("/runs/small/programs", "text/html; charset=utf-8", "<!doctype html>"),
        ("/api/runs/small/programs", "application/json", '{"detail":'),
    ],
)
def test_a_fault_that_nobody_foresaw_is_a_page_and_json_with_all_headers(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, path: str, media: str, begin: str
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr("engine.store.Store.find", broken)
    answer = TestClient(create_app(runs), base_url=BASE, raise_server_exceptions=False).get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (500, media)
    assert answer.text.startswith(begin)
    assert "KeyError" in answer.text
    assert "secret" not in answer.text
    assert answer.headers.items() >= {name.lower(): value for name, value in HEADERS.items()}.items()


@pytest.fixture
def growing(small_config: CampaignConfig, tmp_path: Path) -> Store:
    """A run that is being written: three candidates of 16."""
    rundir.new_folder(small_config, tmp_path / "growing", "now")
    store = Store.in_folder(tmp_path / "growing", create=True)
    store.take_over([candidate(1, 0.5), candidate(2, None), candidate(3, 0.25)])
    return store


def test_a_page_follows_a_run_that_is_being_written(growing: Store, tmp_path: Path) -> None:
    runs = Runs([str(tmp_path / "growing")])
    visitor = TestClient(create_app(runs), base_url=BASE)
    page = visitor.get("/runs/growing").text
    assert 'data-live="/runs/growing/live"' in page
    beat = f'"{re.search(r"data-beat=.([^ >]+).>", page)[1]}"'  # type: ignore[index]
    still = visitor.get("/runs/growing/live", headers={"If-None-Match": beat})
    assert (still.status_code, still.text) == (304, "")
    (new,) = growing.propose(1, [candidate(4, 0.75).program])
    proposed = visitor.get("/runs/growing/live", headers={"If-None-Match": beat})
    assert proposed.status_code == 200
    growing.assess(new.number, candidate(4, 0.75).assessment)
    answer = visitor.get("/runs/growing/live", headers={"If-None-Match": proposed.headers["ETag"]})
    assert answer.status_code == 200
    assert "75.0 %" in answer.text
    assert not answer.headers["ETag"].endswith('-1"')
    growing.set_meta("state", {"finished": True, "digest": ""})
    assert (
        visitor.get("/runs/growing/live", headers={"If-None-Match": answer.headers["ETag"]})
        .headers["ETag"]
        .endswith('-1"')
    )
    assert "data-live" not in visitor.get("/runs/growing").text
    runs.close()


def test_an_empty_run_has_every_page(small_config: CampaignConfig, tmp_path: Path) -> None:
    rundir.new_folder(small_config, tmp_path / "empty", "now")
    Store.in_folder(tmp_path / "empty", create=True).close()
    runs = Runs([str(tmp_path / "empty")])
    visitor = TestClient(create_app(runs), base_url=BASE)
    for address in (
        "/",
        "/beside?run=empty",
        *(f"/runs/empty{end}" for end in ("", "/live", "/programs", "/map", "/compare")),
    ):
        assert visitor.get(address).status_code == 200, address
    write_report(next(iter(runs)), tmp_path / "r.html")
    assert "no program has a score yet" in (tmp_path / "r.html").read_text()
    runs.close()


def test_an_id_that_matches_two_programs_lists_them(growing: Store, tmp_path: Path) -> None:
    program: Program = replace(candidate(5, 0.5).program, id="abcdef000001")
    growing.propose(1, [program, replace(program, id="abcdef000002")])
    runs = Runs([str(tmp_path / "growing")])
    answer = TestClient(create_app(runs), base_url=BASE).get("/runs/growing/programs/abcdef")
    assert answer.status_code == 404
    assert "abcdef000001" in answer.text
    assert "abcdef000002" in answer.text
    runs.close()


def test_a_program_that_was_left_out_says_why(
    growing: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (new,) = growing.propose(1, [candidate(4, 0.5).program])
    why = "foretold 41.2 % by programs that do alike: not among the first 3 of 5"
    growing.assess(new.number, replace(candidate(4, None, outcome=Outcome.SKIPPED).assessment, reason=None, detail=why))
    runs = Runs([str(tmp_path / "growing")])
    visitor = TestClient(create_app(runs), base_url=BASE)
    assert why in visitor.get("/runs/growing/programs?verdict=skipped").text
    assert f"Not merged and not scored: {why}." in visitor.get("/runs/growing/programs/4").text
    runs.close()
    app(["archive", "show", str(tmp_path / "growing"), "4"], standalone_mode=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert f"left out {why}" in shown


@pytest.mark.parametrize(("origin", "said"), [(IMPORTED, ": imported without scores."), ("generator", ".")])
def test_a_program_without_a_score_is_given_no_reason_that_nobody_noted(
    growing: Store, tmp_path: Path, origin: str, said: str
) -> None:
    (new,) = growing.propose(1, [replace(candidate(4, 0.5).program, origin=origin)])
    growing.assess(new.number, replace(candidate(4, None, outcome=Outcome.SKIPPED).assessment, reason=None))
    with closing(Runs([str(tmp_path / "growing")])) as runs:
        page = TestClient(create_app(runs), base_url=BASE).get("/runs/growing/programs/4").text
    assert f"Not merged and not scored{said}</p>" in page


def test_runs_side_by_side(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "second" / "small")
    runs = Runs([str(finished), str(tmp_path / "second" / "small")])
    assert [run.name for run in runs] == ["small", "small~2"], "two of a name are told apart"
    page = TestClient(create_app(runs), base_url=BASE).get("/beside?run=small&run=small~2").text
    assert page.count("line s0") == 2, "in the figure and in its legend"
    assert page.count("line s1") == 2
    assert page.count(">model_stock") + page.count(">task_arithmetic") == 2
    runs.close()


def test_runs_that_begin_later_are_found_and_broken_ones_told(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = Runs()
    visitor = TestClient(create_app(runs), base_url=BASE)
    assert "There are none here" in visitor.get("/").text
    shutil.copytree(finished, tmp_path / "runs" / "late")
    shutil.copytree(finished, tmp_path / "runs" / "broken")
    (tmp_path / "runs" / "broken" / "archive.db").write_bytes(b"no database" * 100)
    page = visitor.get("/").text
    assert 'href="/runs/late"' in page
    assert 'href="/runs/broken"' not in page
    assert "file is not a database" in page
    assert visitor.get("/runs/late").status_code == 200
    runs.close()
