r"""MATH: competition problems with worked solutions. Hendrycks et al. 2021, https://arxiv.org/abs/2103.03874.

A problem's final is what its solution boxes last; its family is the problem's type (Algebra, Geometry ...). The prompt has the
form that Minerva made common (`Problem:`, `Solution:`), five worked examples at most. They are fixed and written for this
project, in the manner of the data set and none of it, so that no problem is spent on the prompt: a fraction, an interval, an
expression, a root and a pair, each in a box.

Splits (`official.py` says what `clean` and `paper` are):

| split | clean | paper |
|---|---|---|
| `test` | the official test set, 5,000 | 4,400 of them |
| `dev` | DEV_SIZE of the train problems, drawn by the same seed as the paper's | the other 600 |
| `train` | the rest of the train problems, 6,900 | – |

No question of the official test file stands twice in it. A train problem that is also a test problem is left out of dev.
"""

from pathlib import Path

from benchmarks.checkers import MATH
from benchmarks.decoding import Stop
from benchmarks.errors import ProblemFileError
from benchmarks.evaluators import Prompt
from benchmarks.few_shot import FewShot
from benchmarks.official import SPLIT_SEED, OfficialSet, Parts
from benchmarks.problems import Fields, Problem, draw

PROMPT_VERSION = "math-own5-1"
"""Changes with any character of the prompt."""

DEV_SIZE = 600
"""As many as the paper tunes on."""
MAX_NEW_TOKENS = 512
STOP = Stop(strings=("Problem:",))

INSTRUCTION = r"Solve the problem step by step. Put the final answer, and nothing else, in \boxed{}."

EXAMPLES: tuple[tuple[str, str], ...] = (
    (
        "A bag holds $4$ red and $6$ blue marbles. Two marbles are drawn one after the other and not put back. What is the "
        "probability that both are blue? Express your answer as a common fraction.",
        r"The first marble is blue with probability $\frac{6}{10}$. Then $5$ of the $9$ marbles left are blue, so the second "
        r"is blue with probability $\frac{5}{9}$. Both are blue with probability "
        r"$\frac{6}{10}\cdot\frac{5}{9}=\frac{30}{90}=\boxed{\frac{1}{3}}$.",
    ),
    (
        r"Find all real $x$ with $x^2-2x-15\le 0$. Express your answer in interval notation.",
        r"We factor $x^2-2x-15=(x+3)(x-5)$. The product is at most $0$ where one factor is at most $0$ and the other at least "
        r"$0$, which is between the roots $-3$ and $5$, both included. The answer is $\boxed{[-3,5]}$.",
    ),
    (
        "Expand and simplify $(2a-3)(a+4)-a(a+1)$.",
        r"We expand $(2a-3)(a+4)=2a^2+8a-3a-12=2a^2+5a-12$ and $a(a+1)=a^2+a$. The difference is "
        r"$2a^2+5a-12-a^2-a=\boxed{a^2+4a-12}$.",
    ),
    (
        "A rectangle is $4$ units wide and $10$ units long. How many units long is its diagonal? Express your answer in "
        "simplest radical form.",
        r"By the Pythagorean theorem the diagonal is $\sqrt{4^2+10^2}=\sqrt{116}=\sqrt{4\cdot 29}=\boxed{2\sqrt{29}}$ units "
        "long.",
    ),
    (
        "The line through $(1,2)$ and $(4,8)$ meets the line $y=9-x$ in one point. Give this point as an ordered pair.",
        r"The first line has slope $\frac{8-2}{4-1}=2$ and passes through $(1,2)$, so it is $y=2x$. Where the lines meet, "
        r"$2x=9-x$, so $x=3$ and $y=6$. The point is $\boxed{(3,6)}$.",
    ),
)
SHOTS = len(EXAMPLES)
FEW_SHOT = FewShot(PROMPT_VERSION, "Problem:\n{question}\n\nSolution:", INSTRUCTION, EXAMPLES)


def prompt(question: str, *, shots: int = SHOTS, chat: bool = False) -> Prompt:
    """The prompt for one question; see `FewShot.prompt`."""
    return FEW_SHOT.prompt(question, shots=shots, chat=chat)


def load(data: str | Path | None, split: str, splits: str = "clean") -> tuple[Problem, ...]:
    """The problems of a split; see `OfficialSet.load`."""
    return OFFICIAL.load(data, split, splits)


def _carve(train: tuple[Problem, ...], where: str) -> Parts:
    if len(train) <= DEV_SIZE:
        raise ProblemFileError(
            f"math data '{where}': expected more than {DEV_SIZE} train problems, as many are drawn for dev, got {len(train)}; "
            "give the official train.jsonl, or one JSONL file as data"
        )
    dev, rest = draw(train, DEV_SIZE, seed=SPLIT_SEED)
    return rest, dev


OFFICIAL = OfficialSet(
    name="math",
    hub_id="EleutherAI/hendrycks_math",
    configs=(
        "algebra",
        "counting_and_probability",
        "geometry",
        "intermediate_algebra",
        "number_theory",
        "prealgebra",
        "precalculus",
    ),
    fields=Fields("problem", "solution", "type"),
    checker=MATH,
    carve=_carve,
    test_size=5000,
    paper_dev=600,
)
