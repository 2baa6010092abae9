"""How fast a model is scored, against plain transformers in the same run. `python -m benchmarks.speed.scoring [MODEL]`

Without MODEL: a randomly initialised Llama of the pocket models' size and 200 prompts of 45 words, every answer 30 tokens
long. With a folder: the pocket dev set, answers as they come. Prints the median of the repeats in seconds:

- `evaluator`: `TransformersEvaluator.answer` with one batch per thread;
- `generate`: transformers' own batched `generate`, all prompts at once, two threads in each product;
- `swap`: all weights overwritten; `copy`: the same bytes copied and nothing else.

A busy machine shows in the spread, which is printed too: measure on an idle one.
"""

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.benchmark import load_benchmark
from benchmarks.decoding import Stop
from benchmarks.evaluators import TransformersEvaluator

PROBLEMS = 200
NEW_TOKENS = 30
TARGET_SECONDS = 0.6


def random_model(folder: Path) -> Path:
    """A Llama of 1.8 M parameters with a 250-word tokenizer; its end token is never the likeliest."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = ["<pad>", "<eos>", *(f"w{i}" for i in range(248))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>").save_pretrained(
        str(folder)
    )
    config = LlamaConfig(
        vocab_size=250,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.1,
        eos_token_id=1,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.get_input_embeddings().weight[:2] = 0  # Tied: these two never have the greatest logit.
    model.save_pretrained(str(folder))
    return folder


def random_prompts() -> list[str]:
    """PROBLEMS prompts of 32 to 58 words."""
    rng = random.Random(0)
    return [" ".join(f"w{rng.randrange(248)}" for _ in range(rng.randint(32, 58))) for _ in range(PROBLEMS)]


def plain_generate(folder: Path, prompts: list[str], new_tokens: int, threads: int) -> Callable[[], list[str]]:
    """What one would write without this package."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()

    def run() -> list[str]:
        torch.set_num_threads(threads)
        batch = tokenizer(prompts, return_tensors="pt", padding=True)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        out = model.generate(ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False)
        texts: list[str] = tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        return texts

    return run


def timed(label: str, work: Callable[[], Any], repeats: int) -> float:
    """Median seconds of `repeats` runs after one that does not count; prints them."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    print(f"{label:<28}{median:9.4f} s   (min {min(seconds):.4f}, max {max(seconds):.4f})", flush=True)
    return median


def time_swap(evaluator: TransformersEvaluator, folder: Path, repeats: int) -> None:
    """Overwrites all weights, and copies as many bytes."""
    from safetensors.torch import load_file

    tensors = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    joined = torch.cat([tensor.flatten() for tensor in tensors.values()])
    target = torch.empty_like(joined)
    torch.set_num_threads(1)
    swap = timed("swap, all weights", lambda: evaluator.swap(tensors), repeats)
    copy = timed("copy of as many bytes", lambda: target.copy_(joined), repeats)
    print(f"swap / copy: {swap / copy:.2f}")
    evaluator.restore()


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.scoring", description=__doc__)
    parser.add_argument(
        "model", nargs="?", type=Path, help="a pocket model's folder; default: a random one of that size"
    )
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--batch-size", type=int, default=PROBLEMS // 2)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.model or random_model(Path(scratch))
        if arguments.model:
            benchmark = load_benchmark("pocket")
            prompts = [str(benchmark.prompt(problem)) for problem in benchmark.problems("dev")]
            stop, new_tokens = benchmark.stop, benchmark.max_new_tokens
        else:
            prompts, stop, new_tokens = random_prompts(), Stop(), NEW_TOKENS
        evaluator = TransformersEvaluator(folder, threads=arguments.threads, batch_size=arguments.batch_size)
        print(f"{len(prompts)} prompts, up to {new_tokens} new tokens, {arguments.threads} threads, float32")
        ours = timed(
            "evaluator", lambda: evaluator.answer(prompts, max_new_tokens=new_tokens, stop=stop), arguments.repeats
        )
        theirs_of = plain_generate(folder, prompts, new_tokens, arguments.threads)
        theirs = timed("generate", theirs_of, max(3, arguments.repeats // 2))
        answers = evaluator.answer(prompts, max_new_tokens=new_tokens, stop=stop)
        equal = sum(a == stop.cut(b) for a, b in zip(answers, theirs_of(), strict=True))
        print(f"evaluator is {theirs / ours:.2f} x as fast; {equal} of {len(prompts)} answers equal")
        print(f"target {TARGET_SECONDS} s: {'met' if ours <= TARGET_SECONDS else 'MISSED'}")
        time_swap(evaluator, folder, 20)
        evaluator.close()


if __name__ == "__main__":
    main()
