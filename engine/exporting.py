"""Writes programs for elsewhere: as a `.py` file, as a bundle, as a folder that a model hub shows. Never over what is there, and whole or not at all."""

from __future__ import annotations

import errno
import shlex
from pathlib import Path

import yaml

from engine.bundle import Bundle, Entry
from engine.bundling import lines
from engine.tables import printable
from engine.whole_file import write_whole
from merges.contract import program_id
from merges.errors import HostError, OptionError, TargetError
from merges.target import check_absent, staged
from sandbox import check

PROGRAM_FILE = "program.py"
BUNDLE_FILE = "bundle.json"
CARD_FILE = "README.md"

HUB_LICENCES = frozenset({"apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "gpl-3.0", "lgpl-3.0", "mpl-2.0", "cc-by-4.0", "cc0-1.0", "unlicense"})  # fmt: skip
"""Those that hubs know by these names, of those that programs have; any other is "other" there, with its own name beside it."""


def write_program(entry: Entry, out: Path) -> None:
    """Write a `.py` file: the program under a header of comments, with the same id.

    Raises:
        OptionError: `out` is no `.py` file's name, or the header does not fit.
        TargetError, HostError: it cannot be written.
    """
    if out.suffix != ".py":
        raise OptionError(f"--out {out}: expected a name that ends in .py, got another; `apply` knows programs by it")
    _write(out, program_text(entry, out.name))


def write_bundle(bundle: Bundle, out: Path) -> None:
    """Write a bundle's file.

    Raises:
        TargetError, HostError: it cannot be written.
    """
    _write(out, bundle.to_json())


def write_hub(bundle: Bundle, out: Path) -> tuple[str, ...]:
    """Write the folder of a bundle's one program: card, program, bundle.

    Returns:
        The names of its files.

    Raises:
        TargetError, HostError: it cannot be written.
    """
    check_absent(out)
    (entry,) = bundle.programs
    program = program_text(entry, PROGRAM_FILE)
    files = {CARD_FILE: card(entry), PROGRAM_FILE: program, BUNDLE_FILE: bundle.to_json()}
    with staged(out, sum(len(text.encode()) for text in files.values()), entry.id) as folder:
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8", newline="")
    return tuple(files)


def program_text(entry: Entry, name: str) -> str:
    """The program as a file of this name.

    Raises:
        OptionError: with its header it is longer than the sandbox takes.
    """
    head = [f"Mergewright program {entry.id}" + (f": {entry.title}" if entry.title else "")]
    head += [f"{what}: {text}" for what, text in lines(entry)]
    head += [f"apply it: {_apply(entry, name)}"]
    source = entry.source.removeprefix("\ufeff")
    text = "".join(f"# {printable(line)}\n" for line in head) + "\n" + source
    if not check(text).ok or program_id(text) != entry.id:
        raise OptionError(
            f"program {entry.id}: expected one that has room for a header of comments, got one of {len(source):,} characters; export a bundle instead"
        )
    return text


def card(entry: Entry) -> str:
    """The README.md of a hub's folder: front matter, what it is, its scores, how to use it, the program."""
    licence = entry.licence.lower()
    named = {"license": licence} if licence in HUB_LICENCES else {"license": "other", "license_name": entry.licence}
    front = {**named, "library_name": "mergewright", "tags": ["mergewright", "model-merging", "merge-program"]}
    fence = "```"
    while fence in entry.source:
        fence += "`"
    told = [f"| {what} | {_cell(text)} |" for what, text in lines(entry)]
    told += [f"| behaviour | {entry.behaviour.hash} on the probes of {entry.behaviour.experts} experts |"]
    return "\n".join(
        [
            "---",
            yaml.safe_dump(front, sort_keys=False).rstrip(),
            "---",
            "",
            f"# {_cell(entry.title or 'Merge program')} ({entry.id})",
            "",
            *([printable(entry.explanation, keep="\n"), ""] if entry.explanation else []),
            "| | |",
            "|---|---|",
            *told,
            "",
            "A merge algorithm, not a model: a Python function over task vectors, found or kept by Mergewright, which runs it in a sandbox:",
            "",
            "```",
            printable(_apply(entry, PROGRAM_FILE)),
            f"mergewright archive import {BUNDLE_FILE} --into runs/imported   # believe nothing: validate it, merge and score it here",
            "```",
            "",
            f"{fence}python",
            printable(entry.source.rstrip(), keep="\n\t"),
            fence,
            "",
        ]
    )


def _apply(entry: Entry, name: str) -> str:
    measured = entry.measured
    models = ["--base", measured.base if measured else "BASE"]
    for expert in measured.experts if measured else ("EXPERT", "EXPERT"):
        models += ["--expert", expert]
    models += ["--merge", measured.merge] if measured and measured.merge != "all" else []
    return shlex.join(["mergewright", "apply", name, *models, "--out", "merged"])


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")


def _write(out: Path, text: str) -> None:
    check_absent(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, text)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise HostError(
                f"{out}: expected room for {len(text):,} characters, got {error.strerror}; free some"
            ) from error
        raise TargetError(f"{out}: expected a place to write, got {error.strerror}; choose another") from error
