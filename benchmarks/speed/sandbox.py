"""What a candidate costs beyond its arithmetic. `python -m benchmarks.speed.sandbox [--candidates N]`

One candidate is Task Arithmetic over all tensors of the pocket models (three experts), from the program's text to the merged tensors:
validate, fork, map, lock, compile, run, reap, read. Beside it, in the same run:

- `import torch` in a fresh interpreter, which is what a process per candidate costs without a warm zygote;
- the same arithmetic in this process, to which the sandbox's own is compared as a ratio;
- two workers, each with a sandbox of its own, for throughput;
- growth of memory and descriptors, of the zygote and of this process, over N candidates of five kinds (fine, failing, refused, forbidden system call,
  too much memory).

A busy machine shows in the spread: measure on an idle one.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sandbox import Limits, PackedJobs, Sandbox, TensorJob

TARGET_MS = (25.0, 60.0)
TARGET_OVERHEAD = 0.02
DATA = Path(__file__).parents[2] / "data" / "pocket"
TASK_ARITHMETIC = "def merge_models(model_dict, device, *, scale=0.4):\n    return scale * sum(model_dict.values())\n"
HEAVY = "import torch\ndef merge_models(m, d):\n    y = torch.stack(list(m.values()))\n    for i in range({rounds}):\n        y = torch.tanh(y) + y\n    return y.sum(dim=0) * 0.1\n"
KINDS = (
    TASK_ARITHMETIC,
    "def merge_models(m, d):\n    return 1 / 0\n",
    "def merge_models(m, d):\n    return open('x')\n",
    "def merge_models(m, d):\n    return [0] * (1 << 40)\n",
    "def merge_models(m, d):\n    return list(m.values())[0][:1]\n",
)


def pocket_jobs() -> list[TensorJob]:
    """The task vectors of the three experts, all tensors."""
    seed = load_file(DATA / "seed" / "model.safetensors")
    experts = {letter: load_file(DATA / f"expert_{letter}" / "model.safetensors") for letter in "abc"}
    return [
        TensorJob(name, 0.5, {e: (tensors[name].float() - base.float()) for e, tensors in experts.items()}, None, 1)
        for name, base in seed.items()
    ]


def share(values: list[float], part: float) -> float:
    """The value below which `part` of them lie."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


def latency(sandbox: Sandbox, packed: PackedJobs, count: int) -> list[float]:
    """Milliseconds of `count` candidates, one after the other."""
    seconds = []
    for _ in range(count):
        start = time.perf_counter()
        result = sandbox.execute(TASK_ARITHMETIC, packed)
        seconds.append(1000 * (time.perf_counter() - start))
        assert result.ok, result.detail
    return seconds


def cold_import(repeats: int) -> float:
    """Median milliseconds of `python -c "import torch"`."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch"], check=True)
        seconds.append(1000 * (time.perf_counter() - start))
    return statistics.median(seconds)


def overhead(limits: Limits, repeats: int) -> tuple[float, float]:
    """Median seconds of the same arithmetic here and in the sandbox: the difference of a long and a short program, so that what a program
    costs before its first operation (pages touched for the first time among it) is in neither."""
    generator = torch.Generator().manual_seed(0)
    job = TensorJob("w", 0.5, {m: torch.randn(1024, 1024, generator=generator) for m in "abc"}, None, 1)
    short, long = HEAVY.format(rounds=20), HEAVY.format(rounds=120)

    def plain(source: str) -> None:
        namespace: dict[str, Any] = {}
        exec(source, namespace)
        namespace["merge_models"](dict(job.vectors), torch.device("cpu"))

    def seconds(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    with Sandbox(limits) as sandbox, sandbox.pack([job]) as packed:
        runs: dict[str, list[float]] = {"here short": [], "here long": [], "there short": [], "there long": []}
        for _ in range(repeats):  # in turns: the machine's speed drifts
            runs["here short"].append(seconds(lambda: plain(short)))
            runs["there short"].append(seconds(lambda: sandbox.execute(short, packed)))
            runs["here long"].append(seconds(lambda: plain(long)))
            runs["there long"].append(seconds(lambda: sandbox.execute(long, packed)))
    median = {name: statistics.median(values) for name, values in runs.items()}
    return median["here long"] - median["here short"], median["there long"] - median["there short"]


def throughput(jobs: list[TensorJob], workers: int, count: int) -> float:
    """Candidates a second, `workers` sandboxes at once."""
    boxes = [Sandbox() for _ in range(workers)]
    packs = [box.pack(jobs) for box in boxes]
    for box, packed in zip(boxes, packs, strict=True):
        latency(box, packed, 3)
    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda pair: latency(pair[0], pair[1], count), zip(boxes, packs, strict=True)))
    seconds = time.perf_counter() - start
    for box, packed in zip(boxes, packs, strict=True):
        packed.close()
        box.close()
    return workers * count / seconds


def footprint(sandbox: Sandbox) -> tuple[int, int, int, int]:
    """Resident KiB and open descriptors of this process and of the zygote."""
    assert sandbox._zygote is not None
    launcher = sandbox._zygote._process.pid
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    zygote = Path(f"/proc/{children[0] if children else launcher}")
    page = os.sysconf("SC_PAGE_SIZE") // 1024
    figures = []
    for process in (Path("/proc/self"), zygote):
        resident = int((process / "statm").read_text().split()[1]) * page
        try:
            descriptors = len(os.listdir(process / "fd"))
        except OSError:  # another user namespace's
            descriptors = -1
        figures += [resident, descriptors]
    return figures[0], figures[1], figures[2], figures[3]


def growth(jobs: list[TensorJob], count: int) -> None:
    """Prints footprints along `count` candidates."""
    with Sandbox(Limits(memory_bytes=256 << 20)) as sandbox, sandbox.pack(jobs[:4]) as packed:
        for number in range(count + 1):
            sandbox.execute(KINDS[number % len(KINDS)], packed)
            if number % max(1, count // 5) == 0 or number == 50:
                ours, our_fds, zygotes, zygote_fds = footprint(sandbox)
                print(
                    f"after {number:6d}: this process {ours:8d} KiB, {our_fds} descriptors; zygote {zygotes:8d} KiB, {zygote_fds} descriptors",
                    flush=True,
                )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.sandbox", description=__doc__)
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--candidates", type=int, default=10_000, help="for the growth of memory and descriptors")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    jobs = pocket_jobs()
    print(f"{len(jobs)} tensors, {sum(next(iter(job.vectors.values())).numel() for job in jobs)} parameters, 3 experts")
    with Sandbox() as sandbox, sandbox.pack(jobs) as packed:
        print(f"isolation {sandbox.isolation.level}: {', '.join(sandbox.isolation.layers)}")
        latency(sandbox, packed, 20)
        found = latency(sandbox, packed, arguments.repeats)
        plain = []
        for _ in range(50):
            start = time.perf_counter()
            for job in jobs:
                0.4 * sum(job.vectors.values())
            plain.append(1000 * (time.perf_counter() - start))
    p50, p99 = share(found, 0.5), share(found, 0.99)
    print(f"candidate                 p50 {p50:7.1f} ms, p99 {p99:7.1f} ms, max {max(found):.1f} (n = {len(found)})")
    print(f"  of it the arithmetic    {statistics.median(plain):7.1f} ms here")
    cold = cold_import(5)
    print(f"cold import of torch      {cold:7.0f} ms; {cold / p50:.0f} x a candidate")
    print(
        f"target p50 {TARGET_MS[0]:g}, p99 {TARGET_MS[1]:g} ms: {'met' if (p50 <= TARGET_MS[0] and p99 <= TARGET_MS[1]) else 'MISSED'}"
    )
    for workers in (1, 2):
        print(
            f"throughput, {workers} worker(s)   {throughput(jobs, workers, arguments.repeats // 2):7.1f} candidates/s"
        )
    here, there = overhead(Limits(wall_seconds=60, cpu_seconds=60), 9)
    print(
        f"arithmetic, 1 M values    {1000 * here:7.1f} ms here, {1000 * there:7.1f} ms inside: {100 * (there / here - 1):+.1f} %"
    )
    print(f"target overhead {100 * TARGET_OVERHEAD:g} %: {'met' if there / here - 1 <= TARGET_OVERHEAD else 'MISSED'}")
    growth(jobs, arguments.candidates)


if __name__ == "__main__":
    main()
