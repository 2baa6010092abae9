"""How fast models are scored, against what people do now, in the same run. `python -m benchmarks.speed.scoring [MODEL] [--benchmark gsm8k --data PATH …]`

Without MODEL: a randomly initialised Llama of the pocket models' size and 200 prompts of 45 words, every answer 30 tokens long. With a folder: the dev problems of
the benchmark (default: pocket, 200), answers as they come. Prints medians of the repeats in seconds, and ratios:

- `evaluator` against `generate`: `TransformersEvaluator.answer`, and transformers' own batched `generate`, all prompts of a batch to the end of the longest answer;
- `swap` against `copy`: all weights overwritten, and as many bytes copied and nothing else;
- `prefix` (with worked examples in the prompt): the same answers with the shared part read once, and read for every prompt;
- `--usual N`: candidates per hour, N candidates each way: ours (swap, answer, judge, racing left out) against the usual way: save the merged model as a folder,
  start a process, load it with transformers, generate, judge.

A busy machine shows in the spread, which is printed too: measure on an idle one.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks import evaluators
from benchmarks.benchmark import load_benchmark
from benchmarks.decoding import Stop, shared_prefix
from benchmarks.evaluators import TransformersEvaluator
from benchmarks.scores import judge, score
from benchmarks.suite import Part, Suite

PROBLEMS = 200
NEW_TOKENS = 30
TARGET_SECONDS = 0.6
TARGET_SWAP_SECONDS = 0.005
TARGET_SWAP_RATIO = 1.2
SMALL_BYTES = 50_000_000
"""Models below are held to the seconds of a swap, larger ones to its ratio."""


@dataclass(frozen=True)
class Work:
    """What is timed. `suite`: None where the prompts are random words, which nobody can judge."""

    folder: Path
    prompts: Sequence[str]
    stop: Stop
    new_tokens: int
    threads: int
    batch: int
    dtype: torch.dtype
    suite: Suite | None = None


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


GENERATE = """\
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
job = json.load(sys.stdin)
torch.set_num_threads(job["threads"])
tokenizer = AutoTokenizer.from_pretrained(job["folder"], padding_side="left")
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(job["folder"], dtype=job["dtype"]).eval()
def run():
    texts = []
    order = sorted(range(len(job["prompts"])), key=lambda at: -len(job["prompts"][at]))
    for start in range(0, len(order), job["batch"]):
        batch = tokenizer([job["prompts"][at] for at in order[start : start + job["batch"]]], return_tensors="pt", padding=True)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=job["new_tokens"], do_sample=False,
                             tokenizer=tokenizer, stop_strings=job["stop"] or None)
        texts += tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
    return [text for _, text in sorted(zip(order, texts))]
"""
"""What one would write without this package: batches sorted by length, stop strings, greedy."""


def job_of(work: Work, folder: Path) -> dict[str, Any]:
    """What GENERATE reads."""
    return {
        "folder": str(folder),
        "threads": work.threads,
        "dtype": str(work.dtype).removeprefix("torch."),
        "prompts": list(work.prompts),
        "batch": min(len(work.prompts), work.batch * work.threads),
        "new_tokens": work.new_tokens,
        "stop": list(work.stop.strings),
    }


def plain_generate(work: Work) -> Callable[[], list[str]]:
    """GENERATE in this process, its model loaded."""
    import io

    names: dict[str, Any] = {}
    stdin, sys.stdin = sys.stdin, io.StringIO(json.dumps(job_of(work, work.folder)))
    try:
        exec(GENERATE, names)
    finally:
        sys.stdin = stdin
    run: Callable[[], list[str]] = names["run"]
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


def verdict(met: bool) -> str:
    """As printed."""
    return "met" if met else "MISSED"


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    """All weights of a folder, in float32 as a merge gives them."""
    from safetensors.torch import load_file

    return {
        name: tensor.float()
        for file in sorted(folder.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def time_answers(evaluator: TransformersEvaluator, work: Work, repeats: int) -> None:
    """All prompts answered, ours and theirs."""

    def answer() -> list[str]:
        return evaluator.answer(work.prompts, max_new_tokens=work.new_tokens, stop=work.stop)

    ours = timed("evaluator", answer, repeats)
    theirs_of = plain_generate(work)
    theirs = timed("generate", theirs_of, max(1, repeats // 2))
    equal = sum(a == work.stop.cut(b) for a, b in zip(answer(), theirs_of(), strict=True))
    print(f"evaluator is {theirs / ours:.2f} x as fast; {equal} of {len(work.prompts)} answers equal")
    if work.suite is not None and work.suite.parts[0].label == "pocket":
        print(f"target {TARGET_SECONDS} s: {verdict(ours <= TARGET_SECONDS)}")


def time_swap(evaluator: TransformersEvaluator, work: Work, repeats: int) -> None:
    """Overwrites all weights in the resident dtype, and copies as many bytes."""
    tensors = {name: tensor.to(work.dtype) for name, tensor in tensors_of(work.folder).items()}
    joined = torch.cat([tensor.flatten() for tensor in tensors.values()])
    target = torch.empty_like(joined)
    torch.set_num_threads(work.threads)
    swap = timed("swap, all weights", lambda: evaluator.swap(tensors), repeats)
    copy = timed("copy of as many bytes", lambda: target.copy_(joined), repeats)
    small = joined.nbytes < SMALL_BYTES
    met = swap <= TARGET_SWAP_SECONDS if small else swap / copy <= TARGET_SWAP_RATIO
    target_text = f"{TARGET_SWAP_SECONDS} s" if small else f"ratio {TARGET_SWAP_RATIO}"
    print(f"swap / copy: {swap / copy:.2f}; target {target_text}: {verdict(met)}")
    evaluator.restore()


def time_prefix(evaluator: TransformersEvaluator, work: Work, repeats: int) -> None:
    """The same prompts with the shared worked examples read once, and read in every prompt."""

    def answer() -> list[str]:
        return evaluator.answer(work.prompts, max_new_tokens=work.new_tokens, stop=work.stop)

    once = timed("prefix read once", answer, repeats)
    with mock.patch.object(evaluators, "shared_prefix", return_value=0):
        every = timed("prefix read every time", answer, repeats)
    print(f"shared prefix: {every / once:.2f} x as fast")


def time_usual_way(evaluator: TransformersEvaluator, work: Work, count: int, aim: float | None) -> None:
    """Candidates per hour both ways, turn about, each candidate with weights of its own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    suite = work.suite
    assert suite is not None
    base = tensors_of(work.folder)
    ours, theirs, equal = [], [], 0
    for number in range(count):
        merged = {name: (tensor * (1 + 0.001 * number)).to(torch.bfloat16) for name, tensor in base.items()}
        start = time.perf_counter()
        evaluator.swap(merged)
        mine = score(evaluator, suite)
        ours.append(time.perf_counter() - start)
        model = AutoModelForCausalLM.from_pretrained(str(work.folder), dtype=torch.bfloat16)
        model.load_state_dict(merged, strict=False)
        with tempfile.TemporaryDirectory() as scratch:
            start = time.perf_counter()
            model.save_pretrained(scratch)
            AutoTokenizer.from_pretrained(str(work.folder)).save_pretrained(scratch)
            script = GENERATE + "json.dump(run(), sys.stdout)\n"
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", script],
                input=json.dumps(job_of(work, Path(scratch))),
                capture_output=True,
                text=True,
                check=True,
            )
            texts = [work.stop.cut(text) for text in json.loads(done.stdout.splitlines()[-1])]
            other = judge(texts, suite)
            theirs.append(time.perf_counter() - start)
        equal += mine.bits == other.bits
        print(f"candidate {number + 1}: ours {ours[-1]:.2f} s, usual {theirs[-1]:.2f} s", flush=True)
    ratio = statistics.median(theirs) / statistics.median(ours)
    rates = [3600 / statistics.median(seconds) for seconds in (ours, theirs)]
    print(
        f"candidates per hour: ours {rates[0]:.0f}, usual {rates[1]:.0f}: {ratio:.1f} x; {equal} of {count} with equal bits"
    )
    if aim is not None:
        print(f"target {aim:g} x: {verdict(ratio >= aim)}")
    evaluator.restore()


def work_of(arguments: argparse.Namespace, scratch: Path) -> Work:
    """From the command line."""
    shared = {"threads": arguments.threads, "batch": arguments.batch_size, "dtype": getattr(torch, arguments.dtype)}
    if arguments.model is None:
        return Work(random_model(scratch), random_prompts(), Stop(), NEW_TOKENS, **shared)
    benchmark = load_benchmark(
        arguments.benchmark, data=arguments.data, shots=arguments.shots, max_new_tokens=arguments.max_new_tokens
    )
    suite = Suite([Part(benchmark, benchmark.problems("dev")[: arguments.limit])])
    prompts = [str(item.prompt) for item in suite.items]
    return Work(arguments.model, prompts, benchmark.stop, benchmark.max_new_tokens, **shared, suite=suite)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.scoring", description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, help="a model's folder; default: a random one of pocket size")
    parser.add_argument("--benchmark", default="pocket")
    parser.add_argument("--data")
    parser.add_argument("--shots", type=int)
    parser.add_argument("--max-new-tokens", type=int)
    parser.add_argument("--limit", type=int, default=PROBLEMS)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--batch-size", type=int, default=PROBLEMS // 2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--usual", type=int, default=0, metavar="N", help="compare N candidates with the usual way")
    parser.add_argument("--aim", type=float, help="of --usual, times as many candidates per hour")
    arguments = parser.parse_args()
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as scratch:
        work = work_of(arguments, Path(scratch))
        evaluator = TransformersEvaluator(work.folder, threads=work.threads, batch_size=work.batch, dtype=work.dtype)
        print(
            f"{len(work.prompts)} prompts, up to {work.new_tokens} new tokens, {work.threads} threads, {arguments.dtype}"
        )
        time_answers(evaluator, work, arguments.repeats)
        time_swap(evaluator, work, 20)
        if shared_prefix(AutoTokenizer.from_pretrained(str(work.folder))(list(work.prompts))["input_ids"]):
            time_prefix(evaluator, work, max(1, arguments.repeats // 2))
        if arguments.usual:
            time_usual_way(evaluator, work, arguments.usual, arguments.aim)
        evaluator.close()


if __name__ == "__main__":
    main()
