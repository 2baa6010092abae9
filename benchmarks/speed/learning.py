"""How fast a generator writes and learns, against the usual way, in the same run. `python -m benchmarks.speed.learning --archive RUN/archive.db`

Of the pocket generator, with the machine to itself:

- `write`: 200 programs with the fixed prompt, in batches of 50, against transformers' own `generate` on the same batches;
- `update`: one DPO update on the first iteration of a real campaign's archive, as the pocket campaign does it: pairs, training, gate;
- `swap`: a trained version taken over by the resident model, against loading it anew with transformers; plain weights, and an adapter;
- `memory`: peak resident bytes before the update and after it.

Targets: 200 programs in 20 s, an update in 60 s, gate included.
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch

from engine import locations
from engine.bench import Bench
from engine.config import CampaignConfig
from engine.config_file import load_config
from engine.generators import LanguageModelGenerator, ResidentModel
from engine.hashing import derived_seed
from engine.learning import Past, Update, method_named
from engine.learning.student import Student
from engine.quiet import quiet_libraries
from engine.records import Sampling, Task
from engine.store import Store

PROGRAMS = 200
TARGET_WRITE_SECONDS = 20.0
TARGET_UPDATE_SECONDS = 60.0


def timed(work: Callable[[], object], repeats: int) -> str:
    """Median and range of some repeats, in seconds."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return f"{statistics.median(seconds):.3f} s ({min(seconds):.3f} – {max(seconds):.3f}, {repeats} times)"


def write(generator: LanguageModelGenerator, config: CampaignConfig) -> None:
    """Batch by batch as in a campaign, with all threads, as there is nothing to score meanwhile."""
    size = config.generator.batch
    for batch in range(PROGRAMS // size):
        places = [Sampling(1.0, 1.0, derived_seed("speed", batch, row), batch, row) for row in range(size)]
        generator.write(places, [Task()] * size)


def write_usually(generator: LanguageModelGenerator, config: CampaignConfig) -> None:
    """By `generate`, from its global generator."""
    tokenizer, model = generator.resident.tokenizer, generator.resident.model
    prompt = generator.forms.prompt(Task())
    for _ in range(PROGRAMS // config.generator.batch):
        ids = tokenizer([prompt] * config.generator.batch, return_tensors="pt", add_special_tokens=False)
        model.generate(**ids, do_sample=True, temperature=1.0, top_k=0, max_new_tokens=config.generator.max_new_tokens)


def peak_mb() -> float:
    """Peak resident memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def swaps(folder: str, previous: str, repeats: int) -> None:
    """A version taken over, against a model loaded."""
    from transformers import AutoModelForCausalLM

    resident = ResidentModel(previous)
    resident.adopt(folder)

    def back_and_forth() -> None:
        resident.adopt(previous)
        resident.adopt(folder)

    print(f"swap: two versions taken over {timed(back_and_forth, repeats)}")
    if (Path(folder) / "config.json").is_file():
        usual = timed(lambda: AutoModelForCausalLM.from_pretrained(folder, dtype="float32"), repeats)
        print(f"  one loaded anew {usual}")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--archive",
        type=Path,
        required=True,
        help="archive.db of a pocket campaign; its first iteration is learnt from",
    )
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    quiet_libraries()
    config, shipped = load_config(locations.campaign_file("pocket")), locations.model("pocket/generator")
    generator = LanguageModelGenerator(shipped, config.generator)
    torch.set_num_threads(2)
    print(
        f"write, ours: {timed(lambda: write(generator, config), arguments.repeats)}, target {TARGET_WRITE_SECONDS:g} s"
    )
    print(f"write, generate: {timed(lambda: write_usually(generator, config), arguments.repeats)}")
    with closing(Store(f"sqlite:///{arguments.archive}")) as store, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "generators").mkdir()
        with Bench(config) as bench:
            before = peak_mb()
            update = Update(bench, generator, folder, store)
            print(
                f"update with its gate: {timed(lambda: update.run(1, shipped), 1)}, target {TARGET_UPDATE_SECONDS:g} s"
            )
            print(f"memory: peak {before:.0f} MB before the first update, {peak_mb():.0f} MB after it")
        if (folder / "generators" / "1").is_dir():
            swaps(str(folder / "generators" / "1"), shipped, arguments.repeats)
        else:
            print("swap: none, the gate took the update back")
        section = config.learn.model_copy(update={"keep_as": "adapter"})
        resident = ResidentModel(shipped)
        student = Student(resident, section, previous=shipped, start="previous", folder=folder)
        student.begin()
        past = Past({1: store.candidates(1)}, generator.forms.prompt(Task()))
        for lesson in method_named("dpo").lessons(past, config, generator):
            student.train(lesson, rate=section.learning_rate, seed=1)
        student.keep(folder / "adapter")
        swaps(str(folder / "adapter"), shipped, arguments.repeats)


if __name__ == "__main__":
    main()
