"""The campaign's problems: parts and weights as configured, a fixed race order, and a test suite that stays shut."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import Part, ProblemFileError, Suite
from engine.config import CampaignConfig
from engine.config_file import build_config
from engine.errors import ConfigError, HostError
from engine.hashing import problems_hash
from engine.store import Store
from engine.suites import Sealed, describe, open_suite, problems_at_hand, problems_of, weights_of
from tests.engine.conftest import candidate


def written(path: Path, stem: str, count: int) -> Path:
    rows = [{"question": f"{stem} {at}?", "answer": f"#### {at}", "id": f"{stem}-{at}"} for at in range(count)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture
def several(tmp_path: Path) -> CampaignConfig:
    """The pocket problems three times as heavy as some of one's own."""
    own = {
        "name": "jsonl",
        "label": "own",
        "data": str(written(tmp_path / "dev.jsonl", "dev", 6)),
        "test_data": str(written(tmp_path / "test.jsonl", "test", 9)),
        "shots": 0,
    }
    pocket = {"name": "pocket", "weight": 3.0, "test_limit": 20}
    return build_config(
        {"campaign": {"iterations": 1, "programs": 2}, "benchmark": {"dev_limit": 4, "parts": [pocket, own]}}
    )


def test_parts_take_from_the_section_what_they_leave_out(several: CampaignConfig) -> None:
    dev, test = open_suite(several, "dev"), open_suite(several, "test")
    assert describe(dev) == [
        {"label": "pocket", "problems": 4, "weight": 3.0},
        {"label": "own", "problems": 4, "weight": 1.0},
    ]
    assert [row["problems"] for row in describe(test)] == [20, 9]
    assert weights_of(describe(dev)) == pytest.approx((dev.weights * 4).tolist())


def test_problems_of_a_run_are_at_hand_where_they_are_still_the_same(several: CampaignConfig, tmp_path: Path) -> None:
    there = problems_of(open_suite(several, "dev"))
    before = problems_hash(there)
    assert problems_at_hand(several, before) == there
    assert problems_at_hand(several, None) == (), "nobody knows what it was scored on"
    written(tmp_path / "dev.jsonl", "other", 6)
    assert problems_at_hand(several, before) == (), "as many, and others than those that it was scored on"
    (tmp_path / "dev.jsonl").unlink()
    assert problems_at_hand(several, before) == ()


def test_for_a_look_at_a_run_no_network_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))
    for name in ("gsm8k", "math"):
        assert problems_at_hand(build_config({"benchmark": {"name": name}}), "0") == ()


def test_one_benchmark_is_a_suite_of_one_part() -> None:
    dev = open_suite(build_config({"benchmark": {"dev_limit": 10}}), "dev")
    assert [part.label for part in dev.parts] == ["pocket"]
    assert [len(block) for block in dev.blocks] == [2] * 5


def test_the_race_order_is_the_campaigns_and_test_has_none() -> None:
    orders = [open_suite(build_config({"campaign": {"seed": seed}}), "dev").order for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    test = open_suite(build_config({}), "test")
    assert test.order == tuple(range(len(test)))
    assert len(test.blocks) == 1
    unraced = open_suite(build_config({"benchmark": {"racing": "none"}}), "dev")
    assert len(unraced.blocks) == 1


def test_a_set_of_the_name_puts_one_benchmark_in_place_of_several(several: CampaignConfig) -> None:
    tree = several.model_dump(mode="json")
    assert [part.label for part in open_suite(build_config(tree, ["benchmark.name=pocket"]), "dev").parts] == ["pocket"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"name": "pocket", "wait": 1}, r"benchmark\.parts\.1\.wait.*expected one of name, label, weight.*unknown key"),
        ({"name": "pocket", "weight": 0}, r"benchmark\.parts\.1\.weight.*greater than 0"),
        ({"name": "gsm9k"}, r"benchmark\.parts\.1\.name.*'pocket', 'gsm8k', 'math' or 'jsonl'"),
        ({"name": "pocket"}, r"benchmark\.parts.*a label of its own for each part"),
    ],
)
def test_a_mistake_in_a_part_is_one_line(part: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_config({"benchmark": {"parts": [{"name": "pocket"}, part]}})
    assert "\n" not in str(caught.value)


def test_dev_and_test_of_a_campaign_share_no_problem_by_text(several: CampaignConfig, tmp_path: Path) -> None:
    row = json.loads((tmp_path / "dev.jsonl").read_text().splitlines()[2])
    row["question"] = row["question"].upper().replace(" ", "   ")
    row["id"] = "other"
    with (tmp_path / "test.jsonl").open("a") as file:
        file.write("\n" + json.dumps(row))
    dev = open_suite(several, "dev")
    with pytest.raises(
        ProblemFileError, match=r"no question in both dev and test, got 1 \(first: 'dev-2' is 'other'\)"
    ):
        Sealed(build_config(several.model_dump(mode="json"), ["benchmark.test_limit=30"]), dev)


def test_the_test_suite_opens_when_every_candidate_has_met_its_fate(several: CampaignConfig, tmp_path: Path) -> None:
    sealed = Sealed(several, open_suite(several, "dev"))
    store = Store.in_folder(tmp_path, create=True)
    asked = Suite([Part(sealed.suite.parts[0].benchmark, (sealed.suite.items[3].problem,))])
    with pytest.raises(ProblemFileError, match="no test problem before the end of the search, got 1"):
        sealed.refuse(asked)
    rows = [candidate(number, 0.5) for number in (1, 2)]
    store.propose(1, [row.program for row in rows])
    store.assess(1, rows[0].assessment)
    with pytest.raises(HostError, match="expected a finished search of 2 assessed programs, got 1"):
        sealed.open(store)
    store.assess(2, rows[1].assessment)
    assert problems_of(sealed.open(store)) == problems_of(sealed.suite)
    sealed.refuse(asked)
