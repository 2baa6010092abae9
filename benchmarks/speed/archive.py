"""How fast a large archive answers. `python -m benchmarks.speed.archive [--programs 50000]`

The archive is made up: programs of real length over a few hundred operations, one in five a failure, scores on 600 problems, descriptors of every kind, from a
fixed seed. Each question is asked several times of an archive that was opened anew, with its first 50 candidates whole; medians in milliseconds.

Every other program was written from one or two earlier ones. The run is whole: seed and a human-made merge, two updates, and a final of the 15 best, with what they make of every
tensor of a model of the pocket world's shape.

Target: list, search and family in 200 ms, one program by its id in 50 ms.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks.scores import Score
from benchmarks.statistics import wilson
from engine.archive_place import file_in
from engine.descriptors import NUMBERS, SKETCH_NUMBERS, Descriptors
from engine.lineage import family, related
from engine.programs import choose
from engine.records import Assessment, Candidate, Effect, Final, Outcome, Program, ProgramId, Sampling, Trial
from engine.search import Query, condition
from engine.store import Store
from merges import library

TARGET_MS = 200.0
BY_ID_TARGET_MS = 50.0
PROBLEMS, TEST_PROBLEMS = 600, 2_000
FINALISTS, UPDATES = 15, 2
EXPERTS = ("expert_a", "expert_b", "expert_c")
PARTS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")  # fmt: skip
TENSORS = (
    "model.embed_tokens.weight",
    *(f"model.layers.{layer}.{part}.weight" for layer in range(4) for part in PARTS),
)
PROBES = 13
PAGE = 50
AT_ONCE = 2_000


def name(number: int) -> str:
    """An id; its beginning tells programs apart, as those of hashes do."""
    return f"{number * 0x9E3779B1 % 2**32:08x}0000"


QUESTIONS = {
    "the best": Query(limit=PAGE),
    "the best that work, page 20": Query(verdict="ok", limit=PAGE, offset=19 * PAGE),
    "failures of iteration 3": Query(verdict="failed", iteration=3, limit=PAGE),
    "by descriptor": Query(conditions=[condition("rest>0.5"), condition("score>=60%")], limit=PAGE),
    "sorted by descriptor": Query(sort="sparsity", falling=True, limit=PAGE),
    "by operation": Query(operations=["svd"], limit=PAGE),
    "by text": Query(text="KTHVALUE", limit=PAGE),
    "by text that nobody has": Query(text="no such text", limit=PAGE),
    "descendants of the first": Query(descendants_of=name(1), limit=PAGE),
    "all at once": Query(
        verdict="ok", generator="1", operations=["topk"], text="sign", conditions=[condition("scale>0.5")], limit=PAGE
    ),
}


def scored(rng: random.Random, problems: int = PROBLEMS) -> Score:
    """A score on all problems."""
    bits = "".join(rng.choice("01") for _ in range(problems))
    right = bits.count("1")
    interval = wilson(right, problems)
    share = right / problems
    return Score(
        value=share, strict=share, lenient=share, low=interval.low, high=interval.high, n=problems, of=problems, effective_n=problems,
        bits=bits, strict_bits=bits, lenient_bits=bits, scorer_version="made up", families={"sums": share},
    )  # fmt: skip


def made_up(number: int, rng: random.Random, texts: list[str], operations: list[str]) -> Candidate:
    """A candidate of any fate."""
    text = f"{rng.choice(texts)}\n# {number}\n"
    sampling = Sampling(1.0, 1.0, number, number // 50, number % 50)
    parents = tuple(name(rng.randint(1, number)) for _ in range(rng.choice([0, 0, 1, 2])))
    program = Program(text, name(number), "generator", str(rng.randint(0, 2)), "prompt", text, sampling, parents)
    one = Candidate(number, 1 + number % 3, program, Assessment(Outcome.FAILED, reason="exception", detail="why"))
    if rng.random() < 0.2:
        return one
    numbers = {name: round(rng.uniform(axis.low, axis.high), 6) for name, axis in NUMBERS.items()}
    sketch = tuple(rng.random() for _ in range(PROBES * SKETCH_NUMBERS))
    found = Descriptors(numbers, (0.3, 0.3, 0.3), tuple(sorted(rng.sample(operations, 8))), sketch)
    works = Assessment(Outcome.OK, behaviour=f"{number:016x}", score=scored(rng), descriptors=found)
    return replace(one, assessment=works)


def fill(folder: Path, programs: int, server: str | None = None) -> list[ProgramId]:
    """The archive of a finished run with so many candidates, in a folder; in a schema of a server where one is named. Answers with its finalists."""
    rng = random.Random(0)
    texts = [library.source(name) for name in library.names()]
    operations = ["svd", "topk", "sign", "abs", "median", *(f"operation_{n}" for n in range(300))]
    store = Store.in_folder(folder, create=True, server=server)
    for first in range(1, programs + 1, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, programs + 1))
        store.take_over([made_up(number, rng, texts, operations) for number in numbers])
    finalists = finish(store, rng)
    store.close()
    return finalists


def finish(store: Store, rng: random.Random) -> list[ProgramId]:
    """What a run has beside its candidates; answers with its finalists."""
    trials = [Trial("seed", "seed", {}, scored(rng)), Trial("ties", "human", {"density": 0.2, "scale": 0.5}, scored(rng))]  # fmt: skip
    for trial in trials:
        store.add_trial(trial)
        store.add_final(Final(trial.name, trial.kind, 1, trial.score.value, trial.parameters, scored(rng, TEST_PROBLEMS)))  # fmt: skip
    lesson = {"examples": 128, "steps": 16, "learning_rate": 1e-4, "loss_first": 0.7, "loss_last": 0.5, "held_out_losses": []}  # fmt: skip
    for iteration in range(1, UPDATES + 1):
        attempt = {"lessons": [lesson], "probe": None, "refused": []}
        store.add_update(iteration, "dpo", {"trained": True, "attempts": [attempt]})
    best, _ = store.find(Query(verdict="ok", limit=FINALISTS))
    for rank, one in enumerate(best, start=1):
        store.add_final(Final(one.program.id, "discovered", rank, one.score or 0.0, {}, scored(rng, TEST_PROBLEMS)))
        store.add_effects(one.program.id, [made_of(tensor, rng) for tensor in TENSORS])
    store.set_meta("state", {"finished": True, "digest": ""})
    return [one.program.id for one in best]


def made_of(tensor: str, rng: random.Random) -> Effect:
    """What a program makes of a tensor."""
    return Effect(tensor, {expert: rng.uniform(-1, 1) for expert in EXPERTS}, rng.random(), rng.random(), rng.random())


def search(query: Query, store: Store) -> int:
    """What `archive list` asks."""
    return store.find(query)[1]


def show(reference: str, store: Store) -> int:
    """What `archive show` asks the archive."""
    return len(related(store, choose(store, reference, "made up")))


def kin(number: int, store: Store) -> int:
    """A family; how many are in it, those left out included."""
    found = family(store, name(number))
    assert found is not None
    generations = (*found.ancestors, *found.descendants)
    return sum(map(len, generations)) + found.more_ancestors + found.more_descendants


def ask(what: str, folder: Path, repeats: int, target: float, question: Callable[[Store], int]) -> None:
    """Print how long a question takes; it answers with a count."""
    seconds, count = [], 0
    for _ in range(repeats):
        store = Store.in_folder(folder)
        began = time.perf_counter()
        count = question(store)
        seconds.append(time.perf_counter() - began)
        store.close()
    milliseconds = 1000 * statistics.median(seconds)
    verdict = "" if milliseconds <= target else f"  MISSED, target {target:g} ms"
    print(f"{what}: {milliseconds:.0f} ms (of {count}){verdict}")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--server", help="archive.url of a campaign; the schema stays there. Default: SQLite")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        fill(Path(folder), arguments.programs, arguments.server)
        file = file_in(Path(folder))
        size = f"{file.stat().st_size / 1e6:.0f} MB" if file and arguments.server is None else "in PostgreSQL"
        print(f"{arguments.programs} programs, {size}, made in {time.perf_counter() - began:.0f} s")
        for what, query in QUESTIONS.items():
            ask(what, Path(folder), arguments.repeats, TARGET_MS, partial(search, query))
        last = name(arguments.programs)
        ask("show by id", Path(folder), arguments.repeats, BY_ID_TARGET_MS, partial(show, last[:8]))
        ask("show by number", Path(folder), arguments.repeats, BY_ID_TARGET_MS, partial(show, "17"))
        for what, number in (("the first", 1), ("the last", arguments.programs)):
            ask(f"family of {what}", Path(folder), arguments.repeats, TARGET_MS, partial(kin, number))


if __name__ == "__main__":
    main()
