"""Addresses and the pages behind them.

/                              the runs;   /beside?run=A&run=B   several, side by side
/runs/R                        a run at a glance, live while it is being written
/runs/R/programs               the leaderboard, with filters;   /runs/R/programs/ID   one program
/runs/R/map                    the best program of every cell
/runs/R/compare?first=&second= two programs
/api/...                       the same facts as JSON; /api/openapi.json describes them
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware

from engine.cells import cells
from engine.errors import EXIT_HOST, KNOWN_ERRORS, ConfigError, UnknownNameError, exit_code
from engine.lineage import family, related
from engine.overview import pulse
from engine.pages import api
from engine.pages.asking import PAGE, Asked, axes
from engine.pages.guard import Guard, guarded
from engine.pages.kin import MOST_SHOWN, ancestors, descendants
from engine.pages.parts import Values, beside_part, glance_part, map_part, pair_part, program_part
from engine.pages.rendering import render
from engine.pages.runs import Run, Runs, at_a_glance
from engine.records import Outcome
from engine.search import NAMES

SECONDS_BETWEEN_LOOKS = 2
"""How often a page of a run that is being written asks whether there is more to show."""


def create_app(runs: Runs, *, token: str | None = None) -> FastAPI:
    """The pages of some runs.

    Args:
        runs: closed by the caller.
        token: see `guard.Guard`.
    """
    app = FastAPI(
        title="Mergewright", version="1", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json",
        description="Runs of a search for merge algorithms: what was tried, how it did, and how programs relate. Read-only.",
    )  # fmt: skip
    app.add_middleware(BaseHTTPMiddleware, dispatch=Guard(token))
    app.mount("/static", StaticFiles(directory=str(files("engine.pages") / "static")), name="static")
    app.include_router(api.routes(runs))
    _add_run_pages(app, runs)
    _add_program_pages(app, runs)
    _add_mistakes(app)
    return app


def _page(app: FastAPI, path: str) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
    return app.get(path, response_class=HTMLResponse, include_in_schema=False)


def _add_run_pages(app: FastAPI, runs: Runs) -> None:
    @_page(app, "/")
    def index() -> Response:
        runs.refresh()
        seen, broken = at_a_glance(runs)
        return _html("runs.html", {"seen": seen, "broken": [*runs.broken, *broken]})

    @_page(app, "/beside")
    def beside(run: Annotated[list[str] | None, Query()] = None) -> Response:
        chosen = [runs.named(name) for name in dict.fromkeys(run or ())]
        return _html("beside.html", {"everyone": list(runs), **beside_part(chosen)})

    @_page(app, "/runs/{name}")
    def glance(name: str) -> Response:
        run = runs.named(name)
        beat = pulse(run.store)  # before the rest: what comes between the two is shown again, not missed
        return _page_of(run, "overview.html", {"beat": beat, "wait": SECONDS_BETWEEN_LOOKS, **glance_part(run)})

    @_page(app, "/runs/{name}/live")
    def live(name: str, request: Request) -> Response:
        run = runs.named(name)
        beat = f'"{pulse(run.store)}"'
        if request.headers.get("If-None-Match") == beat:
            return Response(status_code=304, headers={"ETag": beat})
        return _page_of(run, "live.html", glance_part(run), headers={"ETag": beat})

    @_page(app, "/runs/{name}/map")
    def kinds(name: str, request: Request) -> Response:
        run = runs.named(name)
        across, down = axes(request.query_params, run.config.explore)
        return _page_of(run, "map.html", map_part(cells(run.store, across, down)))


def _add_program_pages(app: FastAPI, runs: Runs) -> None:
    @_page(app, "/runs/{name}/programs")
    def programs(name: str, request: Request) -> Response:
        run, asked = runs.named(name), Asked.of(request.query_params)
        values = {"asked": asked, "page_size": PAGE, "outcomes": list(Outcome), "names": NAMES}
        try:
            found, count = run.store.find(run.within_families(asked.query()))
        except (ConfigError, UnknownNameError) as error:
            status = 404 if isinstance(error, UnknownNameError) else 400
            return _page_of(run, "programs.html", values | {"mistake": str(error)}, status=status)
        return _page_of(run, "programs.html", values | {"mistake": None, "found": found, "count": count})

    @_page(app, "/runs/{name}/programs/{reference}")
    def program(name: str, reference: str) -> Response:
        run = runs.named(name)
        candidate = run.candidate(reference)
        if reference not in (candidate.program.id, str(candidate.number)):
            return RedirectResponse(f"/runs/{run.name}/programs/{candidate.program.id}", 303)
        found = family(run.store, candidate.program.id, limit=MOST_SHOWN)
        assert found is not None, "it is its own"
        kin = {"family": found, "up": ancestors(found), "down": descendants(found)}
        values = {"part": program_part(run, candidate), "related": related(run.store, candidate)}
        return _page_of(run, "program.html", values | kin)

    @_page(app, "/runs/{name}/compare")
    def compare(name: str, first: str = "", second: str = "") -> Response:
        run = runs.named(name)
        pair = pair_part(run, run.candidate(first), run.candidate(second)) if first and second else None
        return _page_of(run, "compare.html", {"first": first, "second": second, "pair": pair})


def _page_of(
    run: Run, template: str, values: Values, *, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """A page on which programs of a run are linked."""

    def href(program: str) -> str:
        return f"/runs/{run.name}/programs/{program}"

    return _html(template, {"run": run, "href": href, **values}, status=status, headers=headers)


def _html(template: str, values: Values, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return HTMLResponse(render(template, **values), status, headers)


def _add_mistakes(app: FastAPI) -> None:
    """A visitor's mistake, and a fault of ours, in the form of what was asked for: a page, or JSON."""

    def answer(request: Request, status: int, text: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"detail": text}, status)
        return HTMLResponse(render("mistake.html", status=status, text=text), status)

    def ours(request: Request, error: Exception) -> Response:
        status = 404 if isinstance(error, UnknownNameError) else 500 if exit_code(error) == EXIT_HOST else 400
        return answer(request, status, str(error))

    for kind in KNOWN_ERRORS:
        app.add_exception_handler(kind, ours)

    @app.exception_handler(Exception)
    def _defect(request: Request, error: Exception) -> Response:
        """What nobody has foreseen. Starlette answers so from outside the guard, and then raises it again, so that the terminal shows where it comes from."""
        text = f"expected an answer, got {type(error).__name__}: a fault of this program, or of the run's files; the terminal of `mergewright serve` says where: report it"
        return guarded(answer(request, 500, text))

    @app.exception_handler(RequestValidationError)
    def _malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return answer(request, 422, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}; correct the address")

    @app.exception_handler(HTTPException)
    def _of_the_server(request: Request, error: HTTPException) -> Response:
        text = "expected an address of ours, got another one" if error.status_code == 404 else str(error.detail)
        return answer(request, error.status_code, text)
