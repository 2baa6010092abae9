"""The JSON API: what its description says, for any question; and the same facts as the pages and the command line."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient

from engine.ablation import Ablation, known_ablation
from engine.pages.app import create_app
from engine.pages.runs import Run, Runs
from engine.records import Outcome
from engine.search import CONDITION_PATTERN, condition
from engine.summary import candidate_facts, candidate_row
from tests.engine.pages.conftest import HOSTILE

API = "/api/runs/small"
TOKEN = "a-token-of-some-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
"""Its own machine has another name than the loopback's."""


OPERATIONS = [
    "",
    "/{name}",
    "/{name}/programs",
    "/{name}/programs/{reference}",
    "/{name}/programs/{reference}/lineage",
    "/{name}/programs/{reference}/ablation",
    "/{name}/compare",
    "/{name}/map",
]


@pytest.mark.parametrize("path", OPERATIONS)
def test_every_answer_is_as_described(runs: Runs, path: str) -> None:
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", create_app(runs, token=TOKEN), headers=BEARER)
    operations = {found.ok().path: found.ok() for found in schema.get_all_operations()}
    assert set(operations) == {f"/api/runs{one}" for one in OPERATIONS}

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operations[f"/api/runs{path}"].as_strategy(), st.booleans(), st.sampled_from(["1", "7", None]))
    def check(case: schemathesis.Case, there: bool, number: str | None) -> None:
        if there and "{name}" in path:
            case.path_parameters["name"] = "small"
        if number and "{reference}" in path:
            case.path_parameters["reference"] = number
        if number and path.endswith("compare"):
            case.query = {"first": number, "second": "1"}
        same = path.endswith("map") and case.query.get("across", "scale") == case.query.get("down", "rest")
        refused = [positive_data_acceptance] if same else []  # no schema can say that two values differ
        case.call_and_validate(headers=BEARER, excluded_checks=refused)

    check()


def test_programs_are_those_of_the_archive(visitor: TestClient, run: Run) -> None:
    answer = visitor.get(f"{API}/programs").json()
    everyone = run.store.candidates()
    assert answer["count"] == len(everyone)
    assert sorted(answer["programs"], key=lambda one: one["number"]) == [candidate_row(c) for c in everyone]
    found = visitor.get(
        f"{API}/programs", params={"verdict": "ok", "where": ["randomness>0.1", "score>=0"], "operation": "rand"}
    ).json()
    assert [one["id"] for one in found["programs"]] == [
        c.program.id for c in everyone if "torch.rand(" in c.program.source
    ]


def test_a_program_is_whole(visitor: TestClient, run: Run) -> None:
    for one in run.store.candidates():
        answer = visitor.get(f"{API}/programs/{one.number}").json()
        expected = candidate_facts(one, {})
        assert {key: answer[key] for key in expected if key != "related"} == {
            k: v for k, v in expected.items() if k != "related"
        }
    twin = next(c for c in run.store.candidates() if c.assessment.outcome is Outcome.DUPLICATE)
    original = visitor.get(f"{API}/programs/{twin.assessment.duplicate_of}").json()
    assert twin.program.id in original["related"]["duplicates"][0]


def test_what_carries_a_score_is_told_where_it_was_asked(visitor: TestClient, run: Run) -> None:
    asked = next(c for c in run.store.candidates() if c.program.source == HOSTILE)
    told = visitor.get(f"{API}/programs/{asked.number}/ablation").json()
    assert known_ablation(run.store, asked.program.id) == Ablation.model_validate(told)
    assert any(one["before"] == "0.25" for one in told["changes"])


def test_the_overview_and_the_map_and_a_comparison(visitor: TestClient) -> None:
    facts = visitor.get(API).json()
    assert (facts["proposed"], facts["finished"], facts["planned"]) == (11, True, 11)
    assert visitor.get("/api/runs").json() == [{key: facts[key] for key in visitor.get("/api/runs").json()[0]}]
    found = visitor.get(f"{API}/map", params={"across": "scale", "down": "randomness"}).json()
    assert max(cell["score"] for cell in found["cells"]) == facts["score"]
    pair = visitor.get(f"{API}/compare", params={"first": "1", "second": "7"}).json()
    assert pair["changes"]
    assert pair["problems"]["n"] == 24


@given(st.from_regex(CONDITION_PATTERN, fullmatch=True))
def test_what_the_description_allows_is_a_condition(text: str) -> None:
    condition(text)


@pytest.mark.parametrize(
    ("address", "status", "message"),
    [
        ("/api/runs/nobody", 404, "run 'nobody'"),
        (f"{API}/programs/ffff", 404, "expected an id or number"),
        (
            f"{API}/programs/1/ablation",
            404,
            "expected one that was taken, got none; `mergewright archive ablate` takes it",
        ),
        (f"{API}/programs?where=x", 422, "where.0: "),
        (f"{API}/programs?page=x", 422, "page: "),
        (f"{API}/programs?text={'a' * 3001}", 422, "text: "),
        (f"{API}/programs?{'where=rest>0&' * 1001}", 422, "where: "),
        (f"{API}/programs?{'operation=svd&' * 1001}", 422, "operation: "),
        (f"{API}/map?across=x", 422, "across: "),
        (f"{API}/map?across=rest&down=rest", 400, "axes: expected two different ones"),
        (f"{API}/compare?first=1", 422, "second: "),
        ("/api/nothing", 404, "expected an address of ours"),
    ],
)
def test_a_mistake_is_one_line_of_json(visitor: TestClient, address: str, status: int, message: str) -> None:
    answer = visitor.get(address)
    assert answer.status_code == status
    assert message in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]
