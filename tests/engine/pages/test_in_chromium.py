"""The pages in a real browser: Debian's chromium, driven by playwright; no browser is downloaded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from engine import rundir
from engine.config import CampaignConfig
from engine.pages.rendering import source
from engine.pages.report import write_report
from engine.pages.runs import Run
from engine.records import Final
from engine.store import Store
from tests.engine.conftest import candidate, dev_score
from tests.engine.pages.conftest import SCRIPT
from tests.engine.pages.test_running import serving
from tests.environments import CHROMIUM

pytestmark = pytest.mark.full


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM.find(), args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(finished: Path) -> Iterator[str]:
    with serving(finished) as (_, found):
        yield found.rstrip("/")


class Visit:
    """A page, and everything that went wrong on it."""

    def __init__(self, context: BrowserContext, home: str) -> None:
        self.page: Page = context.new_page()
        self.home, self.wrong = home, []  # type: tuple[str, list[str]]
        self.page.on("console", lambda m: self.wrong.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", lambda r: None if r.url.startswith(home) else self.wrong.append(f"request to {r.url}"))

    def open(self, path: str) -> Page:
        self.page.goto(self.home + path)
        return self.page


@pytest.fixture(params=["light", "dark"])
def visit(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Visit]:
    context = browser.new_context(color_scheme=request.param, permissions=["clipboard-read", "clipboard-write"])
    found = Visit(context, address)
    yield found
    context.close()
    assert found.wrong == []


PAGES = [
    "/",
    "/beside?run=small",
    "/runs/small",
    "/runs/small/programs",
    "/runs/small/programs?where=nonsense",
    "/runs/small/map",
    "/runs/small/compare",
    "/runs/small/compare?first=1&second=9",
]


def test_every_page_is_accessible_quiet_and_asks_nobody_else(visit: Visit, run: Run) -> None:
    programs = [f"/runs/small/programs/{c.number}" for c in run.store.candidates()]
    for path in (*PAGES, *programs):
        page = visit.open(path)
        for details in page.locator("details").all():
            details.evaluate("one => one.open = true")
        found = Axe().run(page)
        assert found.violations_count == 0, f"{path}: {found.generate_report()}"
    # a page that is answered with 400 is an error to the browser's console, and nothing else is
    visit.wrong = [one for one in visit.wrong if "status of 400" not in one]


def test_from_the_map_to_a_program_to_the_command_that_applies_it(visit: Visit, run: Run) -> None:
    page = visit.open("/")
    page.get_by_role("link", name="small", exact=True).click()
    page.get_by_role("link", name="Map").click()
    cell = page.locator("table.map a").first
    program = (cell.get_attribute("href") or "").rpartition("/")[2]
    cell.click()
    expect(page).to_have_url(re.compile(f"/runs/small/programs/{program}$"))
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Program {program}")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("mergewright apply ")
    assert program in copied
    assert "--base pocket/seed --expert pocket/expert_a" in copied


def test_the_leaderboard_by_keyboard_alone(visit: Visit, run: Run) -> None:
    page = visit.open("/runs/small/programs")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.get_by_label("Text", exact=True).focus()
    page.keyboard.type("raise")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_have_text("2 programs")
    page = visit.open("/runs/small/programs?verdict=ok")
    for side, at in (("first", 0), ("second", 1)):
        page.locator(f"input[name={side}]").nth(at).focus()
        page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"compare\?first=\w+&second=\w+"))
    expect(page.get_by_role("heading", name="By syntax")).to_be_visible()


def test_hostile_text_stands_there_and_never_runs(visit: Visit, run: Run) -> None:
    hostile = next(c for c in run.store.candidates() if c.program.source.startswith('"""<script>'))
    for path in (
        "/runs/small/programs?text=script",
        f"/runs/small/programs/{hostile.number}",
        f"/runs/small/compare?first={hostile.number}&second=1",
    ):
        page = visit.open(path)
        page.wait_for_load_state("networkidle")
        expect(page.locator("main")).to_contain_text(SCRIPT)


def test_a_page_follows_a_run_while_it_is_written(
    browser: Browser, small_config: CampaignConfig, tmp_path: Path
) -> None:
    rundir.new_folder(small_config, tmp_path / "growing", "now")
    store = Store.in_folder(tmp_path / "growing", create=True)
    store.take_over([candidate(1, 0.5)])
    with serving(tmp_path / "growing") as (_, home):
        context = browser.new_context()
        visit = Visit(context, home.rstrip("/"))
        page = visit.open("/runs/growing")
        expect(page.locator("#state")).to_have_text("Not finished: this page follows it.")
        page.get_by_text("As a table").click()
        (new,) = store.propose(1, [candidate(2, 0.75).program])
        store.assess(new.number, candidate(2, 0.75).assessment)
        expect(page.locator(".cards")).to_contain_text("75.0 %")
        expect(page.get_by_label("Best so far, as a table")).to_be_visible()  # what was open stays open
        store.set_meta("state", {"finished": True, "digest": ""})
        expect(page.locator("#state")).to_have_text("Finished.")
        assert visit.wrong == []
        context.close()


def test_a_page_that_follows_a_run_leaves_its_reader_where_they_are(
    browser: Browser, small_config: CampaignConfig, tmp_path: Path
) -> None:
    rundir.new_folder(small_config, tmp_path / "growing", "now")
    store = Store.in_folder(tmp_path / "growing", create=True)
    store.take_over([candidate(1, 0.25), candidate(2, 0.5), candidate(3, None)])
    shares = iter([0.6, 0.7, 0.8])

    def goes_on(page: Page) -> None:
        """A program is scored that is better than all before it, and the page shows it."""
        share = next(shares)
        store.take_over([candidate(round(1000 * share), share)])
        expect(page.locator(".cards")).to_contain_text(f"{100 * share:.1f} %")

    with serving(tmp_path / "growing") as (_, home):
        context = browser.new_context(viewport={"width": 360, "height": 300})  # tables are wider than this
        visit = Visit(context, home.rstrip("/"))
        page = visit.open("/runs/growing")
        page.get_by_text("As a table").press("Enter")
        expect(page.get_by_text("As a table")).to_be_focused()
        goes_on(page)
        expect(page.get_by_text("As a table")).to_be_focused()
        link = page.get_by_label("Best so far, as a table").get_by_role("link", name=f"{2:012x}")
        link.focus()
        before = page.evaluate("scrollY")
        goes_on(page)
        expect(link).to_be_focused()
        assert page.evaluate("scrollY") == before > 0
        region = page.get_by_label("Table of iterations")
        region.focus()
        region.evaluate("one => { one.scrollLeft = 40; }")
        store.add_final(Final("seed", "seed", 1, 0.5, {}, dev_score()))  # a table more, above the others
        goes_on(page)
        expect(region).to_be_focused()
        assert region.evaluate("one => one.scrollLeft") == 40
        best = page.locator(".cards").get_by_role("link")
        best.focus()
        page.get_by_text("As a table").evaluate("one => { one.parentElement.open = false; }")
        store.take_over([candidate(1000, 1.0)])
        expect(page.locator(".cards")).to_contain_text("100.0 %")
        expect(best).to_be_focused()  # another program's now; the one that it led to stands in a table that is closed
        assert visit.wrong == []
        context.close()


def test_narrow_screens_do_not_scroll_sideways(browser: Browser, address: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740})
    page = context.new_page()
    for path in (*PAGES, "/runs/small/programs/1", "/runs/small/programs/9"):
        page.goto(address + path)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
    context.close()


def test_the_report_opens_from_the_disk(browser: Browser, run: Run, tmp_path: Path) -> None:
    write_report(run, tmp_path / "report.html")
    context = browser.new_context()
    visit = Visit(context, f"file://{tmp_path}")
    page = visit.open("/report.html")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.locator("table.map a").last.click()
    assert page.url.partition("#")[2] in [c.program.id for c in run.store.candidates()]
    assert visit.wrong == []
    context.close()


def test_a_line_stands_in_the_order_of_its_characters(browser: Browser) -> None:
    line = "x = (\u05d0, 1, \u05d1)  # \u05d2 + 2"
    style = (files("engine.pages") / "static" / "style.css").read_text()
    page = browser.new_page()
    page.set_content(f'<style>{style}</style><pre class="source"><code>{source(line, None, "a")}</code></pre>')
    places = page.evaluate("""() => {
        const walker = document.createTreeWalker(document.querySelector("#a-1"), NodeFilter.SHOW_TEXT), found = [];
        while (walker.nextNode()) for (let at = 0; at < walker.currentNode.length; at++) {
            const range = document.createRange();
            range.setStart(walker.currentNode, at); range.setEnd(walker.currentNode, at + 1);
            found.push(range.getBoundingClientRect().left);
        }
        return found;
    }""")
    page.close()
    assert len(places) == len(line) + 1, "and its end"
    assert places[:-1] == sorted(places[:-1])
