"""Everything that can go wrong in `merges`, in one tree.

    MergeError                     a fault of the host (bare), or one of the kinds below
    ├── HostError                  the machine failed during the work: the disk filled, a file vanished
    ├── PublishError               the merge is done and the hub did not take it
    ├── ProgramError               the merge program's fault: refused, crashed, returned something unusable
    └── MergeUserError             something the user gave; str() says what to do
        ├── CheckpointError        not a model folder or hub id; corrupt, incomplete, pickled
        │   └── ShapeError         experts and base do not fit together inside the merge
        ├── SelectionError         the selection names no tensor
        ├── TargetError            the output cannot be made: it exists, is not writable, does not fit the disk
        │   └── BusyTargetError    another process is making it
        ├── OptionError            an option has a value that cannot be used
        ├── DestinationError       a merge cannot be published there: the id, the token, its rights, what is there already
        └── UnknownProgramError    no such program in the library

Every message is ONE line: what, expected, got, what to do. Text of foreign origin (an OSError, a parser's message) is
folded into that line by `one_line`, so no caller has to remember it.
"""

from __future__ import annotations

MAX_MESSAGE_CHARACTERS = 1000
"""A hostile file could put a novel into its own parse error; nobody reads more than this."""


def one_line(text: object) -> str:
    """Fold any text to one printable line of at most `MAX_MESSAGE_CHARACTERS`."""
    folded = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    if len(folded) > MAX_MESSAGE_CHARACTERS:
        half = MAX_MESSAGE_CHARACTERS // 2  # what went wrong stands in front, what to do at the end
        folded = f"{folded[: half - 1]}…{folded[-half:]}"
    return folded


class MergeError(Exception):
    """Root of the tree. `str()` of any of them is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class HostError(MergeError):
    """The machine failed while the work went on (exit code 1); nothing is left at the target."""


class PublishError(MergeError):
    """The hub did not take a finished merge (exit code 1); its folder is complete where it was made."""


class ProgramError(MergeError):
    """A merge program failed where it had to work (exit code 3).

    Attributes:
        reason: value of the sandbox's list of reasons, e.g. ``"exception"``.
        detail: the program's own words, already limited by the sandbox, or None.
        line: 1-based line of the program, or None where it is not known.
    """

    def __init__(self, message: str, *, reason: str, detail: str | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.detail = detail
        self.line = line


class MergeUserError(MergeError):
    """Something the user gave cannot be used (exit code 2)."""


class CheckpointError(MergeUserError):
    """A checkpoint is missing, incomplete, corrupt, or of a kind that is not read."""


class ShapeError(CheckpointError):
    """A tensor inside the merge differs between the base and an expert."""


class SelectionError(MergeUserError):
    """A selection that picks nothing."""


class TargetError(MergeUserError):
    """The output folder cannot be made."""


class BusyTargetError(TargetError):
    """Another process makes the same output at this moment; its work is left alone."""


class OptionError(MergeUserError):
    """An option's value cannot be used."""


class DestinationError(MergeUserError):
    """A merge cannot be published there, found before any work."""


class UnknownProgramError(MergeUserError):
    """A library name that does not exist."""
