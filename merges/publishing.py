"""Publish a merged folder as a model repository of the hub.

`prepare` asks the hub everything that could stand in the way and makes the repository, before any work is done; `publish` sends the folder in
one commit, so whoever loads the repository sees the whole model or none of it.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from merges.checkpoints import Checkpoint
from merges.errors import CheckpointError, DestinationError, PublishError
from merges.hub import HUB_WAIT_SECONDS, bounded_wait
from merges.layout import INDEX_FILE
from merges.provenance import CARD_FILE, PROVENANCE_FILE, Provenance

__all__ = ["Destination", "prepare", "publish", "published_files"]

UPLOAD_WAIT_SECONDS = 120.0
"""How long the hub may be silent while it takes a file or makes the commit; an upload that goes on may take as long as it needs."""

COMMIT_MESSAGE = "Upload a model merged by Mergewright"

_PART = r"\w(?:[\w.-]{0,94}\w)?"
_REPOSITORY = re.compile(rf"(?!.*(?:--|\.\.)){_PART}/{_PART}(?<!\.git)", re.ASCII)

_EMPTY = frozenset({".gitattributes"})
"""What the hub itself puts into a new repository."""


@dataclass(frozen=True)
class Destination:
    """A repository that was found fit to take a merge.

    Attributes:
        repository: OWNER/NAME.
        url: of its page.
        private: whether only its owner sees it.
        account: whose token it is.
        head: the commit that it is at; None: it is not there yet.
    """

    repository: str
    url: str
    private: bool
    account: str
    head: str | None


def prepare(repository: str, *, private: bool = True, make: bool = True, endpoint: str | None = None) -> Destination:
    """See that a merge can be published, and make the repository if it is not there: only that proves that it can be made.

    Args:
        repository: OWNER/NAME. One that is there must hold no files, so that a merge never mixes with another model's shards or tokenizer.
        private: whether it is private, or to be made so.
        make: False: only ask.
        endpoint: address of the hub; None: HF_ENDPOINT, or the hub itself.

    Raises:
        DestinationError: the id, the token, its rights, the repository or the hub is of no use. Nothing was uploaded.
    """
    _check_id(repository)
    if constants.HF_HUB_OFFLINE:
        raise DestinationError(
            f"{repository}: expected a hub that may be asked, got HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) set; unset it, or push the "
            f"folder later with `hf upload {repository} FOLDER .`"
        )
    # As in `hub.py`: the errors come from httpx or httpx2, by version, and none of them is ours.
    token = None
    try:
        token = _checked(get_token())
        with bounded_wait(HUB_WAIT_SECONDS):
            return _asked(HfApi(endpoint, token=token), repository, private, make)
    except DestinationError:
        raise
    except Exception as error:
        raise DestinationError(f"{repository}: {_explained(error, token)}") from error


def publish(folder: str | Path, destination: Destination, *, endpoint: str | None = None) -> str:
    """Upload a folder that `apply` wrote, and nothing else that lies in it.

    Args:
        destination: from `prepare`, made. A repository that was written to since is left as it is.
        endpoint: as in `prepare`.

    Returns:
        The address of the repository's page.

    Raises:
        CheckpointError: the folder is no merge of ours, or not complete.
        PublishError: the upload failed. The folder is untouched; the repository holds all of it or nothing.
    """
    path = Path(folder)
    operations = [CommitOperationAdd(name, path / name) for name in published_files(path)]
    token = None
    try:
        token = get_token()
        with bounded_wait(UPLOAD_WAIT_SECONDS):
            HfApi(endpoint, token=token).create_commit(
                destination.repository, operations, commit_message=COMMIT_MESSAGE, parent_commit=destination.head
            )
    except Exception as error:
        visibility = " --private" if destination.private else ""
        again = f"hf upload {destination.repository} {shlex.quote(str(path))} .{visibility}"
        raise PublishError(
            f"{destination.repository}: expected the hub to take {len(operations)} files, got {_words(error, token)}; the merge is complete "
            f"in {path}, push it again with: {again}"
        ) from error
    return destination.url


def published_files(folder: Path) -> list[str]:
    """The files of a merge that are its model: those that its provenance names, its weights, and what describes them.

    Raises:
        CheckpointError: the folder has no provenance, or a file is missing or of an odd name.
    """
    record, checkpoint = Provenance.read(folder), Checkpoint.open(folder)
    weights = {file for name, file in checkpoint.files.items() if name in record.tensors}
    index = {INDEX_FILE} if (folder / INDEX_FILE).exists() else set()
    names = sorted({*record.files, *weights, *index, PROVENANCE_FILE, CARD_FILE})
    for name in names:
        if Path(name).name != name or name.startswith(".") or not (folder / name).is_file():
            raise CheckpointError(
                f"{folder}: expected the plain files that {PROVENANCE_FILE} names, got none called {name!r}; apply the merge again"
            )
    return names


def _check_id(repository: str) -> None:
    if not _REPOSITORY.fullmatch(repository):
        raise DestinationError(
            f"{repository!r}: expected OWNER/NAME, each of up to 96 letters, digits, '-', '_' and '.', got no such form; correct it"
        )


def _checked(token: str | None) -> str:
    """A token that can stand in a header: the HTTP library would quote any other in its error."""
    if not token:
        raise DestinationError(
            "token of the hub: expected one that may write, got none; log in with `hf auth login` or set HF_TOKEN"
        )
    if not re.fullmatch(r"[!-~]+", token):
        raise DestinationError(
            "token of the hub: expected printable ASCII without spaces, got other characters; log in again or set HF_TOKEN anew"
        )
    return token


def _asked(api: HfApi, repository: str, private: bool, make: bool) -> Destination:
    account = str(api.whoami()["name"])
    url = f"{api.endpoint}/{repository}"
    try:
        info = api.model_info(repository, timeout=HUB_WAIT_SECONDS)
    except RepositoryNotFoundError:
        if not make:
            return Destination(repository, url, private, account, None)
        api.create_repo(repository, private=private)
        info = api.model_info(repository, timeout=HUB_WAIT_SECONDS)
    api.auth_check(repository, write=True)
    held = sorted({file.rfilename for file in info.siblings or ()} - _EMPTY)
    if held:
        raise DestinationError(
            f"{repository}: expected a new or empty repository, got one with {len(held)} file(s), first {held[0]!r}; choose another name, "
            f"or replace them on purpose, after the merge, with: hf upload {repository} FOLDER . --delete '*'"
        )
    if bool(info.private) != private:
        wanted, got = ("private", "public") if private else ("public", "private")
        raise DestinationError(
            f"{repository}: expected a {wanted} repository, got a {got} one; change it in its settings, or pass --{got}"
        )
    return Destination(repository, url, private, account, info.sha)


def _explained(error: Exception, token: str | None) -> str:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    words = _words(error, token)
    if status == 401:
        return f"expected a token that the hub knows, got {words}; log in with `hf auth login` or set HF_TOKEN"
    if status == 403:
        return f"expected a token that may write there, got {words}; give the token that right, or choose another OWNER"
    if status is not None:
        return f"expected a hub that agrees, got {words}; choose another name, or try again"
    return f"expected a hub that answers, got {words}; check the network, or leave --push-to-hub out and push the folder later"


def _words(error: BaseException, token: str | None) -> str:
    """A foreign error without secrets: neither the token, nor the signatures in the addresses that uploads go to."""
    cause = f": {error.__cause__}" if error.__cause__ else ""
    text = re.sub(r"(?<=\w)\?[^\s'\"]+", "", f"{type(error).__name__} ({error}{cause})")
    return text.replace(token, "…") if token else text
