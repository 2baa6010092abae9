"""Problem sets, answer checking, evaluators and the statistics of scores. Imports none of the other packages."""

from benchmarks.benchmark import Benchmark, load_benchmark
from benchmarks.decoding import Stop
from benchmarks.errors import (
    BenchmarkError,
    BenchmarkUserError,
    DeviceError,
    ModelFolderError,
    ProblemFileError,
    PromptTooLongError,
    SwapError,
    UnknownBenchmarkError,
)
from benchmarks.evaluators import Chat, Evaluator, Prompt, ScriptedEvaluator, TransformersEvaluator
from benchmarks.problems import Problem, load_jsonl, refuse_overlap
from benchmarks.scores import ItemBits, Score, judge, score
from benchmarks.statistics import (
    Interval,
    PairedDifference,
    mcnemar,
    paired_difference,
    simultaneous_intervals,
    wilson,
)

__all__ = [
    "Benchmark",
    "BenchmarkError",
    "BenchmarkUserError",
    "Chat",
    "DeviceError",
    "Evaluator",
    "Interval",
    "ItemBits",
    "ModelFolderError",
    "PairedDifference",
    "Problem",
    "ProblemFileError",
    "Prompt",
    "PromptTooLongError",
    "Score",
    "ScriptedEvaluator",
    "Stop",
    "SwapError",
    "TransformersEvaluator",
    "UnknownBenchmarkError",
    "judge",
    "load_benchmark",
    "load_jsonl",
    "mcnemar",
    "paired_difference",
    "refuse_overlap",
    "score",
    "simultaneous_intervals",
    "wilson",
]
