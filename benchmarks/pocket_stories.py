"""Word problems of the pocket benchmark: nine families, each a way to draw a story with its calculations.

All randomness comes from the generator passed in, so a seed stands for a problem.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.problems import Problem

MAX_NUMBER = 400  # every intermediate result lies in 1..MAX_NUMBER, so that single digits suffice for a tokenizer
MAX_STEPS = 4
MIN_STEPS = 2

NAMES = (
    "Ana",
    "Ben",
    "Cara",
    "Dan",
    "Ella",
    "Finn",
    "Gina",
    "Hugo",
    "Ivy",
    "Jack",
    "Kim",
    "Leo",
    "Mia",
    "Noah",
    "Olga",
    "Paul",
)
THINGS = (
    "apples",
    "books",
    "cards",
    "coins",
    "eggs",
    "flowers",
    "marbles",
    "pencils",
    "shells",
    "stamps",
    "stickers",
    "toys",
)
BOXES = ("bags", "boxes", "baskets", "jars", "shelves", "trays")


@dataclass
class Story:
    """A problem under construction: sentences so far, calculations so far, and the running value the question asks for."""

    name: str
    thing: str
    value: int
    sentences: list[str]
    steps: list[str]
    question: str

    def then(self, sentence: str, operator: str, operand: int, result: int) -> None:
        """Add one sentence and the calculation it stands for."""
        self.sentences.append(sentence)
        self.calculate(operator, operand, result)

    def calculate(self, operator: str, operand: int, result: int) -> None:
        """Add one calculation on the running value."""
        self.steps.append(f"{self.value}{operator}{operand}={result}")
        self.value = result


def _start(rng: random.Random, value: int, sentence: str, question: str) -> Story:
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    other = rng.choice([n for n in NAMES if n != name])
    box = rng.choice(BOXES)
    story = Story(name, thing, value, [], [], question)
    fill = {"name": name, "thing": thing, "other": other, "box": box, "n": value}
    story.sentences.append(sentence.format(**fill))
    story.question = question.format(**fill)
    return story


def _sums(rng: random.Random) -> Story:
    a, b = rng.randint(5, 60), rng.randint(5, 60)
    opening = rng.choice(
        ("{name} has {n} {thing}.", "There are {n} {thing} on the table.", "{name} collects {n} {thing} on Monday.")
    )
    ask = rng.choice(("How many {thing} are there in total?", "How many {thing} is that altogether?"))
    story = _start(rng, a, opening, ask)
    story.then(
        rng.choice(
            (f"A friend brings {b} more.", f"Then {b} more are added.", f"On Tuesday {story.name} finds {b} more.")
        ),
        "+",
        b,
        a + b,
    )
    c = rng.randint(3, 40)
    story.then(
        rng.choice((f"Later {c} others arrive.", f"Another {c} come from a neighbor.", f"An aunt sends {c} as well.")),
        "+",
        c,
        a + b + c,
    )
    return story


def _differences(rng: random.Random) -> Story:
    a = rng.randint(40, 120)
    b = rng.randint(5, a // 2)
    c = rng.randint(2, (a - b) // 2)
    opening = rng.choice(
        ("{name} has {n} {thing}.", "A shop starts the day with {n} {thing}.", "{name} packs {n} {thing}.")
    )
    ask = rng.choice(("How many {thing} are left?", "How many {thing} remain?"))
    story = _start(rng, a, opening, ask)
    story.then(
        rng.choice((f"{b} of them are sold.", f"{b} are given to a cousin.", f"{b} get lost on the way.")),
        "-",
        b,
        a - b,
    )
    story.then(
        rng.choice((f"After lunch {c} break.", f"Then {c} are taken away.", f"A dog runs off with {c}.")),
        "-",
        c,
        a - b - c,
    )
    return story


def _comparisons(rng: random.Random) -> Story:
    times, word = rng.choice(((2, "twice"), (3, "three times"), (4, "four times"), (5, "five times")))
    a = rng.randint(4, 24)
    opening = rng.choice(
        (
            "{name} has {n} {thing} and {other} has " + word + " as many.",
            "{name} owns {n} {thing}. {other} owns " + word + " as many.",
        )
    )
    b = a * times
    if rng.random() < 0.5:
        story = _start(
            rng,
            a,
            opening,
            rng.choice(("How many {thing} do both have together?", "How many {thing} do they own between them?")),
        )
        story.calculate("*", times, b)
        story.calculate("+", a, a + b)
    else:
        story = _start(
            rng,
            a,
            opening,
            rng.choice(("How many more {thing} does {other} have?", "By how many {thing} is {other} ahead?")),
        )
        story.calculate("*", times, b)
        story.calculate("-", a, b - a)
    return story


def _products(rng: random.Random) -> Story:
    a, b = rng.randint(3, 15), rng.randint(3, 9)
    opening = rng.choice(
        (f"{{name}} fills {b} {{box}} with {{n}} {{thing}} each.", f"There are {{n}} {{thing}} in each of {b} {{box}}.")
    )
    story = _start(
        rng, a, opening, rng.choice(("How many {thing} are there now?", "What is the number of {thing} now?"))
    )
    story.calculate("*", b, a * b)
    c = rng.randint(2, 30)
    if rng.random() < 0.5:
        story.then(rng.choice((f"{c} more lie on the floor.", f"{c} loose ones lie beside them.")), "+", c, a * b + c)
    else:
        c = min(c, a * b - 1)
        story.then(rng.choice((f"{c} of them are thrown out.", f"{c} turn out to be spoiled.")), "-", c, a * b - c)
    return story


def _shares(rng: random.Random) -> Story:
    people, each = rng.randint(2, 9), rng.randint(3, 20)
    total = people * each
    first = rng.randint(2, total - 1)
    opening = rng.choice(
        (
            f"{{name}} has {{n}} {{thing}} and buys {total - first} more.",
            f"{{name}} picks {{n}} {{thing}} and then {total - first} more.",
        )
    )
    ask = rng.choice(("How many {thing} does each one get?", "How many {thing} are in each share?"))
    story = _start(rng, first, opening, ask)
    story.calculate("+", total - first, total)
    story.then(
        rng.choice((f"They are shared equally by {people} children.", f"{people} friends split them evenly.")),
        "/",
        people,
        each,
    )
    return story


def _money(rng: random.Random) -> Story:
    price, count = rng.randint(2, 12), rng.randint(2, 9)
    cost = price * count
    paid = rng.choice([p for p in (20, 50, 100, 150, 200) if p > cost])
    opening = rng.choice(
        (
            f"{{thing}} cost {{n}} dollars each. {{name}} buys {count}.",
            f"{{name}} buys {count} {{thing}} at {{n}} dollars apiece.",
        )
    )
    story = _start(
        rng, price, opening, rng.choice(("How much change is due in dollars?", "How many dollars come back?"))
    )
    story.calculate("*", count, cost)
    story.sentences.append(
        rng.choice((f"The bill is paid with {paid} dollars.", f"{story.name} hands over {paid} dollars."))
    )
    story.steps.append(f"{paid}-{cost}={paid - cost}")
    story.value = paid - cost
    return story


def _rates(rng: random.Random) -> Story:
    speed, hours = rng.randint(3, 20), rng.randint(2, 9)
    verb = rng.choice(("walks", "cycles", "rides", "drives"))
    opening = f"{{name}} {verb} {{n}} miles an hour for {hours} hours."
    story = _start(
        rng,
        speed,
        opening,
        rng.choice(("How many miles is the whole trip?", "What is the length of the trip in miles?")),
    )
    story.calculate("*", hours, speed * hours)
    extra = rng.randint(2, 40)
    story.then(
        rng.choice((f"A bus covers the last {extra} miles.", f"Then {extra} miles follow by train.")),
        "+",
        extra,
        story.value + extra,
    )
    return story


def _percentages(rng: random.Random) -> Story:
    percent, part = rng.choice(((10, 10), (20, 5), (25, 4), (50, 2)))
    share = rng.randint(2, 20)
    whole = share * part
    opening = rng.choice(
        (
            f"{{name}} has {{n}} {{thing}} and {percent} percent of them are red.",
            f"Of {{n}} {{thing}} that {{name}} has, {percent} percent are red.",
        )
    )
    if rng.random() < 0.5:
        story = _start(
            rng, whole, opening, rng.choice(("How many {thing} are not red?", "How many have another color?"))
        )
        story.calculate("/", part, share)
        story.steps.append(f"{whole}-{share}={whole - share}")
        story.value = whole - share
    else:
        story = _start(
            rng,
            whole,
            opening,
            rng.choice(("How many red {thing} are there in the end?", "How many are red in the end?")),
        )
        extra = rng.randint(2, 30)
        story.calculate("/", part, share)
        story.then(
            rng.choice((f"{extra} more red ones are bought.", f"{extra} others are painted red.")),
            "+",
            extra,
            share + extra,
        )
    return story


def _remainders(rng: random.Random) -> Story:
    size, full, rest = rng.randint(3, 9), rng.randint(2, 9), rng.randint(1, 8)
    rest = min(rest, size - 1)
    total = size * full + rest
    lost = rng.randint(2, 30)
    opening = rng.choice(
        (
            f"{{name}} has {{n}} {{thing}} and gives away {lost}.",
            f"{{n}} {{thing}} are in the store and {lost} are sold.",
        )
    )
    ask = rng.choice(("How many {thing} are left over?", "How many do not fit?"))
    story = _start(rng, total + lost, opening, ask)
    story.calculate("-", lost, total)
    story.then(
        rng.choice((f"The others are packed in {{box}} of {size}.", f"The rest goes into {{box}} of {size}.")).format(
            box=rng.choice(BOXES)
        ),
        "%",
        size,
        rest,
    )
    return story


_CORES: dict[str, Callable[[random.Random], Story]] = {
    "sums": _sums,
    "differences": _differences,
    "comparisons": _comparisons,
    "products": _products,
    "shares": _shares,
    "money": _money,
    "rates": _rates,
    "percentages": _percentages,
    "remainders": _remainders,
}
FAMILIES: tuple[str, ...] = tuple(_CORES)


def _extend(story: Story, rng: random.Random) -> None:
    """Add one more step to the running value: the same five endings for every family, so that families share skills."""
    v = story.value
    choices: list[tuple[tuple[str, str], str, int, int]] = []
    a = rng.randint(2, 30)
    choices.append(((f"Now add {a} to that number.", f"What is that number plus {a}?"), "+", a, v + a))
    if v > 3:
        b = rng.randint(1, min(v - 1, 30))
        choices.append(((f"Now take {b} from that number.", f"What is that number minus {b}?"), "-", b, v - b))
    if v <= 60:
        choices.append((("Now double that number.", "What is twice that number?"), "*", 2, v * 2))
        choices.append((("Now triple that number.", "What is three times that number?"), "*", 3, v * 3))
    if v % 2 == 0 and v > 2:
        choices.append((("Now halve that number.", "What is half of that number?"), "/", 2, v // 2))
    sentences, operator, operand, result = rng.choice(choices)
    sentence = rng.choice(sentences)
    story.question = f"{story.question} {sentence}"
    story.calculate(operator, operand, result)


def sample(family: str, rng: random.Random) -> Problem:
    """One problem of `family`; two to four steps, every number in 0..400.

    The id is empty: frozen splits number their problems, fresh ones need no name.

    Raises:
        KeyError: `family` is none of FAMILIES.
    """
    story = _CORES[family](rng)
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        if len(story.steps) < MAX_STEPS:
            _extend(story, rng)
    question = " ".join([*story.sentences, story.question])
    answer = "\n".join([*story.steps, f"#### {story.value}"])
    return Problem(
        id="", question=question[0].upper() + question[1:], answer=answer, final=str(story.value), family=family
    )
