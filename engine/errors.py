"""Everything that can go wrong, and the exit code it means.

    EngineError                    a fault of the host, or of this program                       exit 1
    ├── UserError                  a usage or configuration error                                exit 2
    │   ├── ConfigError            a campaign file or `--set` that cannot be used
    │   ├── RunError               a run folder that is missing, foreign, or held by another process
    │   └── UnknownNameError       a program, model or run by a name that nobody has
    ├── HostError                  disk, memory, a worker that died twice                        exit 1
    └── Interrupted                the user or a time limit stopped the run in order             exit 0

The other packages have trees of their own; `exit_code` maps every one of them, and a test holds that none is unmapped.
A candidate's fault is never in these trees: it is a row with a reason.
"""

from __future__ import annotations

from benchmarks.errors import BenchmarkError, BenchmarkUserError
from merges.errors import MergeError, MergeUserError, ProgramError
from sandbox.errors import SandboxError, SandboxUserError

EXIT_OK = 0
EXIT_HOST = 1
EXIT_USAGE = 2
EXIT_PROGRAM = 3


class EngineError(Exception):
    """Root of the engine's errors; str() is one line."""


class UserError(EngineError):
    """The user can mend it; str() says what, expected, got, what to do."""


class ConfigError(UserError):
    """A campaign file, or a `--set`, that cannot be used."""


class RunError(UserError):
    """A run folder that is missing, foreign, finished, or held by another process."""


class UnknownNameError(UserError):
    """Nobody has a program, model or run of that name."""


class HostError(EngineError):
    """The machine failed: no disk, no memory, a worker that died twice. Nothing that was finished is lost."""


class Interrupted(EngineError):
    """The run stopped in order and can be resumed: Ctrl-C, or `--max-hours`."""


def exit_code(error: BaseException) -> int:
    """The process's exit code for `error`: 0 fine, 1 host, 2 usage, 3 the program's fault."""
    if isinstance(error, Interrupted):
        return EXIT_OK
    if isinstance(error, ProgramError):
        return EXIT_PROGRAM
    if isinstance(error, UserError | MergeUserError | BenchmarkUserError | SandboxUserError):
        return EXIT_USAGE
    return EXIT_HOST


KNOWN_ERRORS = (EngineError, MergeError, BenchmarkError, SandboxError)
"""What the command line turns into one line; anything else is a defect of ours and shows its traceback."""
