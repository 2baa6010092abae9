"""Where things lie: shipped data, runs, models and programs by the names that users give.

In a checkout `data/` and `campaigns/` stand at the root; in an installed wheel they are inside this package. Runs are always
made in the folder where the user works.
"""

from __future__ import annotations

from pathlib import Path

from engine import archive_place
from engine.errors import UnknownNameError

_PACKAGE = Path(__file__).resolve().parent
RUNS = Path("runs")


def shipped(name: str) -> Path:
    """The shipped folder `name` ("data" or "campaigns")."""
    checkout = _PACKAGE.parent / name
    return checkout if checkout.is_dir() else _PACKAGE / "_shipped" / name


def pocket_model(name: str) -> Path:
    """Folder of a shipped pocket model: "seed", "expert_a", …"""
    return shipped("data") / "pocket" / name


def model(reference: str) -> str:
    """What a user called a model, as a folder or a hub id.

    `pocket/seed` names a shipped model unless the user has a folder of that name; any other text is passed on, for the
    checkpoint reader to find or to refuse.
    """
    if Path(reference).exists() or not reference.startswith("pocket/"):
        return reference
    folder = pocket_model(reference.removeprefix("pocket/"))
    if not folder.is_dir():
        known = ", ".join(f"pocket/{p.parent.name}" for p in sorted(folder.parent.glob("*/config.json")))
        raise UnknownNameError(
            f"model '{reference}': expected one of {known}, or a folder, or a hub id; got a name nobody has"
        )
    return str(folder)


def run_folder(reference: str) -> Path:
    """The folder of a run, given as a path or as a name below `runs/`.

    Raises:
        UnknownNameError: neither holds an archive.
    """
    for folder in (Path(reference), RUNS / reference):
        if archive_place.file_in(folder):
            return folder
    known = ", ".join(sorted(p.name for p in archive_place.folders_in(RUNS))) or "none yet; `mergewright run` makes one"
    raise UnknownNameError(
        f"run '{reference}': expected a folder with {archive_place.FILE} or {archive_place.LINK}, or a name below runs/; known runs: {known}"
    )


def campaign_file(reference: str) -> Path:
    """A campaign file: a path, or the name of a shipped one ("pocket", "smollm2")."""
    path = Path(reference)
    if path.is_file():
        return path
    by_name = shipped("campaigns") / f"{path.stem}.toml"
    if by_name.is_file() and path.parent.name in ("", "campaigns"):
        return by_name
    known = ", ".join(sorted(p.stem for p in shipped("campaigns").glob("*.toml")))
    raise UnknownNameError(
        f"campaign '{reference}': expected a TOML file or one of {known}; got no such file; `mergewright init` writes one"
    )
