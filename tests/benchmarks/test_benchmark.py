import json

import pytest

from benchmarks import ScriptedEvaluator, Stop, UnknownBenchmarkError, load_benchmark, pocket, score
from benchmarks.answers import SCORER_VERSION
from benchmarks.benchmark import NAMES
from benchmarks.errors import ProblemFileError
from benchmarks.scores import judge


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(UnknownBenchmarkError, match=r"expected one of pocket, gsm8k, jsonl, got 'gsm9k'; for"):
        load_benchmark("gsm9k")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("jsonl", {}, "expected data = PATH"),
        ("gsm8k", {"shots": 6}, r"expected shots in 0\.\.5, got 6"),
        ("gsm8k", {"shots": -1}, r"expected shots in 0\.\.5, got -1"),
        ("pocket", {"shots": 2}, "expected no chat and no shots"),
        ("pocket", {"chat": True}, "expected no chat and no shots"),
    ],
)
def test_options_a_benchmark_does_not_have_are_refused(name, options, message):
    with pytest.raises(UnknownBenchmarkError, match=message) as caught:
        load_benchmark(name, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_split_that_does_not_exist_is_refused(name, tmp_path):
    with pytest.raises(UnknownBenchmarkError, match=r"expected split .*, got 'validation'"):
        load_benchmark(name, data=tmp_path).problems("validation")


def test_pocket_asks_in_its_own_form_and_its_solutions_are_right():
    benchmark = load_benchmark("pocket")
    dev = benchmark.problems("dev")
    assert benchmark.prompt(dev[0]) == pocket.format_prompt(dev[0].question)
    found = judge([problem.answer for problem in dev], dev, benchmark)
    assert (found.strict, found.lenient, found.n) == (1.0, 1.0, 200)
    assert set(found.families) == set(pocket.FAMILIES)


def test_fresh_pocket_problems_repeat_with_their_seed_and_lie_in_no_frozen_split():
    problems = load_benchmark("pocket").problems
    fresh = problems("fresh:7")
    assert fresh == problems("fresh:7") != problems("fresh:8")
    assert not {p.question for p in fresh} & pocket.frozen_questions()
    assert len({p.id for p in fresh}) == 200


def test_a_folder_of_ones_own_has_splits_and_a_file_is_taken_whole(tmp_path):
    for split in ("dev", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"question": f"{split}?", "answer": "3"}))
    benchmark = load_benchmark("jsonl", data=tmp_path, shots=1, max_new_tokens=9)
    assert [benchmark.problems(split)[0].question for split in ("dev", "test")] == ["dev?", "test?"]
    assert benchmark.max_new_tokens == 9
    assert benchmark.prompt_version.endswith("1-shot")
    assert load_benchmark("jsonl", data=tmp_path / "test.jsonl").problems("dev")[0].question == "test?"


def test_scores_count_right_answers_and_keep_their_bits(tmp_path):
    lines = [{"question": f"{i}", "answer": f"#### {i}", "family": "odd" if i % 2 else "even"} for i in range(4)]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, lines)))
    benchmark = load_benchmark("jsonl", data=tmp_path / "p.jsonl", shots=0)
    replies = ["#### 0", "it is 1", "#### 2\nQuestion: 9", "none"]
    evaluator = ScriptedEvaluator(lambda prompt, _: replies[int(prompt.split()[1])])
    found = score(evaluator, benchmark.problems("dev"), benchmark)
    assert (found.strict, found.lenient, found.n) == (0.5, 0.75, 4)
    assert (found.bits, found.lenient_bits) == ("1010", "1110")
    assert found.families == {"even": 1.0, "odd": 0.0}
    assert found.standard_error == 0.25
    assert found.scorer_version == SCORER_VERSION
    assert found.interval().low < 0.5 < found.interval().high


def test_nothing_to_score_is_an_error_and_a_fault_is_never_a_zero():
    benchmark = load_benchmark("pocket")
    evaluator = ScriptedEvaluator(lambda *_: "")
    with pytest.raises(ProblemFileError, match="expected at least one to score"):
        score(evaluator, [], benchmark)

    class Broken(ScriptedEvaluator):
        def answer(self, prompts, *, max_new_tokens: int, stop: Stop) -> list[str]:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        score(Broken(lambda *_: ""), benchmark.problems("dev"), benchmark)
