"""Score a model: ask every problem, judge every answer, keep every bit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.benchmark import Benchmark
from benchmarks.errors import ProblemFileError
from benchmarks.evaluators import Evaluator
from benchmarks.host import memory_for
from benchmarks.problems import Problem
from benchmarks.statistics import Interval, standard_error, wilson

ItemBits = str
"""'1' right, '0' wrong, one per problem in the order of the problems."""


@dataclass(frozen=True)
class Score:
    """What a model got.

    Attributes:
        strict, lenient: share of right answers, 0..1, under the two readings of `answers.py`.
        n: problems asked.
        standard_error: of `strict`, as a fraction.
        bits, lenient_bits: per problem, in the order asked.
        scorer_version: of the checker that judged.
        families: family -> strict share; empty where problems name none.
    """

    strict: float
    lenient: float
    n: int
    standard_error: float
    bits: ItemBits
    lenient_bits: ItemBits
    scorer_version: str
    families: Mapping[str, float]

    def interval(self, level: float = 0.95) -> Interval:
        """Wilson interval of the strict share."""
        return wilson(self.bits.count("1"), self.n, level)


def score(evaluator: Evaluator, problems: Sequence[Problem], benchmark: Benchmark) -> Score:
    """Scores whatever weights the evaluator holds now.

    Raises:
        ProblemFileError: there are no problems.
        BenchmarkError: the evaluator cannot answer, as for want of memory. A fault never becomes a zero.
    """
    if not problems:
        raise ProblemFileError("problems: expected at least one to score, got none; raise the limit or check the file")
    prompts = [benchmark.prompt(problem) for problem in problems]
    with memory_for("scoring", "set a smaller benchmark.batch (prompts decoded together), or free some"):
        texts = evaluator.answer(prompts, max_new_tokens=benchmark.max_new_tokens, stop=benchmark.stop)
    return judge(texts, problems, benchmark)


def judge(texts: Sequence[str], problems: Sequence[Problem], benchmark: Benchmark) -> Score:
    """The score of answers already given, one text per problem."""
    assert len(texts) == len(problems)
    verdicts = [benchmark.checker(text, problem.final) for text, problem in zip(texts, problems, strict=True)]
    bits = "".join("1" if strict else "0" for strict, _ in verdicts)
    lenient_bits = "".join("1" if lenient else "0" for _, lenient in verdicts)
    n, right = len(problems), bits.count("1")
    return Score(
        strict=right / n,
        lenient=lenient_bits.count("1") / n,
        n=n,
        standard_error=standard_error(right, n),
        bits=bits,
        lenient_bits=lenient_bits,
        scorer_version=benchmark.scorer_version,
        families=_by_family(bits, problems),
    )


def _by_family(bits: ItemBits, problems: Sequence[Problem]) -> dict[str, float]:
    found: dict[str, list[int]] = {}
    for bit, problem in zip(bits, problems, strict=True):
        if problem.family is not None:
            found.setdefault(problem.family, []).append(int(bit))
    return {family: sum(right) / len(right) for family, right in sorted(found.items())}
