"""A run at a glance: the same as a look at every candidate."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import CampaignConfig
from engine.overview import overview, pulse
from engine.records import WORKS, Assessment, Candidate, Outcome, Trial
from engine.store import Store
from tests.engine.conftest import candidate, dev_score

fates = st.sampled_from(["ok", "stopped", "failed", "rejected", "duplicate", "skipped"])
drawn = st.lists(st.tuples(fates, st.integers(0, 20), st.integers(1, 3)), min_size=1, max_size=25)


def made(number: int, fate: str, right: int, iteration: int) -> Candidate:
    if fate in ("ok", "stopped"):
        one = candidate(number, 0.5, iteration=iteration)
        bits = "1" * right + "0" * (20 - right) + ("-" * 10 if fate == "stopped" else "0" * 10)
        return replace(one, assessment=replace(one.assessment, score=dev_score(bits)))
    one = candidate(number, None, iteration=iteration)
    reason = {"failed": "timeout", "rejected": "syntax"}.get(fate)
    return replace(one, assessment=Assessment(Outcome(fate), reason=reason))


@settings(max_examples=60, deadline=None)
@given(drawn=drawn)
def test_it_counts_what_a_plain_look_counts(
    drawn: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory, archive_url: str | None
) -> None:
    drawn.sort(key=lambda one: one[2])
    everyone = [made(number, *one) for number, one in enumerate(drawn, start=1)]
    store = Store.in_folder(tmp_path_factory.mktemp("run"), create=True, server=archive_url)
    store.take_over(everyone)
    (waiting,) = store.propose(3, [candidate(99, None).program])
    found = overview(CampaignConfig(), store)
    assert (found.proposed, found.assessed) == (len(everyone) + 1, len(everyone))
    assert found.valid == sum(c.assessment.outcome in WORKS for c in everyone)
    assert found.reasons == Counter(c.assessment.reason for c in everyone if c.assessment.reason)
    for one in found.iterations:
        here = [c for c in everyone if c.iteration == one.number]
        scores = [c.score for c in here if c.score is not None]
        assert list(one.scores) == scores
        assert one.median == (median(scores) if scores else None)
        assert one.best == max((c.score for c in here if c.complete and c.score is not None), default=None)
        assert one.proposed == len(here) + (waiting.iteration == one.number)
    complete = [c for c in everyone if c.complete]
    assert (found.best.value if found.best else None) == max((c.score for c in complete), default=None)
    climbed = [mark.value for mark in found.climb]
    assert climbed == sorted(set(climbed)), "each better than the one before"
    store.close()


def test_the_human_made_merge_is_the_best_of_all_that_were_tried(tmp_path: Path, archive_url: str | None) -> None:
    store = Store.in_folder(tmp_path, create=True, server=archive_url)
    for name, kind, bits in (
        ("seed", "seed", "10"),
        ("ties", "human", "1100"),
        ("linear", "human", "1110"),
        ("linear", "human", "1000"),
    ):
        store.add_trial(Trial(name, kind, {"scale": float(bits.count("1"))}, dev_score(bits)))
    found = overview(CampaignConfig(), store)
    assert found.human
    assert found.seed
    assert (found.human.name, found.human.score.value, found.evaluations, found.seed.name) == (
        "linear",
        0.75,
        3,
        "seed",
    )


def test_the_pulse_changes_with_whatever_is_shown(tmp_path: Path, archive_url: str | None) -> None:
    store = Store.in_folder(tmp_path, create=True, server=archive_url)
    seen = [pulse(store)]
    assert pulse(store) == seen[0]

    def changed() -> bool:
        seen.append(pulse(store))
        return seen[-1] not in seen[:-1]

    store.propose(1, [candidate(1, 0.5).program])
    assert changed()
    store.assess(1, candidate(1, 0.5).assessment)
    assert changed()
    store.add_trial(Trial("seed", "seed", {}, dev_score()))
    assert changed()
    store.add_update(1, "dpo", {"trained": False, "attempts": []})
    assert changed()
    store.set_meta("state", {"finished": True})
    assert changed()
