"""GSM8K: grade-school word problems with worked solutions. Cobbe et al. 2021, https://arxiv.org/abs/2110.14168.

The prompt has lm-eval's form (`Question: ...`, `Answer: ...`), five worked examples at most. lm-eval draws its examples
at random from the train set; ours are fixed and written for this project, in the train set's manner but without its
calculator marks (`<<48/2=24>>`), which only models trained on them write. No train problem is spent on the prompt,
and two runs of ours always ask the same.

Splits (`official.py` says what `clean` and `paper` are):

| split | clean | paper |
|---|---|---|
| `test` | the official test set, 1,319 | 1,219 of them |
| `dev` | the train problems from index DEV_START on, 473 | the other 100 |
| `train` | the train problems before it, 7,000 | – |

No question of the official files stands in both of them, and none stands twice in one.
"""

import re
from pathlib import Path

from benchmarks.checkers import NUMBER
from benchmarks.decoding import Stop
from benchmarks.errors import ProblemFileError
from benchmarks.evaluators import Prompt
from benchmarks.few_shot import FewShot
from benchmarks.official import OfficialSet, Parts
from benchmarks.problems import Fields, Problem

PROMPT_VERSION = "gsm8k-own5-1"
"""Changes with any character of the prompt."""

DEV_START = 7000
MAX_NEW_TOKENS = 256
STOP = Stop(strings=("Question:",), final_line=True)

INSTRUCTION = "Solve the problem step by step. End with a line that holds only #### and the final number."

EXAMPLES: tuple[tuple[str, str], ...] = (
    (
        "A baker makes 6 trays of rolls with 24 rolls on each tray. By noon 95 are sold. How many rolls are left?",
        "The baker makes 6 * 24 = 144 rolls.\nAfter the sale 144 - 95 = 49 rolls are left.\n#### 49",
    ),
    (
        "Nadia reads 18 pages a day from Monday to Friday and twice as many on Saturday. Her book has 200 pages. "
        "How many pages has she still to read on Sunday?",
        "From Monday to Friday she reads 5 * 18 = 90 pages.\nOn Saturday she reads 2 * 18 = 36 pages.\n"
        "So far she has read 90 + 36 = 126 pages.\nThere are 200 - 126 = 74 pages left.\n#### 74",
    ),
    (
        "A jacket costs $80. It is sold at 25% off, and Omar pays with a $100 bill. How much change does he get?",
        "The discount is 80 * 25 / 100 = 20 dollars.\nThe jacket now costs 80 - 20 = 60 dollars.\n"
        "Omar gets 100 - 60 = 40 dollars back.\n#### 40",
    ),
    (
        "Three friends pick berries. Ida picks 14 cups, Jon picks half as many as Ida, and Kai picks 3 cups more than "
        "Jon. They share all of it equally. How many cups does each of them get, rounded down?",
        "Jon picks 14 / 2 = 7 cups.\nKai picks 7 + 3 = 10 cups.\nTogether they have 14 + 7 + 10 = 31 cups.\n"
        "31 / 3 is 10 with 1 left over, so each gets 10 cups.\n#### 10",
    ),
    (
        "A train travels at 60 miles an hour for 2 hours and at 45 miles an hour for 4 hours. How many miles is that?",
        "The first part is 60 * 2 = 120 miles.\nThe second part is 45 * 4 = 180 miles.\n"
        "The trip is 120 + 180 = 300 miles long.\n#### 300",
    ),
)
SHOTS = len(EXAMPLES)
FEW_SHOT = FewShot(PROMPT_VERSION, "Question: {question}\nAnswer:", INSTRUCTION, EXAMPLES)

_CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")


def plain_solution(answer: str) -> str:
    """A worked solution of the official files without their calculator marks."""
    return _CALCULATOR_MARK.sub("", answer)


def prompt(question: str, *, shots: int = SHOTS, chat: bool = False) -> Prompt:
    """The prompt for one question; see `FewShot.prompt`."""
    return FEW_SHOT.prompt(question, shots=shots, chat=chat)


def load(data: str | Path | None, split: str, splits: str = "clean") -> tuple[Problem, ...]:
    """The problems of a split; see `OfficialSet.load`."""
    return OFFICIAL.load(data, split, splits)


def _carve(train: tuple[Problem, ...], where: str) -> Parts:
    if len(train) <= DEV_START:
        raise ProblemFileError(
            f"gsm8k data '{where}': expected more than {DEV_START} train problems, as the dev split starts there, "
            f"got {len(train)}; give the official train.jsonl, or one JSONL file as data"
        )
    return train[:DEV_START], train[DEV_START:]


OFFICIAL = OfficialSet(
    name="gsm8k",
    hub_id="openai/gsm8k",
    configs=("main",),
    fields=Fields(),
    checker=NUMBER,
    carve=_carve,
    test_size=1319,
    paper_dev=100,
)
