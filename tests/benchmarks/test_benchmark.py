import json

import pytest

from benchmarks import (
    Chat,
    Part,
    Problem,
    ScriptedEvaluator,
    Suite,
    UnknownBenchmarkError,
    load_benchmark,
    pocket,
    score,
)
from benchmarks.answers import SCORER_VERSION
from benchmarks.benchmark import NAMES
from benchmarks.errors import ProblemFileError


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(UnknownBenchmarkError, match=r"expected one of pocket, gsm8k, math, jsonl, got 'gsm9k'; for"):
        load_benchmark("gsm9k")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("jsonl", {}, "expected data = PATH"),
        ("gsm8k", {"shots": 6}, r"expected shots in 0\.\.5, got 6"),
        ("gsm8k", {"shots": -1}, r"expected shots in 0\.\.5, got -1"),
        ("math", {"shots": 6}, r"benchmark 'math': expected shots in 0\.\.5, got 6"),
        ("math", {"checker": "exact"}, r"benchmark 'math': expected no checker, as it has its own, got 'exact'"),
        ("math", {"splits": "own"}, r"benchmark 'math': expected splits clean or paper, got 'own'; use one of them"),
        (
            "jsonl",
            {"data": "x", "splits": "paper"},
            r"expected splits clean, got 'paper'; use clean: only gsm8k and math",
        ),
        ("pocket", {"splits": "paper"}, r"benchmark 'pocket': expected splits clean, got 'paper'"),
        (
            "jsonl",
            {"data": "x", "checker": "regex"},
            r"checker: expected one of number, math, exact, choice, got 'regex'",
        ),
        ("jsonl", {"data": "x", "checker": "choice", "shots": 1}, r"expected shots in 0\.\.0, got 1"),
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
        load_benchmark(name, data=None if name == "pocket" else tmp_path).problems("validation")


def test_pocket_asks_in_its_own_form_and_its_solutions_are_right():
    benchmark = load_benchmark("pocket")
    dev = benchmark.problems("dev")
    assert benchmark.prompt(dev[0]) == pocket.format_prompt(dev[0].question)
    assert {benchmark.checker(problem.answer, problem.final) for problem in dev} == {(True, True)}
    assert {problem.family for problem in dev} == set(pocket.FAMILIES)
    assert (len(dev), benchmark.scorer_version, benchmark.ranks) == (1000, SCORER_VERSION, "strict")


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


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("gsm8k", {}, ("gsm8k-own5-1/5-shot", 256, "strict")),
        ("math", {}, ("math-own5-1/5-shot", 512, "lenient")),
        ("math", {"shots": 0, "chat": True, "max_new_tokens": 9}, ("math-own5-1/0-shot/chat", 9, "lenient")),
        ("jsonl", {"data": "x"}, ("gsm8k-own5-1/5-shot", 256, "strict")),
        ("jsonl", {"data": "x", "checker": "math", "shots": 2}, ("math-own5-1/2-shot", 512, "lenient")),
        ("jsonl", {"data": "x", "checker": "exact"}, ("exact-1/0-shot", 256, "strict")),
        ("jsonl", {"data": "x", "checker": "choice", "chat": True}, ("choice-1/0-shot/chat", 256, "strict")),
    ],
)
def test_a_benchmark_is_asked_as_its_checker_needs(name, options, expected):
    found = load_benchmark(name, **options)
    assert (found.prompt_version, found.max_new_tokens, found.ranks) == expected


@pytest.mark.parametrize(
    ("checker", "line", "reply", "verdict", "asked"),
    [
        ("number", {"question": "a?", "answer": "#### 7"}, "it is 7", (False, True), "Question: a?\nAnswer:"),
        ("math", {"question": "a?", "answer": r"\boxed{7}"}, r"\boxed{\frac{14}{2}}", (False, True), "a?\n\nSolution:"),
        ("exact", {"question": "a?", "answer": "Paris"}, "#### paris", (True, True), "#### and the answer.\nAnswer:"),
        ("choice", {"question": "a?", "answer": "B"}, "(B)", (True, True), "of the right choice.\nAnswer:"),
    ],
)
def test_ones_own_problems_are_asked_and_judged_by_the_checker_one_names(
    tmp_path, checker, line, reply, verdict, asked
):
    (tmp_path / "p.jsonl").write_text(json.dumps(line))
    benchmark = load_benchmark("jsonl", data=tmp_path / "p.jsonl", checker=checker)
    (problem,) = benchmark.problems("dev")
    assert benchmark.checker(reply, problem.final) == verdict
    assert benchmark.prompt(problem).endswith(asked)
    assert benchmark.stop.cut(f"{reply}\n") == reply + "\n" * ("####" not in reply)
    chat = load_benchmark("jsonl", data=tmp_path / "p.jsonl", checker=checker, shots=0, chat=True).prompt(problem)
    assert isinstance(chat, Chat)
    assert chat.turns[0][1].endswith("\n\na?")


def test_paper_splits_are_chosen_by_name(tmp_path):
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": "a?", "answer": "#### 7"}))
    assert len(load_benchmark("gsm8k", data=tmp_path).problems("test")) == 1
    with pytest.raises(ProblemFileError, match="expected the 1319 problems"):
        load_benchmark("gsm8k", data=tmp_path, splits="paper").problems("test")


def test_a_model_is_scored_on_math_by_meaning():
    benchmark = load_benchmark("math", shots=0)
    problems = tuple(Problem(f"{at}", f"{at}", "", final, "Algebra") for at, final in enumerate(("0.5", "x^2+x", "7")))
    replies = [r"\boxed{\frac12}", r"so \boxed{x(x+1)}", r"7\nProblem: \boxed{7}"]
    evaluator = ScriptedEvaluator(lambda prompt, _: replies[int(prompt.splitlines()[1])].replace(r"\n", "\n"))
    found = score(evaluator, Suite([Part(benchmark, problems)]))
    assert (found.strict_bits, found.lenient_bits) == ("100", "110")
    assert found.bits == "110"
