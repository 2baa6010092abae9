"""Problem sets, answer checking, evaluators and the statistics of scores. Imports none of the other packages."""

from benchmarks.benchmark import Benchmark, load_benchmark
from benchmarks.checkers import Checker
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
from benchmarks.racing import Race, RaceRules
from benchmarks.scores import Score, Verdicts, judge, score
from benchmarks.statistics import (
    Interval,
    ItemBits,
    PairedDifference,
    anytime_interval,
    mcnemar,
    newcombe,
    paired_difference,
    simultaneous_intervals,
    wilson,
    wilson_share,
)
from benchmarks.suite import Item, Part, Suite
from benchmarks.vllm_evaluator import VLLMEvaluator
from benchmarks.vllm_process import VLLMSettings

__all__ = [
    "Benchmark",
    "BenchmarkError",
    "BenchmarkUserError",
    "Chat",
    "Checker",
    "DeviceError",
    "Evaluator",
    "Interval",
    "Item",
    "ItemBits",
    "ModelFolderError",
    "PairedDifference",
    "Part",
    "Problem",
    "ProblemFileError",
    "Prompt",
    "PromptTooLongError",
    "Race",
    "RaceRules",
    "Score",
    "ScriptedEvaluator",
    "Stop",
    "Suite",
    "SwapError",
    "TransformersEvaluator",
    "UnknownBenchmarkError",
    "VLLMEvaluator",
    "VLLMSettings",
    "Verdicts",
    "anytime_interval",
    "judge",
    "load_benchmark",
    "load_jsonl",
    "mcnemar",
    "newcombe",
    "paired_difference",
    "refuse_overlap",
    "score",
    "simultaneous_intervals",
    "wilson",
    "wilson_share",
]
