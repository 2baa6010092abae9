"""math-verify, asked in a process of its own: `math_worker.py`, kept resident, started when first needed.

math-verify bounds its work by signals, which only a main thread may use, and SymPy can compute for hours or take all memory on
an answer of ten characters. So a process that can be ended does it, and every outcome has a rule:

| what happens to a pair | then |
|---|---|
| one of the two is longer than MAX_CHARACTERS | not equivalent, unasked |
| answered | that is the verdict |
| CPU_SECONDS of processor time are used up | not equivalent: what cannot be verified is not right |
| the process ends, twice in a row on this pair | not equivalent: the pair does it (memory, recursion) |
| … but once by SIGKILL, or without an answer within WALL_SECONDS | BenchmarkError: nothing in it does that, so the machine is at fault |
| the process cannot be started, or judges wrongly from the start | BenchmarkError: a fault never becomes a zero |

Processor time and not the clock, because a verdict must not depend on what else the machine does.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from functools import lru_cache
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.math_worker import READY

WORKER = Path(__file__).with_name("math_worker.py")
ENVIRONMENT = {"PYTHONHASHSEED": "0"}
"""All the process gets. SymPy orders by hashes here and there: the same pair, the same verdict."""
START_SECONDS = 120.0
"""SymPy is large; from a cold disk, not yet compiled, it takes its time."""
WALL_SECONDS = 60.0
"""Thirty times the processor time of a pair: only a machine that stands still needs longer."""
ATTEMPTS = 2
MAX_CHARACTERS = 1000
"""Of either text; the longest final of MATH's test set has 81. What is longer is not equivalent to anything: reading it would take all its time."""
REMEMBERED_PAIRS = 100_000

_OVER_TIME = -signal.SIGPROF


class MathVerifier:
    """One resident process. Threads may share it; they are served one by one.

    Args:
        command: starts the worker; None: `math_worker.py` with this interpreter.
        wall_seconds: see WALL_SECONDS.
    """

    def __init__(self, command: tuple[str, ...] | None = None, *, wall_seconds: float = WALL_SECONDS) -> None:
        # -s, -P: nothing is imported but the standard library and what is installed; `benchmarks/` holds a `statistics.py`.
        self._command = command or (sys.executable, "-s", "-P", "-B", str(WORKER))
        self._wall_seconds = wall_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def equivalent(self, final: str, answer: str) -> bool:
        """Do both write the same mathematical object, in math-verify's judgement?

        Args:
            final: LaTeX of the reference. math-verify treats the two differently (`x=5` is met by `5`).
            answer: LaTeX of the answer. Any text: no content makes this raise.

        Raises:
            BenchmarkError: the process cannot be started, or the machine stands still.
        """
        if max(len(final), len(answer)) > MAX_CHARACTERS:
            return False
        question = json.dumps([final, answer]).encode("ascii") + b"\n"
        with self._lock:
            if self._process is not None and self._process.poll() is not None:
                self._end()  # It was ended from outside between two pairs.
            from_outside = 0
            for _ in range(ATTEMPTS):
                reply = self._ask(question)
                if reply is not None:
                    return bool(json.loads(reply))
                how = self._end()
                if how == _OVER_TIME:
                    return False
                from_outside += how in (None, -signal.SIGKILL)
            if from_outside:
                raise BenchmarkError(
                    f"math-verify: expected a verdict within {self._wall_seconds:g} s, got its process stalled or killed from outside; "
                    "the machine is overloaded or short of memory: free it and resume"
                )
            return False

    def close(self) -> None:
        """Ends the process. A later question starts another one."""
        with self._lock:
            self._end()

    def _ask(self, question: bytes) -> bytes | None:
        try:
            process = self._process or self._start()
            assert process.stdin is not None
            process.stdin.write(question)
            return _read_line(process, self._wall_seconds)
        except BrokenPipeError:
            return None
        except BaseException:
            self._end()  # Interrupted: the reply still to come must not answer the next question.
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            # A session of its own: Ctrl-C is for the campaign, which may still finish a score.
            process = subprocess.Popen(
                self._command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,
            )
        except OSError as error:
            raise BenchmarkError(
                f"math-verify: expected a process to check answers in, got: {error.strerror}; free some memory or processes"
            ) from error
        self._process = process
        line = _read_line(process, START_SECONDS)
        said = json.loads(line) if line else None
        if said != READY:
            ended = self._end()
            got = said["error"] if said else "no word" if ended is None else f"its end (status {ended})"
            raise BenchmarkError(
                f"math-verify: expected a process that checks answers, got: {got}; install the versions of constraints.txt"
            )
        return process

    def _end(self) -> int | None:
        """Status with which the process ended by itself; None if it had to be ended, or there is none."""
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None
        assert process.stdout is not None
        status: int | None = None
        try:
            process.stdin.close()
            if not _readable(process, 0):  # Not even its end can be read: it is at work, or waits.
                process.kill()
            else:
                status = process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            process.kill()
        finally:
            process.stdout.close()
            process.wait()
        return status


def _read_line(process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
    """The next line of the worker; None if it ends, or says nothing for so long."""
    assert process.stdout is not None
    deadline = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not _readable(process, left):
            return None
        piece = os.read(process.stdout.fileno(), 4096)
        if not piece:
            return None
        line += piece
    return line


def _readable(process: subprocess.Popen[bytes], seconds: float) -> bool:
    assert process.stdout is not None
    poll = select.poll()  # select() fails in a process with more than 1024 open files.
    poll.register(process.stdout, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


_shared = MathVerifier()
_inherited: list[MathVerifier] = []


def _forget() -> None:
    """After a fork the process is the parent's: kept, so that nothing ends it, and never asked again."""
    global _shared
    _inherited.append(_shared)
    _shared = MathVerifier()


os.register_at_fork(after_in_child=_forget)
atexit.register(lambda: _shared.close())


@lru_cache(REMEMBERED_PAIRS)
def equivalent(final: str, answer: str) -> bool:
    """`MathVerifier.equivalent` of the one worker this process has; every pair is asked once.

    Raises:
        BenchmarkError: see there.
    """
    return _shared.equivalent(final, answer)
