"""The process that asks math-verify; `math_verifier.py` starts it, talks to it and ends it. Run as a file, imports none of ours.

One JSON array `[final, answer]` a line comes in, `true` or `false` a line goes out: does the LaTeX `answer` mean the same as
`final`? The first line out is `"ready"`, or `{"error": ...}` where the libraries are missing or do not judge as they should.

What is judged was written by a model nobody trusts. Covered:

- **no text is run as Python**. Only LaTeX is read (math-verify's other extraction gives text to SymPy's `parse_expr`, which is
  `eval`). SymPy compiles source all the same: its numbers are made by `eval` of `Integer (5 )`, its polynomials write
  themselves functions. So an audit hook looks at whatever is about to be compiled: numbers pass, so do those functions, which
  depend on the number of variables alone, and what modules hold that are being imported. All else raises;
- **time**: each pair gets CPU_SECONDS of processor time, whatever else the machine does, then the system ends the process;
- **memory, files, processes**: limits of the system on all three; the environment holds a hash seed and nothing else, the
  working directory is `/`.

Not covered: a flaw in the interpreter itself. This is a judge of text, not the sandbox for programs.
"""

import contextlib
import json
import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Callable
from functools import lru_cache
from types import FrameType
from typing import Any

READY = "ready"
CPU_SECONDS = 2.0
"""Per pair. The slowest final of MATH's test set takes 0.2 s against itself."""
MEMORY_BYTES = 1 << 30
"""Of address space; the libraries take less than a tenth of it."""
REMEMBERED_FINALS = 10_000
"""A final is met by every candidate, so its reading is kept."""

Equivalence = Callable[[str, str], bool]

_LIMITS = {
    resource.RLIMIT_AS: MEMORY_BYTES,
    resource.RLIMIT_FSIZE: 0,  # no file grows
    resource.RLIMIT_NPROC: 0,  # no further process (root is exempt)
    resource.RLIMIT_CORE: 0,
}
_NUMBER_SOURCE = re.compile(r"from sympy import \*|(?:Integer|Float) ?\('?[0-9.eE+-]+'? ?\) ?")
_CODE_WRITER = "sympy.polys.monomials"
_SELF_CHECK = (
    (r"\frac{1}{2}", "0.5", True),
    ("x+1", r"\frac{x^2-1}{x-1}", True),
    (r"2 \tan x", r"\frac{2\sin x}{\cos x}", True),
    ("(1,2]", r"\left( 1, \frac{4}{2} \right]", True),
    (r"y = \frac{1}{2} x + 2", "2y = x + 4", True),
    ("3", "4", False),
    ("(1,2)", "(2,1)", False),
)
"""Libraries that fail inside call everything different, quietly: better not to start. One pair for each way that they go."""


def load() -> Equivalence:
    """math-verify, as this project uses it: the content of a box, read as LaTeX and as nothing else."""
    from math_verify import LatexExtractionConfig, parse, verify

    only_latex = (LatexExtractionConfig(boxed_match_priority=0),)

    def read(latex: str) -> list[Any]:
        found: list[Any] = parse(rf"\boxed{{{latex}}}", only_latex, parsing_timeout=None)
        return found

    remembered = lru_cache(REMEMBERED_FINALS)(read)

    def equivalent(final: str, answer: str) -> bool:
        return bool(verify(remembered(final), read(answer), timeout_seconds=None))

    return equivalent


def refuse_source(event: str, arguments: tuple[Any, ...]) -> None:
    """The audit hook; see the module's text.

    Raises:
        PermissionError: source that nobody of those compiles. math-verify takes it for an expression it cannot read.
    """
    if event != "compile":
        return
    source = arguments[0].decode("utf-8", "replace") if isinstance(arguments[0], bytes) else str(arguments[0])
    if not _NUMBER_SOURCE.fullmatch(source) and not _is_libraries_own(sys._getframe(1)):
        raise PermissionError(f"refused to compile {source[:80]!r}")


def _is_libraries_own(frame: FrameType | None) -> bool:
    if frame is not None and frame.f_globals.get("__name__") == _CODE_WRITER:
        return True
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def limit_resources() -> None:
    """From now on, whatever the system was asked to allow."""
    for limit, most in _LIMITS.items():
        hard = resource.getrlimit(limit)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(limit, (least, least))


def misjudged(equivalent: Equivalence) -> str | None:
    """A pair of the self-check that is judged wrongly, in words; None if there is none."""
    for final, answer, same in _SELF_CHECK:
        if equivalent(final, answer) != same:
            return f"calls {final} and {answer} {'different' if same else 'the same'}"
    return None


def main() -> None:
    """Answers until the input ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1, encoding="ascii")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)  # What a library prints must not look like a reply.
    logging.disable()  # math-verify warns that its own limits are off.
    limit_resources()
    try:
        equivalent = load()
    except ImportError as error:
        print(json.dumps({"error": str(error)}), file=replies)
        return
    sys.addaudithook(refuse_source)
    if wrong := misjudged(equivalent):
        print(json.dumps({"error": f"it {wrong}"}), file=replies)
        return
    print(json.dumps(READY), file=replies)
    for line in sys.stdin.buffer:
        final, answer = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # Unhandled on purpose: no code of ours could run in time.
        same = equivalent(final, answer)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(same), file=replies)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()
