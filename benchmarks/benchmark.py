"""A benchmark: problems, how they are asked, when an answer is over, and how it is judged."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import gsm8k, hendrycks_math, pocket
from benchmarks.answers import FINAL_MARK
from benchmarks.checkers import NUMBER, Checker, Judge, Reading, checker_named
from benchmarks.decoding import Stop
from benchmarks.errors import UnknownBenchmarkError
from benchmarks.evaluators import Prompt
from benchmarks.few_shot import FewShot
from benchmarks.official import SPLITS
from benchmarks.problems import Problem, load_jsonl

NAMES = ("pocket", "gsm8k", "math", "jsonl")
_OFFICIAL = {official.name: official for official in (gsm8k.OFFICIAL, hendrycks_math.OFFICIAL)}

FRESH = "fresh:"
"""`fresh:SEED` of the pocket benchmark: problems that lie in no frozen split, as many as dev has."""


@dataclass(frozen=True)
class Benchmark:
    """What has to be known to score a model.

    Attributes:
        name: one of NAMES.
        problems: split -> problems, in their fixed order. "dev" and "test" exist everywhere. Raises
            UnknownBenchmarkError for another name of a split, ProblemFileError for a bad file.
        prompt: what the model is asked about a problem.
        stop: when an answer is over.
        max_new_tokens: longest answer, in tokens.
        checker: (text, final) -> (strict, lenient).
        scorer_version: of the checker; stored beside every score.
        prompt_version: of the prompt's words; scores of different versions are not comparable.
        ranks: which of the two readings compares models: "strict" where the form of the answer is part of the task
            (GSM8K's final line), "lenient" where one answer has many forms (MATH).
    """

    name: str
    problems: Callable[[str], tuple[Problem, ...]]
    prompt: Callable[[Problem], Prompt]
    stop: Stop
    max_new_tokens: int
    checker: Judge = NUMBER.judge
    scorer_version: str = NUMBER.version
    prompt_version: str = "1"
    ranks: Reading = "strict"


@dataclass(frozen=True)
class _Form:
    """How the questions that one checker judges are asked."""

    few_shot: FewShot
    stop: Stop
    max_new_tokens: int


def _without_examples(version: str, ending: str) -> _Form:
    """For questions of any kind: sums worked out before them would only mislead, so the form of the answer is said in words."""
    instruction = f"Think step by step. End with a line that holds only {FINAL_MARK} and {ending}."
    few_shot = FewShot(version, f"Question: {{question}}\n{instruction}\nAnswer:", instruction)
    return _Form(few_shot, gsm8k.STOP, gsm8k.MAX_NEW_TOKENS)


_FORMS = {
    "number": _Form(gsm8k.FEW_SHOT, gsm8k.STOP, gsm8k.MAX_NEW_TOKENS),
    "math": _Form(hendrycks_math.FEW_SHOT, hendrycks_math.STOP, hendrycks_math.MAX_NEW_TOKENS),
    "exact": _without_examples("exact-1", "the answer"),
    "choice": _without_examples("choice-1", "the letter of the right choice"),
}


def load_benchmark(
    name: str,
    *,
    data: str | Path | None = None,
    splits: str = "clean",
    checker: str | None = None,
    shots: int | None = None,
    chat: bool = False,
    max_new_tokens: int | None = None,
    ask_hub: bool = True,
) -> Benchmark:
    """The benchmark called `name`. Problems are read when asked for, not here.

    Args:
        name: "pocket" (shipped; its models know one form: no examples, no chat), "gsm8k", "math", or "jsonl" (any file
            of questions and answers).
        data: gsm8k, math: a JSONL file (its problems are the split asked for), a folder with `train.jsonl` and
            `test.jsonl`, or a hub id; None: the hub. jsonl: a file, or a folder with `dev.jsonl` and `test.jsonl`.
        splits: "clean", or "paper" of gsm8k and math, see `official.py`.
        checker: jsonl: how answers are judged, and so asked: "number" (None; asked as GSM8K is), "math" (as MATH is),
            "exact" or "choice" (the question alone); see `checkers.py`.
        shots: worked examples in the prompt, 0..5; None: 5, or 0 where there are none.
        chat: ask through the model's chat template.
        max_new_tokens: None: 48 for pocket, 512 for MATH, else 256.
        ask_hub: gsm8k, math: see `OfficialSet.load`.

    Raises:
        UnknownBenchmarkError: no such benchmark, or an option it does not have.
    """
    _refuse_what_it_lacks(name, data, splits, checker)
    if name == "pocket":
        return _pocket(chat, shots, max_new_tokens)
    official = _OFFICIAL.get(name)
    judge = official.checker if official else checker_named(checker or NUMBER.name)
    form = _FORMS[judge.name]
    most = len(form.few_shot.examples)
    count = most if shots is None else shots
    if not 0 <= count <= most:
        raise UnknownBenchmarkError(
            f"benchmark '{name}': expected shots in 0..{most}, got {count}; that many worked examples are fixed"
        )
    return Benchmark(
        name=name,
        problems=partial(official.load, data, splits=splits, ask_hub=ask_hub)
        if official
        else partial(_own, Path(data or ""), judge),
        prompt=lambda problem: form.few_shot.prompt(problem.question, shots=count, chat=chat),
        stop=form.stop,
        max_new_tokens=max_new_tokens or form.max_new_tokens,
        checker=judge.judge,
        scorer_version=judge.version,
        prompt_version=f"{form.few_shot.version}/{count}-shot{'/chat' if chat else ''}",
        ranks=judge.ranks,
    )


def _refuse_what_it_lacks(name: str, data: str | Path | None, splits: str, checker: str | None) -> None:
    if name not in NAMES:
        raise UnknownBenchmarkError(
            f"benchmark: expected one of {', '.join(NAMES)}, got '{name}'; for your own file use jsonl with its path"
        )
    if checker is not None and name != "jsonl":
        raise UnknownBenchmarkError(
            f"benchmark '{name}': expected no checker, as it has its own, got '{checker}'; leave it out, or use jsonl"
        )
    if splits not in (SPLITS if name in _OFFICIAL else ("clean",)):
        raise UnknownBenchmarkError(
            f"benchmark '{name}': expected splits clean{' or paper' if name in _OFFICIAL else ''}, got '{splits}'; use "
            f"{'one of them' if name in _OFFICIAL else 'clean: only ' + ' and '.join(_OFFICIAL) + ' have others'}"
        )
    if name == "pocket" and data is not None:
        raise UnknownBenchmarkError(
            f"benchmark 'pocket': expected no data, as its problems are shipped, got '{data}'; leave it out, or use jsonl"
        )
    if name == "jsonl" and data is None:
        raise UnknownBenchmarkError(
            "benchmark 'jsonl': expected data = PATH of a JSONL file with question and answer, got none; name the file"
        )


def _pocket(chat: bool, shots: int | None, max_new_tokens: int | None) -> Benchmark:
    if chat or shots:
        raise UnknownBenchmarkError(
            "benchmark 'pocket': expected no chat and no shots, as its models know one form only, "
            f"got chat={chat}, shots={shots or 0}; leave both out"
        )
    return Benchmark(
        name="pocket",
        problems=_pocket_problems,
        prompt=lambda problem: pocket.format_prompt(problem.question),
        stop=Stop(strings=("Question:",), final_line=True),
        max_new_tokens=max_new_tokens or 48,
    )


def _pocket_problems(split: str) -> tuple[Problem, ...]:
    if split.startswith(FRESH) and (seed := split.removeprefix(FRESH)).isdecimal():
        stream = pocket.fresh(int(seed))
        sampled = (next(stream) for _ in range(pocket.FRESH_SIZE))
        return tuple(
            Problem(f"pocket-fresh-{seed}-{at:04d}", one.question, one.answer, one.final, one.family)
            for at, one in enumerate(sampled)
        )
    if split not in pocket.SPLIT_SIZES:
        raise UnknownBenchmarkError(
            f"benchmark 'pocket': expected split dev, test or {FRESH}SEED, got '{split}'; use one"
        )
    return pocket.load(split)


def _own(data: Path, checker: Checker, split: str) -> tuple[Problem, ...]:
    if split not in ("dev", "test"):
        raise UnknownBenchmarkError(f"benchmark 'jsonl': expected split dev or test, got '{split}'; use one of them")
    return load_jsonl(data / f"{split}.jsonl" if data.is_dir() else data, checker=checker)
