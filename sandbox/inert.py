"""What a merge program gets where there is nothing to give: hardware that is not there, clocks that stand, logs that nobody reads,
switches that move nothing. Honest programs call all of these, and none of them means anything by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _false() -> bool:
    return False


def _no_text(*_: object, **__: object) -> str:
    return ""


def _zero(*_: object, **__: object) -> int:
    return 0


def _zero_seconds() -> float:
    return 0.0


def _nothing(*_: object, **__: object) -> None:
    return None


class _Quiet:
    """A context manager that does nothing."""

    def __enter__(self) -> list[Any]:
        return []

    def __exit__(self, *_: object) -> None:
        return None


class Switches:
    """`torch.backends.cudnn` and `torch.backends.cuda.matmul`: may be set to anything, and stay as they are."""

    deterministic = benchmark = enabled = allow_tf32 = False

    def __setattr__(self, name: str, value: object) -> None:
        return None


def _no_memory() -> tuple[int, int]:
    return 0, 0


def _no_name(*_: object) -> str:
    return "none"


QUIET_METHODS = frozenset(
    {"debug", "info", "warning", "error", "critical", "exception", "log", "setLevel", "addHandler"}
)


class Logger:
    """What `logging.getLogger` gives."""

    name = "candidate"

    debug = info = warning = error = critical = exception = log = setLevel = addHandler = _nothing


def _quiet(*_: object, **__: object) -> _Quiet:
    return _Quiet()


def _logger(*_: object, **__: object) -> Logger:
    return Logger()


_CUDA_CALLS = (
    "ipc_collect",
    "set_device",
    "empty_cache",
    "synchronize",
    "manual_seed",
    "manual_seed_all",
    "reset_peak_memory_stats",
)


def inert(modules: Mapping[str, frozenset[str]]) -> dict[str, Any]:
    """Full name -> what a program gets for it. `modules`: the allow-list."""
    return {
        **{f"warnings.{name}": _nothing for name in modules["warnings"] - {"catch_warnings"}},
        **{f"logging.{name}": _nothing for name in modules["logging"] if name.islower()},
        **{f"time.{name}": _zero_seconds for name in modules["time"]},
        **{f"torch.cuda.{name}": _nothing for name in _CUDA_CALLS},
        **{f"torch.cuda.{name}": _zero for name in ("device_count", "current_device", "memory_allocated", "max_memory_allocated")},
        **{f"torch.cuda.{name}": _false for name in ("is_available", "is_initialized", "is_bf16_supported")},
        **{f"torch.backends.{path}": _false for path in ("cuda.is_available", "cuda.is_built", "mps.is_available", "mps.is_built")},
        **{f"torch.{name}": _nothing for name in ("set_printoptions", "set_float32_matmul_precision", "use_deterministic_algorithms", "set_num_threads")},
        "torch.backends.cuda.matmul": Switches(),
        "traceback.print_exc": _nothing,
        "traceback.format_exc": _no_text,
        **{f"gc.{name}": _zero for name in modules["gc"]},
        "torch.mps.is_available": _false,
        "torch.mps.empty_cache": _nothing,
        "torch.cuda.mem_get_info": _no_memory,
        "torch.cuda.get_device_name": _no_name,
        "torch.backends.cudnn": Switches(),
        "warnings.catch_warnings": _quiet,
        "logging.getLogger": _logger,
        "time.time_ns": _zero,
        "time.perf_counter_ns": _zero,
        "time.sleep": _nothing,
    }  # fmt: skip
