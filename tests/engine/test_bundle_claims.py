"""A bundle's claims against each other: every value of a real bundle is changed, and what is not noticed is listed here, with who notices it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.statistics import mcnemar, wilson_share
from engine.bundle_claims import _by_bits, _mcnemar, check_claims
from engine.bundle_file import read_bundle
from engine.errors import UserError
from tests.engine.bundles import Place, at, changed, leaves, shipped_tree, with_share, without, written

TREE = shipped_tree()
ENTRY = TREE["programs"][0]

FREE = {
    "licence", "made_with.*", "programs.*.licence", "programs.*.title", "programs.*.explanation",  # texts, which claim nothing that was measured
    "programs.*.found.*",  # where it was found: history, which nothing here can prove or refute
    "programs.*.descriptors.numbers.*", "programs.*.descriptors.weights.*", "programs.*.descriptors.operations.*",  # an import takes its own
    "programs.*.dev.families.*",  # held against what is measured, on the same problems
    "programs.*.measured.*", "programs.*.measured.experts.*", "programs.*.measured.versions.*",  # on what it was measured: another
    "programs.*.measured.inputs.*", "programs.*.measured.inputs.experts.*",  # one is not comparable, and the import says so
    "programs.*.test.rank", "programs.*.test.simultaneous", "programs.*.test.against.*", "programs.*.test.against.parameters.*",
    "programs.*.test.against.interval.*",  # a bootstrap's: only its order and the difference within are checked
    "programs.*.transfer.*.*", "programs.*.transfer.*.experts.*", "programs.*.transfer.*.splits.*",  # as measured.inputs
    "programs.*.transfer.*.humans.*.*", "programs.*.transfer.*.humans.*.parameters.*", "programs.*.transfer.*.humans.*.interval.*",
    "programs.*.transfer.*.against.interval.*",
}  # fmt: skip
"""Patterns of places where a changed value may pass: numbers, keys and hashes stand for `*`."""

HELD = {
    "programs.*.id", "programs.*.source", "programs.*.dev.share", "programs.*.dev.strict", "programs.*.dev.lenient", "programs.*.dev.n", "programs.*.dev.of",
    "programs.*.dev.bits", "programs.*.dev.strict_bits", "programs.*.dev.lenient_bits", "programs.*.dev.interval.*", "programs.*.dev.effective_n", "programs.*.dev.scorer",
    "programs.*.measured.inputs.scorer",
    "programs.*.test.score.share", "programs.*.test.score.bits", "programs.*.test.score.interval.*", "programs.*.test.score.effective_n",
    "programs.*.test.against.difference", "programs.*.test.against.p", "programs.*.test.against.human.share", "programs.*.test.against.human.bits",
    "programs.*.test.against.human.interval.*", "programs.*.test.against.human.effective_n",
    "programs.*.transfer.*.score.share", "programs.*.transfer.*.score.bits", "programs.*.transfer.*.score.interval.*", "programs.*.transfer.*.score.effective_n",
    "programs.*.transfer.*.against.difference", "programs.*.transfer.*.against.p", "programs.*.transfer.*.against.name", "programs.*.transfer.*.against.parameters.*",
    "programs.*.transfer.*.against.human.share", "programs.*.transfer.*.against.human.bits", "programs.*.transfer.*.against.human.interval.*",
    "programs.*.transfer.*.against.human.effective_n",
    "format", "version", "programs.*.behaviour.experts",
}  # fmt: skip
"""Places where any other value is refused."""

PROBED = {"programs.*.behaviour.hash"}
"""What the probes decide: `test_importing.py` changes it."""

MAPS = {"parameters", "families", "experts", "versions", "numbers", "made_with"}


def pattern(place: Place) -> str:
    """The place with `*` for numbers and for keys that are names."""
    parts = [
        "*" if isinstance(part, int) or (i and place[i - 1] in MAPS) else str(part) for i, part in enumerate(place)
    ]
    return ".".join(parts)


def is_free(name: str) -> bool:
    """Whether a change there may pass."""
    return name in FREE or (f"{name.rpartition('.')[0]}.*" in FREE and name not in HELD)


def others(value: Any) -> list[Any]:
    """Values of the same kind that are not this one, near to it."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value * 0.99 if value > 1 else value + 0.01 if value < 0.5 else value - 0.01]
    if set(value) <= {"0", "1"} and len(value) > 1:
        return [value[:-1] + ("0" if value[-1] == "1" else "1"), value[:-1]]
    if value.endswith("\n"):
        return [value.replace("1.3", "1.4")]
    last = "0" if value[-1] != "0" else "1"
    return [value[:-1] + last]


def is_refused(tree: Any, path: Path) -> bool:
    try:
        check_claims(path, read_bundle(written(tree, path)))
    except UserError:
        return True
    return False


def test_the_real_one_passes(tmp_path: Path) -> None:
    assert not is_refused(TREE, tmp_path / "b.json")


@pytest.mark.parametrize("place", [place for place, _ in leaves(TREE)], ids=lambda place: ".".join(map(str, place)))
def test_every_changed_value_is_refused_or_listed_as_free(tmp_path: Path, place: Place) -> None:
    name = pattern(place)
    for value in others(at(TREE, place)):
        refused = is_refused(changed(TREE, place, value), tmp_path / "b.json")
        if name in HELD:
            assert refused, f"{name}: a lie passed"
        elif name not in PROBED and not refused:
            assert is_free(name), f"{name}: neither refused nor listed"


def test_the_lists_name_only_what_is_there() -> None:
    there = {pattern(place) for place, _ in leaves(TREE)}
    assert there >= HELD
    assert there >= PROBED
    assert not HELD & FREE


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("id",), "0" * 12, "id: expected 2cacd0fdbed4 as its source gives, got 000000000000"),
        (("parameters",), {"scale": 1.0}, "parameters: expected {} as its source declares"),
        (("dev", "share"), 0.9, "dev: share: expected 0.73, got 0.9"),
        (("dev", "n"), 599, "dev: n: expected 600, got 599"),
        (("dev", "interval"), [0.7, 0.75], "dev: interval: expected [0.6931, 0.7640], got [0.7000, 0.7500]"),
        (("dev", "interval"), [0.764, 0.693], "dev: interval"),
        (("dev", "effective_n"), 601.0, "dev: effective_n: expected 600 at most"),
        (("dev", "effective_n"), 1e-200, "dev: effective_n: expected 1 at least"),
        (("test", "score", "effective_n"), 1e-200, "test: effective_n: expected 1 at least"),
        (("test", "score", "share"), 0.7, "test: share: expected 0.69, got 0.7"),
        (("test", "against", "difference"), 0.2, "test: against: difference"),
        (("test", "against", "interval"), [0.05, 0.06], "test: against: interval: expected one around"),
        (("test", "against", "p"), 1e-9, "test: against: p: expected 3.46036e-06, got 1e-09"),
        (("transfer", 0, "fault"), "timeout", "transfer: score: expected a score or a fault, got both"),
        (("transfer", 0, "against", "name"), "slerp", "transfer: against: expected one of its human-made merges, got slerp"),
    ],
)  # fmt: skip
def test_a_lie_is_named(tmp_path: Path, place: Place, value: Any, message: str) -> None:
    path = written(changed(TREE, ("programs", 0, *place), value), tmp_path / "b.json")
    with pytest.raises(UserError) as error:
        check_claims(path, read_bundle(path))
    assert message in str(error.value)
    assert "nothing of it is taken" in str(error.value)
    assert str(error.value).count("\n") == 0


def test_a_share_lies_where_its_bits_let_it(tmp_path: Path) -> None:
    dev, test, path = ENTRY["dev"], ENTRY["test"], tmp_path / "b.json"
    for share, refused in ((0.99, True), (0.75, True), (0.745, False), (0.715, False), (0.7, True)):
        lie = changed(TREE, ("programs", 0, "dev"), with_share(dev, share, 599.0))
        assert is_refused(lie, path) == refused, "599 as by weights, of 600: 1.8 points at most"
    lone = test | {"score": with_share(test["score"], 0.95, 1999.0), "against": None}
    assert is_refused(changed(TREE, ("programs", 0, "test"), lone), path)


@given(
    weights=st.lists(st.tuples(st.floats(0.01, 100), st.booleans()), min_size=1, max_size=50),
)
@settings(max_examples=50, deadline=None)
def test_whatever_the_weights_an_honest_share_passes(weights: list[tuple[float, bool]]) -> None:
    whole, squares = sum(w for w, _ in weights), sum(w * w for w, _ in weights)
    share = sum(w for w, right in weights if right) / whole
    bits = "".join("01"[right] for _, right in weights)
    assert not list(_by_bits("share", bits, whole * whole / squares, share))


def test_those_who_answer_the_same_problems_have_the_same_effective_number(tmp_path: Path) -> None:
    human = ENTRY["test"]["against"]["human"]
    other = with_share(human, human["share"], 1500.0)
    path = written(changed(TREE, ("programs", 0, "test", "against", "human"), other), tmp_path / "b.json")
    with pytest.raises(UserError, match="test: against: effective_n: expected 2000, got 1500"):
        check_claims(path, read_bundle(path))


def test_scores_without_what_they_were_taken_on_are_refused(tmp_path: Path) -> None:
    assert is_refused(without(TREE, ("programs", 0, "measured")), tmp_path / "b.json")


def test_a_program_that_failed_elsewhere_has_no_score_there(tmp_path: Path) -> None:
    failed = without(without(TREE, ("programs", 0, "transfer", 0, "score")), ("programs", 0, "transfer", 0, "against"))
    assert is_refused(failed, tmp_path / "b.json")
    assert not is_refused(changed(failed, ("programs", 0, "transfer", 0, "fault"), "timeout"), tmp_path / "b.json")


@given(
    bits=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=400).map(
        lambda pairs: ["".join("01"[one[i]] for one in pairs) for i in (0, 1)]
    )
)
@settings(max_examples=50, deadline=None)
def test_the_quick_p_is_the_exact_one(bits: list[str]) -> None:
    assert _mcnemar(*bits) == pytest.approx(mcnemar(*bits), rel=1e-9)


def test_a_hundred_thousand_problems_take_no_time(tmp_path: Path) -> None:
    one, other = "10" * 50_000, "01" * 50_000
    ends = wilson_share(0.5, 100_000)
    score = {"share": 0.5, "interval": [ends.low, ends.high], "effective_n": 100_000.0}
    against = ENTRY["test"]["against"] | {
        "human": score | {"bits": other},
        "difference": 0.0,
        "interval": [-0.01, 0.01],
        "p": 1.0,
    }
    test = ENTRY["test"] | {"score": score | {"bits": one}, "against": against}
    assert not is_refused(changed(TREE, ("programs", 0, "test"), test), tmp_path / "b.json")
