"""How fast checkpoints are merged, against mergekit in the same run. `python -m benchmarks.speed.apply FOLDER [--mergekit MERGEKIT-YAML]`

Makes a base and three experts of a Llama's shape in FOLDER (random bfloat16, two shards each; kept for the next run) and times, each in a
process of its own, inputs in the page cache:

- `floor`: read the four inputs and write as many bytes as the output has, no fsync;
- `mergewright apply`, with the output's hashes;
- `mergekit-yaml` with the same method, if its program is given (a virtual environment of its own);
- with `--sandboxed`, Task Arithmetic as a program that the library does not know, so that it runs in a sandbox.

Before each of them the inputs are read once, so that all find them in the cache; with `--cold` they are dropped from it instead. Prints
seconds, peak memory (as GNU time reports it: the most that was resident) and ratios, of which each is of two runs one after the other.
Some 16 GB of disk for the default size. A busy machine shows in the spread: measure on an idle one.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from merges import library

SIZES = {
    "0.1": {"hidden": 768, "layers": 12, "inner": 2048, "heads": 12, "kv": 4},
    "0.3": {"hidden": 1024, "layers": 22, "inner": 2816, "heads": 16, "kv": 4},
    "1.1": {"hidden": 2048, "layers": 22, "inner": 5632, "heads": 32, "kv": 4},
    "3": {"hidden": 3072, "layers": 28, "inner": 8192, "heads": 24, "kv": 8},
}
"""Billions of parameters -> shape; 1.1 is TinyLlama's."""

VOCABULARY = 32_000
EXPERTS = 3
SHARDS = 2
METHODS = {
    "task_arithmetic": ({"scale": 0.4}, {"weight": 0.4}, {}),
    "ties": ({"density": 0.5, "scale": 1.0}, {"weight": 1.0, "density": 0.5}, {"normalize": True}),
}
"""Method -> our hyper-parameters, mergekit's for each model, mergekit's for all."""

CHUNK = 8 * 1024 * 1024


def shapes(size: str) -> dict[str, tuple[int, ...]]:
    """Parameter name -> shape."""
    s = SIZES[size]
    hidden, inner, kv = s["hidden"], s["inner"], s["hidden"] // s["heads"] * s["kv"]
    found: dict[str, tuple[int, ...]] = {
        "lm_head.weight": (VOCABULARY, hidden),
        "model.embed_tokens.weight": (VOCABULARY, hidden),
    }
    for layer in range(s["layers"]):
        place = f"model.layers.{layer}."
        found |= {
            f"{place}self_attn.{x}_proj.weight": (rows, hidden)
            for x, rows in (("q", hidden), ("k", kv), ("v", kv), ("o", hidden))
        }
        found |= {f"{place}mlp.{x}_proj.weight": (inner, hidden) for x in ("gate", "up")}
        found |= {f"{place}mlp.down_proj.weight": (hidden, inner)}
        found |= {f"{place}{x}_layernorm.weight": (hidden,) for x in ("input", "post_attention")}
    return {**found, "model.norm.weight": (hidden,)}


def make_model(folder: Path, size: str, number: int) -> None:
    """The base (number 0) or an expert near it, unless it is there."""
    if (folder / "config.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    s, table = SIZES[size], shapes(size)
    names = sorted(table)
    weight_map: dict[str, str] = {}
    for shard in range(SHARDS):
        part = names[shard * len(names) // SHARDS : (shard + 1) * len(names) // SHARDS]
        tensors = {}
        for name in part:
            generator = torch.Generator().manual_seed(hash_of(name))
            tensor = torch.randn(table[name], generator=generator).mul_(0.02)
            if number:
                generator.manual_seed(hash_of(f"{name} {number}"))
                tensor += torch.randn(table[name], generator=generator).mul_(0.002)
            tensors[name] = tensor.to(torch.bfloat16)
        file = f"model-{shard + 1:05d}-of-{SHARDS:05d}.safetensors"
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": s["hidden"], "intermediate_size": s["inner"],
              "num_hidden_layers": s["layers"], "num_attention_heads": s["heads"], "num_key_value_heads": s["kv"], "vocab_size": VOCABULARY,
              "torch_dtype": "bfloat16", "tie_word_embeddings": False, "rms_norm_eps": 1e-5}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))


def hash_of(text: str) -> int:
    """A number that is the same in every process."""
    return int.from_bytes(text.encode()[-7:], "little")


_SMALL = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - start, usage.ru_maxrss)
sys.exit(min(255, abs(os.waitstatus_to_exitcode(status))))
"""
"""Starts a command from a small process: the peak that the system counts for a command is at least that of the process which starts it."""


def timed(command: list[str]) -> tuple[float, int]:
    """Seconds and peak resident MB of a command."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", _SMALL, *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}: {done.stderr[-2000:]}")
    seconds, kilobytes = done.stdout.split()
    return float(seconds), int(kilobytes) // 1000


def floor(inputs: list[Path], out: Path) -> float:
    """Seconds to read the inputs' bytes and write the output's."""
    buffer = bytearray(CHUNK)
    start = time.perf_counter()
    for path in inputs:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    left = sum(path.stat().st_size for path in inputs[:SHARDS])
    with out.open("wb", buffering=0) as file:
        while left > 0:
            left -= file.write(memoryview(buffer)[: min(CHUNK, left)])
    seconds = time.perf_counter() - start
    out.unlink()
    return seconds


def mergekit_config(folder: Path, models: list[Path], method: str) -> Path:
    """The method as a mergekit YAML (which JSON is)."""
    _, each, common = METHODS[method]
    config = {"merge_method": method, "base_model": str(models[0]), "dtype": "bfloat16", "parameters": common,
              "models": [{"model": str(model), "parameters": each} for model in models[1:]]}  # fmt: skip
    path = folder / f"{method}.yaml"
    path.write_text(json.dumps(config))
    return path


def settle(inputs: list[Path], cold: bool) -> None:
    """Have what earlier runs wrote on the disk, and the inputs in the page cache, or out of it."""
    os.sync()
    buffer = bytearray(CHUNK)
    for path in inputs:
        with path.open("rb", buffering=0) as file:
            if cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while file.readinto(buffer):
                    pass


def apply_command(program: str, models: list[Path], out: Path, parameters: dict[str, float]) -> list[str]:
    """Our command line."""
    command = [
        str(Path(sys.executable).with_name("mergewright")),
        "apply",
        program,
        "--base",
        str(models[0]),
        "--out",
        str(out),
    ]
    command += [part for model in models[1:] for part in ("--expert", str(model))]
    return command + [part for name, value in parameters.items() for part in ("--param", f"{name}={value}")]


def spread(runs: list[tuple[float, int]]) -> str:
    """Median, every run, and the largest peak."""
    seconds = [s for s, _ in runs]
    return f"{statistics.median(seconds):.1f} s ({', '.join(f'{s:.1f}' for s in seconds)}), peak {max(m for _, m in runs)} MB"


def ratios(above: list[float], below: list[float]) -> str:
    """Median of the ratios of runs that followed each other, and each."""
    found = [a / b for a, b in zip(above, below, strict=True)]
    return f"{statistics.median(found):.2f} ({', '.join(f'{ratio:.2f}' for ratio in found)})"


def measure(given: argparse.Namespace, size: str, method: str) -> None:
    """Time one method at one size, and print."""
    folder = given.folder
    models = [folder / size / name for name in ("base", *(f"expert_{i}" for i in range(EXPERTS)))]
    inputs = [path for model in models for path in sorted(model.glob("*.safetensors"))]
    out, extra = folder / "out", ["--max-memory", given.max_memory] if given.max_memory else []
    commands = {"ours": apply_command(method, models, out, METHODS[method][0]) + extra}
    if given.mergekit:
        commands["mergekit"] = [str(given.mergekit), str(mergekit_config(folder, models, method)), str(out)]
    if given.sandboxed and method == "task_arithmetic":
        program = folder / "sandboxed.py"
        program.write_text(library.source(method).replace("merged", "total"))
        commands["sandboxed"] = [
            *apply_command(str(program), models, out, METHODS[method][0]),
            "--timeout",
            "600",
            *extra,
        ]
    runs: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
    floors: list[float] = []
    for _ in range(given.repeats):
        settle(inputs, given.cold)
        floors.append(floor(inputs, folder / "floor"))
        for name, command in commands.items():
            settle(inputs, given.cold)
            runs[name].append(timed(command))
            shutil.rmtree(out)
    ours = [s for s, _ in runs["ours"]]
    print(f"{size} B, {method}: {spread(runs['ours'])}")
    print(
        f"  floor {statistics.median(floors):.1f} s ({', '.join(f'{s:.1f}' for s in floors)}); ours / floor {ratios(ours, floors)}"
    )
    for name in list(commands)[1:]:
        print(f"  {name}: {spread(runs[name])}; {name} / ours {ratios([s for s, _ in runs[name]], ours)}", flush=True)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.apply",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mergekit", type=Path, help="path of mergekit-yaml")
    parser.add_argument("--sandboxed", action="store_true", help="task arithmetic in a sandbox too")
    parser.add_argument("--size", nargs="+", choices=SIZES, default=["1.1"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="inputs not in the page cache")
    parser.add_argument("--max-memory", help="passed on to apply")
    given = parser.parse_args()
    shutil.rmtree(given.folder / "out", ignore_errors=True)
    for size in given.size:
        models = [given.folder / size / name for name in ("base", *(f"expert_{i}" for i in range(EXPERTS)))]
        for number, model in enumerate(models):
            make_model(model, size, number)
        stored = sum(path.stat().st_size for path in models[0].glob("*.safetensors"))
        print(
            f"{EXPERTS + 1} checkpoints of {stored / 1e9:.2f} GB in bfloat16, {len(os.sched_getaffinity(0))} cores, cache {'cold' if given.cold else 'warm'}"
        )
        for method in given.methods:
            measure(given, size, method)


if __name__ == "__main__":
    main()
