"""Any bytes as a program, and any bytes as what its process leaves: a verdict in time, never an exception of the host, nothing left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox import KilledError, Limits, Sandbox, TensorJob, ZygoteError
from sandbox.outcome import Outcome, judge
from sandbox.records import Isolation
from sandbox.transfer import REPORT_BYTES, PackedJobs, mailbox

LIMITS = Limits(wall_seconds=1.0, cpu_seconds=1.0, memory_bytes=128 << 20)
JOB = TensorJob("w", 0.5, {"a": torch.ones(2, 3), "b": torch.ones(2, 3)}, None, 1)

NAMES = st.sampled_from(
    [
        "x",
        "y",
        "m",
        "d",
        "torch",
        "np",
        "math",
        "F",
        "a",
        "b",
        "len",
        "sum",
        "print",
        "getattr",
        "type",
        "open",
        "merge_models",
        "Exception",
        "self",
        "cls",
        "_",
        "__name__",
    ]
)
ATTRIBUTES = st.sampled_from(
    [
        "sum",
        "mean",
        "T",
        "shape",
        "__class__",
        "__globals__",
        "numpy",
        "view",
        "data_ptr",
        "save",
        "append",
        "items",
        "format",
        "norm",
        "linalg",
        "svd",
        "nn",
    ]
)
NUMBERS = st.sampled_from(
    [
        "0",
        "1",
        "-1",
        "2",
        "0.5",
        "1e38",
        "float('nan')",
        "1 << 20",
        "10 ** 9",
        "'text'",
        "b''",
        "None",
        "...",
        "[]",
        "{}",
    ]
)


def combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions out of expressions."""
    return st.one_of(
        st.builds("{}.{}".format, inner, ATTRIBUTES),
        st.builds("{}({})".format, inner, inner),
        st.builds("{}[{}]".format, inner, inner),
        st.builds(
            "({} {} {})".format,
            inner,
            st.sampled_from(
                ["+", "-", "*", "/", "//", "%", "**", "@", "<<", "&", "|", "==", "<", "in", "is", "and", "or"]
            ),
            inner,
        ),
        st.builds("[{} for {} in {}]".format, inner, NAMES, inner),
        st.builds("(lambda {}: {})".format, NAMES, inner),
        st.builds("({} if {} else {})".format, inner, inner, inner),
        st.builds("f'{{{}!r:>{}}}'".format, NAMES, st.sampled_from(["3", "x", "{y}"])),
    )


EXPRESSIONS = st.recursive(st.one_of(NAMES, NUMBERS), combined, max_leaves=6)
STATEMENTS = st.one_of(
    st.builds("{} = {}".format, NAMES, EXPRESSIONS),
    st.builds("{}.{} = {}".format, NAMES, ATTRIBUTES, EXPRESSIONS),
    st.builds("{}[{}] += {}".format, NAMES, EXPRESSIONS, EXPRESSIONS),
    st.builds("for {} in {}:\n        {}".format, NAMES, EXPRESSIONS, EXPRESSIONS),
    st.builds("while {}:\n        {} = {}".format, EXPRESSIONS, NAMES, EXPRESSIONS),
    st.builds("try:\n        {}\n    except {}:\n        pass".format, EXPRESSIONS, NAMES),
    st.builds("class {}({}):\n        {} = {}".format, NAMES, EXPRESSIONS, NAMES, EXPRESSIONS),
    st.builds("match {}:\n        case {}:\n            pass".format, EXPRESSIONS, EXPRESSIONS),
    st.builds("with {} as {}:\n        pass".format, EXPRESSIONS, NAMES),
    st.builds("del {}".format, EXPRESSIONS),
    st.builds("raise {}".format, EXPRESSIONS),
    st.builds("import {} as {}".format, NAMES, NAMES),
    st.builds("return {}".format, EXPRESSIONS),
)
PROGRAMS = st.lists(STATEMENTS, min_size=1, max_size=8).map(
    lambda lines: (
        "import torch, math\nimport numpy as np\ndef merge_models(m, d):\n    x = y = m['a']\n    "
        + "\n    ".join(lines)
        + "\n    return x\n"
    )
)


@pytest.fixture(scope="module")
def tight() -> Iterator[Sandbox]:
    with Sandbox(LIMITS) as sandbox:
        yield sandbox


def left_over(sandbox: Sandbox) -> tuple[int, int]:
    """Descriptors of this process, and processes below the zygote's launcher."""
    assert sandbox._zygote is not None
    launcher = sandbox._zygote._process.pid
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    return len(os.listdir("/proc/self/fd")), len(children)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.one_of(PROGRAMS, PROGRAMS, st.binary(max_size=400), st.text(max_size=400)))
def test_any_program_ends_in_a_verdict_in_time(tight: Sandbox, source: str | bytes) -> None:
    before = left_over(tight)
    result = tight.execute(source, [JOB])
    assert result.ok == (result.reason is None) == (result.outputs is not None)
    assert result.seconds <= LIMITS.wall_seconds + 1
    if not result.ok:
        assert result.detail is not None
        assert result.detail.isprintable()
        assert len(result.detail.encode()) <= LIMITS.detail_bytes
        assert result.line is None or 0 <= result.line < 10_000
    assert left_over(tight) == before


STATUSES = st.sampled_from(
    [
        0,
        1 << 8,
        70 << 8,
        255 << 8,
        signal.SIGKILL,
        signal.SIGSEGV,
        signal.SIGSYS,
        signal.SIGXCPU,
        signal.SIGXFSZ,
        signal.SIGABRT,
        64,
    ]
)
REPORTS = st.one_of(
    st.binary(max_size=200),
    st.fixed_dictionaries(
        {"reason": st.sampled_from(["policy", "timeout", "ok", "", None, 1, []]), "detail": st.one_of(st.none(), st.text(max_size=50), st.integers()),
         "line": st.one_of(st.none(), st.integers(), st.booleans(), st.text(max_size=3)), "rule": st.sampled_from([None, "import", "nonesuch", 3])}
    ).map(lambda report: __import__("json").dumps(report).encode()),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    status=STATUSES, report=REPORTS, length=st.one_of(st.none(), st.integers(0, 2**32 - 1)), timed_out=st.booleans(), started=st.booleans(),
    starved=st.booleans(), filtered=st.booleans(), content=st.binary(max_size=24),
)  # fmt: skip
def test_whatever_a_process_leaves_is_a_verdict_or_a_fault_of_the_host(
    status: int,
    report: bytes,
    length: int | None,
    timed_out: bool,
    started: bool,
    starved: bool,
    filtered: bool,
    content: bytes,
) -> None:
    outcome = Outcome(status, timed_out, 0.1, 0.1, 1 << 20, 1 << 10, filtered, started, starved=starved)
    with PackedJobs([JOB]) as packed, mailbox(packed) as box:
        told = (len(report) if length is None else length).to_bytes(4, "little")
        os.pwrite(box.report, (told + report)[:REPORT_BYTES], 0)
        os.pwrite(box.outputs, content, 0)
        try:
            result = judge(outcome, box, packed, LIMITS, Isolation("FULL"))
        except (ZygoteError, KilledError):
            assert not started or status == signal.SIGKILL
            return
    assert result.ok == (result.reason is None)
    if result.outputs is not None:
        assert bool(torch.isfinite(result.outputs["w"]).all())
