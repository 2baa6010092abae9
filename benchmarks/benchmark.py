"""A benchmark: problems, how they are asked, when an answer is over, and how it is judged."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks import gsm8k, pocket
from benchmarks.answers import SCORER_VERSION, is_right
from benchmarks.decoding import Stop
from benchmarks.errors import UnknownBenchmarkError
from benchmarks.evaluators import Prompt
from benchmarks.problems import Problem, load_jsonl

NAMES = ("pocket", "gsm8k", "jsonl")

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
    """

    name: str
    problems: Callable[[str], tuple[Problem, ...]]
    prompt: Callable[[Problem], Prompt]
    stop: Stop
    max_new_tokens: int
    checker: Callable[[str, str], tuple[bool, bool]] = is_right
    scorer_version: str = SCORER_VERSION
    prompt_version: str = "1"


def load_benchmark(
    name: str,
    *,
    data: str | Path | None = None,
    shots: int | None = None,
    chat: bool = False,
    max_new_tokens: int | None = None,
) -> Benchmark:
    """The benchmark called `name`. Problems are read when asked for, not here.

    Args:
        name: "pocket" (shipped; its models know one form: no examples, no chat), "gsm8k", or "jsonl" (any file of
            questions and answers, asked as GSM8K is).
        data: gsm8k: a JSONL file (its problems are the split asked for), a folder with `train.jsonl` and `test.jsonl`,
            or a hub id; None: the hub's `openai/gsm8k`. jsonl: a file, or a folder with `dev.jsonl` and `test.jsonl`.
        shots: worked examples in the prompt, 0..5; None: 5.
        chat: ask through the model's chat template.
        max_new_tokens: None: 48 for pocket, else 256.

    Raises:
        UnknownBenchmarkError: no such benchmark, or an option it does not have.
    """
    if name not in NAMES:
        raise UnknownBenchmarkError(
            f"benchmark: expected one of {', '.join(NAMES)}, got '{name}'; for your own file use jsonl with its path"
        )
    if name == "pocket":
        return _pocket(chat, shots, max_new_tokens)
    if name == "jsonl" and data is None:
        raise UnknownBenchmarkError(
            "benchmark 'jsonl': expected data = PATH of a JSONL file with question and answer, got none; name the file"
        )
    count = gsm8k.SHOTS if shots is None else shots
    if not 0 <= count <= gsm8k.SHOTS:
        raise UnknownBenchmarkError(
            f"benchmark '{name}': expected shots in 0..{gsm8k.SHOTS}, got {count}; that many worked examples are fixed"
        )
    return Benchmark(
        name=name,
        problems=(lambda split: gsm8k.load(data, split))
        if name == "gsm8k"
        else (lambda split: _own(Path(data or ""), split)),
        prompt=lambda problem: gsm8k.prompt(problem.question, shots=count, chat=chat),
        stop=gsm8k.STOP,
        max_new_tokens=max_new_tokens or gsm8k.MAX_NEW_TOKENS,
        prompt_version=f"{gsm8k.PROMPT_VERSION}/{count}-shot{'/chat' if chat else ''}",
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
        sampled = (next(stream) for _ in range(pocket.SPLIT_SIZES["dev"]))
        return tuple(
            Problem(f"pocket-fresh-{seed}-{at:04d}", one.question, one.answer, one.final, one.family)
            for at, one in enumerate(sampled)
        )
    if split not in pocket.SPLIT_SIZES:
        raise UnknownBenchmarkError(
            f"benchmark 'pocket': expected split dev, test or {FRESH}SEED, got '{split}'; use one"
        )
    return pocket.load(split)


def _own(data: Path, split: str) -> tuple[Problem, ...]:
    if split not in ("dev", "test"):
        raise UnknownBenchmarkError(f"benchmark 'jsonl': expected split dev or test, got '{split}'; use one of them")
    return load_jsonl(data / f"{split}.jsonl" if data.is_dir() else data)
