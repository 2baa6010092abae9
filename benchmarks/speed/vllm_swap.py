"""How fast vLLM takes other weights, and how fast it answers. `python -m benchmarks.speed.vllm_swap --python PYTHON [MODEL]`

PYTHON is that of an environment with vLLM. Without MODEL: the pocket seed and its dev set. With a folder: the same questions asked
as GSM8K's are, with five worked examples, so that nine tenths of each prompt are the same. Prints medians in seconds:

- `load`: once, from the start of the process to the proof that its weights can be overwritten;
- `swap`: of all weights, of the layers' MLPs, of one matrix;
- `copy`: the bytes of all weights copied from memory to memory and nothing else;
- problems per second, once vLLM, once `TransformersEvaluator` with as many threads, in the same run, and how many answers are equal.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.benchmark import Benchmark, load_benchmark
from benchmarks.evaluators import Evaluator, Prompt, TransformersEvaluator
from benchmarks.model_folder import ModelFolder
from benchmarks.speed.scoring import timed
from benchmarks.vllm_evaluator import VLLMEvaluator
from benchmarks.vllm_process import VLLMSettings

POCKET = Path(__file__).parents[2] / "data" / "pocket"


def time_swaps(evaluator: Evaluator, folder: ModelFolder, dtype: torch.dtype, repeats: int) -> None:
    """Swaps of three sizes, and a copy of as many bytes as the largest."""
    own = {name: folder[name].to(dtype) for name in folder.shapes}
    layers = [name for name in own if ".mlp." in name]
    sets = {"all weights": own, "the MLPs": {n: own[n] for n in layers}, "one matrix": {layers[0]: own[layers[0]]}}
    whole = sum(tensor.nbytes for tensor in own.values())
    source, target = torch.ones(whole, dtype=torch.uint8), torch.empty(whole, dtype=torch.uint8)
    torch.set_num_threads(1)
    copy = timed("copy of as many bytes", lambda: target.copy_(source), repeats)
    for label, tensors in sets.items():
        # The first run does not count: in it the weights of the set before become the base's again.
        seconds = timed(f"swap, {label}", partial(evaluator.swap, tensors), repeats)
        share = sum(tensor.nbytes for tensor in tensors.values()) / whole
        print(f"  {100 * share:.1f} % of {whole / 1e6:.1f} MB; {seconds / (copy * share):.1f} x the copy of its bytes")
    evaluator.restore()


def time_answers(
    label: str, evaluator: Evaluator, prompts: list[Prompt], benchmark: Benchmark, repeats: int
) -> list[str]:
    """Problems per second, and the answers."""

    def ask() -> list[str]:
        return evaluator.answer(prompts, max_new_tokens=benchmark.max_new_tokens, stop=benchmark.stop)

    seconds = timed(label, ask, repeats)
    print(f"  {len(prompts) / seconds:.1f} problems per second")
    return ask()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.vllm_swap", description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, default=POCKET / "seed", help="a model's folder")
    parser.add_argument("--python", required=True, help="Python of an environment that has vLLM")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", type=float, default=2.0, help="GiB for vLLM's cache on a CPU, or share of a GPU")
    parser.add_argument("--limit", type=int, default=200, help="problems")
    parser.add_argument("--new-tokens", type=int, default=None, help="longest answer")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.model == POCKET / "seed":
        benchmark = load_benchmark("pocket", max_new_tokens=arguments.new_tokens)
    else:
        benchmark = load_benchmark("jsonl", data=POCKET / "dev.jsonl", max_new_tokens=arguments.new_tokens)
    prompts = [benchmark.prompt(problem) for problem in benchmark.problems("dev")[: arguments.limit]]
    dtype = getattr(torch, arguments.dtype)
    settings = VLLMSettings(python=arguments.python, memory=arguments.memory, threads=arguments.threads)
    print(
        f"{len(prompts)} prompts, up to {benchmark.max_new_tokens} new tokens, {arguments.dtype}, {arguments.threads} threads"
    )
    start = time.perf_counter()
    vllm = VLLMEvaluator(arguments.model, dtype=dtype, settings=settings)
    print(f"{'load':<28}{time.perf_counter() - start:9.4f} s")
    try:
        time_swaps(vllm, ModelFolder(arguments.model), dtype, arguments.repeats)
        ours = time_answers("vLLM", vllm, prompts, benchmark, arguments.repeats)
    finally:
        vllm.close()
    transformers = TransformersEvaluator(arguments.model, dtype=dtype, threads=arguments.threads)
    theirs = time_answers("TransformersEvaluator", transformers, prompts, benchmark, arguments.repeats)
    print(f"{sum(a == b for a, b in zip(ours, theirs, strict=True))} of {len(prompts)} answers equal")
    transformers.close()


if __name__ == "__main__":
    main()
