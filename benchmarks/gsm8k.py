"""GSM8K: grade-school word problems with worked solutions. Cobbe et al. 2021, https://arxiv.org/abs/2110.14168.

The prompt has lm-eval's form (`Question: ...`, `Answer: ...`), five worked examples at most. lm-eval draws its examples
at random from the train set; ours are fixed and written for this project, in the train set's manner but without its
calculator marks (`<<48/2=24>>`), which only models trained on them write. No train problem is spent on the prompt,
and two runs of ours always ask the same.

Splits, from the two official files:

- `test`: the official test set;
- `dev`: the train problems from index DEV_START on (473 of them);
- `train`: those before, for whoever fine-tunes a model that will be scored on `dev`.
"""

import re
from pathlib import Path
from typing import Any

from benchmarks.decoding import Stop
from benchmarks.errors import ProblemFileError, UnknownBenchmarkError
from benchmarks.evaluators import Chat, Prompt
from benchmarks.problems import Problem, load_jsonl, problem_of

PROMPT_VERSION = "gsm8k-own5-1"
"""Changes with any character of the prompt."""

HUB_ID = "openai/gsm8k"
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

_CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")


def plain_solution(answer: str) -> str:
    """A worked solution of the official files without their calculator marks."""
    return _CALCULATOR_MARK.sub("", answer)


def few_shot_prefix(shots: int) -> str:
    """What stands before the question in plain mode: `shots` worked examples, each followed by an empty line."""
    return "".join(f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in EXAMPLES[:shots])


def prompt(question: str, *, shots: int = SHOTS, chat: bool = False) -> Prompt:
    """The prompt for one question.

    Args:
        shots: worked examples, 0..SHOTS.
        chat: as turns, for the model's chat template; the instruction opens the first turn.
    """
    assert 0 <= shots <= SHOTS
    if not chat:
        return f"{few_shot_prefix(shots)}Question: {question}\nAnswer:"
    turns = [turn for asked, answer in EXAMPLES[:shots] for turn in (("user", asked), ("assistant", answer))]
    turns.append(("user", question))
    first = (turns[0][0], f"{INSTRUCTION}\n\n{turns[0][1]}")
    return Chat((first, *turns[1:]))


def load(data: str | Path | None, split: str) -> tuple[Problem, ...]:
    """The problems of a split.

    Args:
        data: a folder with the official `train.jsonl` and `test.jsonl`; or one JSONL file, which is then taken whole
            whatever the split; or a hub id; None: HUB_ID.
        split: "train", "dev" or "test".

    Raises:
        UnknownBenchmarkError: no such split.
        ProblemFileError: a file or the hub cannot be read.
    """
    if split not in ("train", "dev", "test"):
        raise UnknownBenchmarkError(
            f"benchmark 'gsm8k': expected split train, dev or test, got '{split}'; use one of them"
        )
    official = "test" if split == "test" else "train"
    if data is not None and Path(data).is_file():
        return load_jsonl(data)
    if data is not None and Path(data).is_dir():
        problems = load_jsonl(Path(data) / f"{official}.jsonl")
    elif data is not None and not _is_hub_id(str(data)):
        raise ProblemFileError(
            f"gsm8k data '{data}': expected a JSONL file, a folder with train.jsonl and test.jsonl, or a hub id, "
            "got nothing of that name; check the path"
        )
    else:
        problems = _from_hub(str(data or HUB_ID), official)
    if split == "test":
        return problems
    return problems[:DEV_START] if split == "train" else _dev(problems, str(data))


def _dev(problems: tuple[Problem, ...], where: str) -> tuple[Problem, ...]:
    if len(problems) <= DEV_START:
        raise ProblemFileError(
            f"gsm8k data '{where}': expected more than {DEV_START} train problems, as the dev split starts there, "
            f"got {len(problems)}; give the official train.jsonl, or one JSONL file as data"
        )
    return problems[DEV_START:]


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not name.startswith(".")


def _from_hub(hub_id: str, split: str) -> tuple[Problem, ...]:
    import datasets

    try:
        rows: Any = datasets.load_dataset(hub_id, "main", split=split)
    except (OSError, ValueError, RuntimeError) as error:  # What datasets and the hub client raise; they share no root.
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ProblemFileError(
            f"gsm8k data '{hub_id}': expected a data set on the hub, got: {first[:160]}; "
            "check the connection, or give a folder with train.jsonl and test.jsonl as data"
        ) from error
    return tuple(
        problem_of(row, where=f"{hub_id}/{split} row {at}", default_id=f"{split}-{at:05d}")
        for at, row in enumerate(rows)
    )
