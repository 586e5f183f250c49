"""Hub: checkpoints that are shared through the Hugging Face Hub, or a server of one's own that speaks as it does.

``huggingface_hub`` (Apache-2.0, an extra: ``neurofm[hub]``) is the client. Only the three files of a checkpoint are
asked for, none of which is pickle, and they are held to the sizes and digests in their ``config.json``. The token is
the environment's ``HF_TOKEN`` and no other; where the Hub is and where files are kept are the client's ``HF_ENDPOINT``
and ``HF_HOME``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import neurofm
from neurofm.errors import UserError
from neurofm.model.pretrained import CONFIG, FILES, read_config, refuse_changed

TOKEN = "HF_TOKEN"  # noqa: S105  # the name of the variable
CARD = "README.md"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REASONS = (
    (
        "GatedRepoError",
        "is given to those who were let in only",
        f"ask for access on its page, and set {TOKEN} to a token that may read it",
    ),
    (
        "RepositoryNotFoundError",
        "is not on the Hub, or not for everyone",
        f"look at the name, which is no folder here either; a private model needs {TOKEN}",
    ),
    ("RevisionNotFoundError", "has no such revision", "name a branch, a tag or a commit that it has"),
    (
        "LocalEntryNotFoundError",
        "cannot be reached, and is not on this machine",
        "look at the network, HF_ENDPOINT and HF_HUB_OFFLINE, and try again",
    ),
    ("HFValidationError", "is no name that the Hub allows", "write it as organisation/name"),
)
"""What the client raises, the narrower before the wider; what it says, and the mend."""
_REFUSED = (401, 403)


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What was sent."""

    url: str
    """Of the commit."""
    revision: str


def checkpoint_folder(model: Path | str, *, revision: str | None = None) -> Path:
    """Return the folder of a checkpoint, fetched first where it is a name on the Hub.

    Parameters
    ----------
    model
        A folder; or ``organisation/name``, if it is a text, and there is no folder of that name or of the
        organisation's.
    revision
        Branch, tag or commit on the Hub; its main branch without.

    Raises
    ------
    UserError
        If the model cannot be fetched, or what came is not a whole checkpoint; for the revision of a folder; or,
        without a revision, for a folder that is missing from one that is there: somebody else's ``models/pretrained``
        may be on the Hub.
    """
    if isinstance(model, str) and is_hub_name(model):
        parent = Path(model).parent
        if revision is None and parent.is_dir():
            raise UserError(
                f"{model}: there is a folder {parent} here, and no folder {model}.",
                mend=f"name a folder with {CONFIG} in it; for {model} on the Hub give a revision too, such as main",
            )
        return _fetched(model, revision=revision)
    if revision is not None:
        raise UserError(
            f"{model}: a folder has no revision {revision!r}.",
            mend="leave the revision out, or name a model on the Hub as organisation/name",
        )
    return Path(model)


def is_hub_name(model: str) -> bool:
    """Say whether this is ``organisation/name`` and no folder."""
    return _NAME.fullmatch(model) is not None and not Path(model).is_dir()


def push_checkpoint(
    folder: Path, name: str, *, card: str, public: bool = False, under_terms: Sequence[str] = ()
) -> Pushed:
    """Send the files of a checkpoint and its card as one commit.

    Parameters
    ----------
    folder
        Of the checkpoint; nothing else in it is sent.
    name
        ``organisation/name``, made if it is not there.
    card
        Text of its ``README.md``.
    public
        Whether all may see it if it is made now; what is there already stays as it is.
    under_terms
        Datasets it learned from whose terms a person accepted: it is then sent only where it is private.

    Raises
    ------
    UserError
        If there is no token, the checkpoint is not whole, all would see what is under terms, or the Hub does not take
        it.
    """
    token = _token()
    if not token:
        raise UserError(
            f"{name}: nothing is sent to the Hub without a token.", mend=f"set {TOKEN} to one that may write"
        )
    if _NAME.fullmatch(name) is None:
        raise UserError(f"{name!r} is no name on the Hub.", mend="write it as organisation/name")
    problem = _problem(folder)
    if problem:
        raise UserError(
            f"{folder}: not a whole model: {problem}.", mend="restore it with `dvc checkout`, or train it again"
        )
    client = _client(f"{name}: to send a model")
    with _explained(name, client):
        hub = client.HfApi(token=token, library_name="neurofm", library_version=neurofm.__version__)
        hub.create_repo(name, private=not public, exist_ok=True)
        # What was there already may be for all to see, whatever was asked for.
        if under_terms and not hub.repo_info(name).private:
            raise UserError(
                f"{name}: all can see it on the Hub, and the model learned from data whose terms a person accepted: "
                f"{', '.join(under_terms)}.",
                mend="make it private there, or send the model to another name",
            )
        contents = {CARD: card.encode()} | {file: (folder / file).read_bytes() for file in FILES}
        commit = hub.create_commit(
            repo_id=name,
            operations=[
                client.CommitOperationAdd(path_in_repo=file, path_or_fileobj=content)
                for file, content in contents.items()
            ],
            commit_message=f"Checkpoint of neurofm {neurofm.__version__}",
        )
    return Pushed(url=str(commit.commit_url), revision=str(commit.oid))


def _fetched(name: str, *, revision: str | None) -> Path:
    client = _client(f"{name}: there is no such folder, and to fetch it from the Hub")
    what = name if revision is None else f"{name} at {revision}"
    with _explained(what, client):
        # Names without wildcards: whatever else is listed, `weights.pkl` or `../config.json`, is not asked for.
        folder = client.snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(FILES),
            token=_token() or False,  # False: nor one that somebody left in a file.
            library_name="neurofm",
            library_version=neurofm.__version__,
        )
    problem = _strayed(Path(folder)) or _problem(Path(folder))
    if problem:
        raise UserError(
            f"{what}: what the Hub has is not a whole model of neurofm: {problem}.",
            mend=f"choose another revision; if it was whole before, remove {folder} and fetch it again",
        )
    return Path(folder)


def _strayed(folder: Path) -> str:
    """Say which file the client was made to write elsewhere; empty where none was.

    It names what it keeps by the server's ETag, as it stands (2.4.0): ``../../x`` leads out of its cache. That has
    happened by now; here it does not pass unseen.
    """
    blobs = folder.parents[1] / "blobs"
    for file in FILES:
        if (folder / file).is_symlink():
            target = Path(os.path.normpath(folder / (folder / file).readlink()))
            if target.parent != blobs:
                return f"{file} was put at {target}, outside the cache"
    return ""


def _problem(folder: Path) -> str:
    """Say what is missing or changed of a checkpoint; empty where nothing is."""
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        return f"{missing[0]} is missing"
    try:
        config = read_config(folder)
        for file in FILES:
            if file != CONFIG:
                refuse_changed((folder / file).read_bytes(), config["files"][file], name=file)
    except UserError as error:
        return error.problem.rstrip(".")
    except (OSError, ValueError, KeyError, TypeError) as error:
        return " ".join(str(error).split())
    return ""


def _token() -> str:
    return os.environ.get(TOKEN, "").strip()


def _client(what: str) -> Any:
    """Import the client where it is needed: it takes half a second."""
    try:
        import huggingface_hub.constants  # noqa: PLC0415
        import huggingface_hub.errors  # noqa: PLC0415
    except ImportError:
        raise UserError(f"{what} needs huggingface_hub.", mend="install `neurofm[hub]`") from None
    return huggingface_hub


@contextmanager
def _explained(what: str, client: Any) -> Iterator[None]:
    """Say in one line why the Hub does not give or take it, never with the token."""
    from httpx2 import HTTPError  # noqa: PLC0415

    try:
        yield
    except (OSError, ValueError, RuntimeError, HTTPError) as error:
        for kind, problem, mend in _REASONS:
            if isinstance(error, getattr(client.errors, kind)):
                raise UserError(f"{what} {problem} ({client.constants.ENDPOINT}).", mend=mend) from None
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in _REFUSED:
            raise UserError(
                f"{what}: the Hub refuses this with status {status}.",
                mend=f"set {TOKEN} to a token that may do it",
            ) from None
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(
            f"{what}: {_without_token(said)}.", mend="try again; if it stays so, look at the model's page on the Hub"
        ) from None


def _without_token(text: str) -> str:
    token = _token()
    return text.replace(token, "***") if token else text
