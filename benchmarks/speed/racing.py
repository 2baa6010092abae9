"""What racing saves, and what it loses. `python -m benchmarks.speed.racing [--archive RUN/archive.db]`

Campaigns of three iterations: simulated, 200 times, and of the scored programs of a real archive (made with `benchmark.racing=none`, so that every program was asked
everything), 20 times in another order of problems and of programs. Prints for each rule the share of the items that it asks, and the mean overlap of its best
15 with the true best 15 (a program that scores as well as the true fifteenth counts: ties are equal), each with the standard error over the repeats. The first rule is
the default of campaigns: `racing.Races`, eight looks. Of the programs that reach the last place it prints how many were stopped, which its error bounds for
each.

Simulated worlds: `graded` has candidates of evenly spread skill; `crowded` is as campaigns on the pocket world are: a quarter collapsed, most near the
seed, and a crowd within a few points at the top. Both get better from iteration to iteration. Problems differ in difficulty, so candidates are right and
wrong together.
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
from benchmarks.racing import LOOKS, RaceRules, Races, halving_rungs, survivors
from benchmarks.suite import Part, Suite

PROBLEMS = 200
ITERATIONS = 3
CANDIDATES = 110  # of 200 written in an iteration, those that are valid and new
KEEP, LEARNT_FROM = 15, 6
SIMULATED, REAL = 200, 20
TARGET_SHARE, TARGET_OVERLAP = 0.5, 0.95

Bits = npt.NDArray[np.bool_]
"""[candidates, problems]"""
Campaign = list[Bits]
"""The candidates of each iteration."""


def graded(rng: np.random.Generator) -> Campaign:
    """Skills of a normal distribution that moves up."""
    skills = [rng.normal(0.2 + 0.2 * number, 1.0, CANDIDATES) for number in range(ITERATIONS)]
    return _answers(skills, rng)


def crowded(rng: np.random.Generator) -> Campaign:
    """Ever fewer collapsed, most near the seed, ever more close together at the top."""
    skills = []
    for number, shares in enumerate(([0.25, 0.5, 0.25], [0.2, 0.5, 0.3], [0.1, 0.5, 0.4])):
        kinds = rng.choice(3, CANDIDATES, p=shares)
        near, top = rng.normal(0.2 + 0.1 * number, 0.5, CANDIDATES), rng.normal(1.0 + 0.1 * number, 0.15, CANDIDATES)
        skills.append(np.choose(kinds, [np.full(CANDIDATES, -4.0), near, top]))
    return _answers(skills, rng)


def _answers(skills: Sequence[npt.NDArray[np.float64]], rng: np.random.Generator) -> Campaign:
    difficulty = rng.normal(0.0, 1.5, PROBLEMS)
    return [skill[:, None] - difficulty[None] + rng.logistic(0.0, 0.6, (len(skill), PROBLEMS)) > 0 for skill in skills]


def suite_of(problems: int, block: int, rng: np.random.Generator) -> Suite:
    """A suite of so many problems in a random order; what they ask does not matter here."""
    benchmark = load_benchmark("pocket")
    made = tuple(Problem(str(at), str(at), "#### 0", "0") for at in range(problems))
    return Suite([Part(benchmark, made)], rng=rng, block=block)


def sequential(campaign: Campaign, suite: Suite) -> tuple[int, list[list[int]]]:
    """(items asked, by iteration the candidates that were asked everything)."""
    races = Races(suite, finalists=KEEP, learnt_from=LEARNT_FROM, error=RaceRules.error)
    asked, complete = 0, []
    for iteration, bits in enumerate(campaign):
        complete.append(_raced(bits, suite, races, iteration))
        asked += sum(count for count, _ in complete[-1])
    return asked, [[number for number, (count, _) in enumerate(rows) if count == len(suite)] for rows in complete]


def _raced(bits: Bits, suite: Suite, races: Races, iteration: int) -> list[tuple[int, str]]:
    """How many items each candidate was asked, and what it showed."""
    rows = []
    for line in bits:
        shown = np.full(len(suite), ord("-"), np.uint8)
        asked = 0
        for block in suite.blocks:
            if races.is_beaten(iteration, shown.tobytes().decode()):
                break
            places = list(block)
            shown[places] = np.where(line[places], ord("1"), ord("0"))
            asked += len(block)
        rows.append((asked, shown.tobytes().decode()))
        if asked == len(suite):
            races.enter(iteration, rows[-1][1])
    return rows


def halving(campaign: Campaign, suite: Suite, eta: int) -> tuple[int, list[list[int]]]:
    """(items asked, by iteration the candidates that were asked everything)."""
    asked, complete = 0, []
    for bits in campaign:
        alive, met = list(range(len(bits))), 0
        for rung in halving_rungs(len(suite.blocks), eta):
            order = list(suite.order[: sum(map(len, suite.blocks[:rung]))])
            asked += len(alive) * (len(order) - met)
            met = len(order)
            if met < len(suite):
                shares = [float(bits[one, order].mean()) for one in alive]
                alive = [alive[place] for place in survivors(shares, KEEP, eta)]
        complete.append(alive)
    return asked, complete


def overlap(campaign: Campaign, complete: Sequence[Sequence[int]]) -> tuple[float, float]:
    """(share of the best KEEP of those asked everything that score as well as the true KEEP-th; share stopped of all that do)."""
    right = np.concatenate([bits.sum(axis=1) for bits in campaign])
    starts = np.cumsum([0, *(len(bits) for bits in campaign)])
    asked = np.concatenate([np.array(rows, int) + start for rows, start in zip(complete, starts[:-1], strict=True)])
    keep = min(KEEP, len(right))
    least = np.sort(right)[::-1][keep - 1]
    held = float((np.sort(right[asked])[::-1][:keep] >= least).sum() / keep)
    return held, 1 - float((right[asked] >= least).sum() / (right >= least).sum())


Rule = Callable[[Campaign, np.random.Generator], tuple[int, list[list[int]]]]


def rules(problems: int) -> dict[str, Rule]:
    """What is compared."""

    def racing(block: int) -> Rule:
        return lambda campaign, rng: sequential(campaign, suite_of(problems, block, rng))

    def halves(block: int, eta: int) -> Rule:
        return lambda campaign, rng: halving(campaign, suite_of(problems, block, rng), eta)

    quarter, usual = -(-problems // 4), -(-problems // LOOKS)
    return {
        f"sequential, blocks of {usual}": racing(usual),
        f"sequential, blocks of {quarter}": racing(quarter),
        f"halving by 2 from {quarter}": halves(quarter, 2),
        f"halving by 2 from {usual}": halves(usual, 2),
    }


def compare(label: str, campaigns: Sequence[Campaign], seed: int) -> bool:
    """Prints a line for each rule; whether the first rule meets the targets."""
    met = False
    for at, (name, rule) in enumerate(rules(campaigns[0][0].shape[1]).items()):
        rows = []
        for number, campaign in enumerate(campaigns):
            asked, complete = rule(campaign, np.random.default_rng([seed, number]))
            rows.append((asked / sum(bits.size for bits in campaign), *overlap(campaign, complete)))
        share, held, lost = np.mean(rows, axis=0)
        error = np.std([row[1] for row in rows]) / np.sqrt(len(rows))
        figures = f"items {100 * share:5.1f} %   overlap {100 * held:5.1f} ± {100 * error:.1f} %   stopped of those level or better {100 * lost:4.1f} %"
        print(f"{label:<16}{name:<28}{figures}", flush=True)
        met = met or bool(at == 0 and share <= TARGET_SHARE and held >= TARGET_OVERLAP)
    return met


def archived(path: Path) -> Campaign:
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
        rng, campaign = np.random.default_rng(3), archived(arguments.archive)
        shuffled = [[bits[rng.permutation(len(bits))] for bits in campaign] for _ in range(REAL)]
        met.append(compare(f"real, {REAL} ×", shuffled, 2))
    print(f"target (items ≤ {TARGET_SHARE:.0%}, overlap ≥ {TARGET_OVERLAP:.0%}): {'met' if all(met) else 'MISSED'}")


if __name__ == "__main__":
    main()
