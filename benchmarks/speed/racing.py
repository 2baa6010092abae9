"""What racing saves, and what it loses. `python -m benchmarks.speed.racing [--archive RUN/archive.db]`

Races of simulated candidates, 200 times, and of the scored programs of a real archive (made with `benchmark.racing=none`, so that every program was asked
everything), 20 times in another order of problems and of programs. Prints for each rule the share of the items that it asks, and the mean overlap of its best
15 with the true best 15 (a program that scores as well as the true fifteenth counts: ties are equal), each with the standard error over the repeats.

Simulated worlds: `graded` has candidates of evenly spread skill; `crowded` is as campaigns on the pocket world are: a quarter collapsed, most near the
seed, and a crowd within a few points at the top. Problems differ in difficulty, so candidates are right and wrong together.
"""

import argparse
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.benchmark import load_benchmark
from benchmarks.problems import Problem
from benchmarks.racing import Race, RaceRules, halving_rungs, survivors
from benchmarks.suite import Part, Suite

PROBLEMS = 200
CANDIDATES = 120  # of 200 written in an iteration, those that are valid and new
KEEP = 15
SIMULATED, REAL = 200, 20
TARGET_SHARE, TARGET_OVERLAP = 0.5, 0.95

Bits = npt.NDArray[np.bool_]
"""[candidates, problems]"""


def graded(rng: np.random.Generator) -> Bits:
    """Skills of a normal distribution."""
    return _answers(rng.normal(0.2, 1.0, CANDIDATES), rng)


def crowded(rng: np.random.Generator) -> Bits:
    """A quarter collapsed, half near the seed, a quarter close together at the top."""
    kinds = rng.choice(3, CANDIDATES, p=[0.25, 0.5, 0.25])
    skill = np.where(kinds == 0, -4.0, np.where(kinds == 1, rng.normal(0.2, 0.5, CANDIDATES), 0.0))
    return _answers(np.where(kinds == 2, rng.normal(1.0, 0.15, CANDIDATES), skill), rng)


def _answers(skill: npt.NDArray[np.float64], rng: np.random.Generator) -> Bits:
    difficulty = rng.normal(0.0, 1.5, PROBLEMS)
    right: Bits = skill[:, None] - difficulty[None] + rng.logistic(0.0, 0.6, (len(skill), PROBLEMS)) > 0
    return right


def suite_of(problems: int, block: int, rng: np.random.Generator) -> Suite:
    """A suite of so many problems in a random order; what they ask does not matter here."""
    benchmark = load_benchmark("pocket")
    made = tuple(Problem(str(at), str(at), "#### 0", "0") for at in range(problems))
    return Suite([Part(benchmark, made)], rng=rng, block=block)


def sequential(bits: Bits, suite: Suite) -> tuple[int, list[int]]:
    """(items asked, candidates that were asked everything)."""
    race, asked, complete = Race(suite, RaceRules(KEEP)), 0, []
    for number, line in enumerate(bits):
        shown = np.full(len(suite), ord("-"), np.uint8)
        for block in suite.blocks:
            if race.is_beaten(shown.tobytes().decode()):
                break
            places = list(block)
            shown[places] = np.where(line[places], ord("1"), ord("0"))
            asked += len(block)
        else:
            race.enter(shown.tobytes().decode())
            complete.append(number)
    return asked, complete


def halving(bits: Bits, suite: Suite, eta: int) -> tuple[int, list[int]]:
    """(items asked, candidates that were asked everything)."""
    alive, asked, met = list(range(len(bits))), 0, 0
    for rung in halving_rungs(len(suite.blocks), eta):
        order = list(suite.order[: sum(map(len, suite.blocks[:rung]))])
        asked += len(alive) * (len(order) - met)
        met = len(order)
        if met < len(suite):
            alive = [alive[place] for place in survivors([float(bits[one, order].mean()) for one in alive], KEEP, eta)]
    return asked, alive


def overlap(bits: Bits, complete: Sequence[int]) -> float:
    """Share of the best KEEP of those asked everything that score as well as the true KEEP-th."""
    right = bits.sum(axis=1)
    least = np.sort(right)[::-1][: min(KEEP, len(right))][-1]
    best = np.sort(right[list(complete)])[::-1][:KEEP]
    return float((best >= least).sum() / min(KEEP, len(right)))


Rule = Callable[[Bits, np.random.Generator], tuple[int, list[int]]]


def rules(problems: int) -> dict[str, Rule]:
    """What is compared."""

    def racing(block: int) -> Rule:
        return lambda bits, rng: sequential(bits, suite_of(problems, block, rng))

    def halves(block: int, eta: int) -> Rule:
        return lambda bits, rng: halving(bits, suite_of(problems, block, rng), eta)

    quarter, eighth = -(-problems // 4), -(-problems // 8)
    return {
        f"sequential, blocks of {quarter}": racing(quarter),
        f"sequential, blocks of {eighth}": racing(eighth),
        f"halving by 2 from {quarter}": halves(quarter, 2),
        f"halving by 2 from {eighth}": halves(eighth, 2),
    }


def compare(label: str, worlds: Sequence[Bits], seed: int) -> bool:
    """Prints a line for each rule; whether the first rule meets the targets."""
    met = False
    for at, (name, rule) in enumerate(rules(worlds[0].shape[1]).items()):
        shares, overlaps = [], []
        for number, bits in enumerate(worlds):
            asked, complete = rule(bits, np.random.default_rng([seed, number]))
            shares.append(asked / bits.size)
            overlaps.append(overlap(bits, complete))
        share, held = np.mean(shares), np.mean(overlaps)
        error = np.std(overlaps) / np.sqrt(len(overlaps))
        print(
            f"{label:<22}{name:<28}items {100 * share:5.1f} %   overlap {100 * held:5.1f} ± {100 * error:.1f} %",
            flush=True,
        )
        met = met or bool(at == 0 and share <= TARGET_SHARE and held >= TARGET_OVERLAP)
    return bool(met)


def archived(path: Path) -> list[Bits]:
    """The scored programs of each iteration of an archive, all asked everything; refuses others."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        rows = database.execute("select iteration, score from candidates where value is not null order by number")
        found: dict[int, list[str]] = {}
        for iteration, score in rows:
            found.setdefault(iteration, []).append(json.loads(score)["bits"])
    if any("-" in bits for lines in found.values() for bits in lines):
        raise SystemExit(f"{path}: expected every program asked everything; run it with --set benchmark.racing=none")
    return [np.array([[bit == "1" for bit in line] for line in lines]) for lines in found.values()]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.racing", description=__doc__)
    parser.add_argument("--archive", type=Path, help="archive.db of a run with benchmark.racing=none")
    parser.add_argument("--repeats", type=int, default=SIMULATED)
    arguments = parser.parse_args()
    met = []
    for make in (graded, crowded):
        worlds = [make(np.random.default_rng([7, number])) for number in range(arguments.repeats)]
        met.append(compare(f"{make.__name__}, {len(worlds)} ×", worlds, 1))
    if arguments.archive:
        rng = np.random.default_rng(3)
        iterations = archived(arguments.archive)
        for number, bits in enumerate(iterations, start=1):
            orders = [bits[rng.permutation(len(bits))] for _ in range(REAL)]
            met.append(compare(f"iteration {number}, {REAL} × {len(bits)}", orders, 2))
    print(f"target (items ≤ {TARGET_SHARE:.0%}, overlap ≥ {TARGET_OVERLAP:.0%}): {'met' if all(met) else 'MISSED'}")


if __name__ == "__main__":
    main()
