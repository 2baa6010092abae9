"""The archive that ships: programs of our own campaigns, each a bundle of one in `data/discovered/ID.json`.

    python -m engine.discovered RUN#ID --title "…" --explanation FILE [--transfer EXPERT,EXPERT,… --split SPLIT,…]

adds one from a finished run, or writes it anew, and writes the folder's README.md. What it measures of a transfer is kept beside the run and not asked again.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from engine import locations
from engine.bundle import Entry
from engine.bundle_claims import check_claims
from engine.bundle_file import read_bundle
from engine.errors import HostError, UserError


def folder() -> Path:
    """Where they lie."""
    return locations.shipped("data") / "discovered"


@functools.cache
def entries() -> Mapping[str, Entry]:
    """All of them by id; each file is checked as a foreign one would be, but no program runs.

    Raises:
        HostError: a file was changed since it was shipped.
    """
    found = {}
    for path in files():
        try:
            bundle = read_bundle(path)
            check_claims(path, bundle)
        except UserError as error:
            raise HostError(f"{error}: this file ships with Mergewright; install it again") from error
        entry = bundle.programs[0]
        if len(bundle.programs) > 1 or path.stem != entry.id:
            raise HostError(
                f"'{path}': expected the one program {path.stem}, got {entry.id}; install Mergewright again"
            )
        found[entry.id] = entry
    return found


def files() -> list[Path]:
    """The files, by id; to look for an id no file need be read."""
    return sorted(folder().glob("*.json"))


def matching(beginning: str) -> list[Entry]:
    """Those whose id begins so."""
    ids = {path.stem for path in files() if path.stem.startswith(beginning)}
    return [entry for id, entry in entries().items() if id in ids] if ids else []


if __name__ == "__main__":
    from engine.curating import main

    main()
