"""Which objects artefacts are made of, and which of them are here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from neurofm.errors import UserError
from neurofm.remote.project import Artefact, DvcProject, folder_list


@dataclass(frozen=True, kw_only=True)
class Blob:
    """One object: a file, or the list of a folder's files."""

    oid: str
    path: str
    """Of the artefact's file, for messages."""
    cached: Path

    @property
    def key(self) -> str:
        """Its name below the remote's ``files/md5/``."""
        return f"{self.oid[:2]}/{self.oid[2:]}"

    @property
    def md5(self) -> str:
        """What the MD5 of its bytes must be."""
        return self.oid.removesuffix(".dir")


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The objects of some artefacts."""

    files: dict[str, Blob]
    """By oid; a file that stands in several folders is one object."""
    folders: dict[str, frozenset[str]]
    """Oids of a folder's files, by the oid of its list; only where the list is known."""
    lists: dict[str, Blob]
    """Lists of folders by oid; sent last, so that a list that is there says that its files are."""


def list_blobs(project: DvcProject, artefacts: Iterable[Artefact]) -> dict[str, Blob]:
    """Return the lists of the folders among `artefacts`, by oid."""
    return {item.oid: _blob(project, item.oid, item.path) for item in artefacts if item.is_folder}


def contents_of(
    project: DvcProject, artefacts: Iterable[Artefact], *, fetched: Mapping[str, bytes] | None = None
) -> Contents:
    """Return what artefacts are made of.

    Parameters
    ----------
    project
        Whose cache has the lists of folders.
    artefacts
        Of a folder whose list is nowhere, only the list itself is told.
    fetched
        Lists that are not in the cache, by oid.

    Raises
    ------
    UserError
        If a list in the cache is damaged.
    """
    known = dict(fetched or {})
    files: dict[str, Blob] = {}
    folders: dict[str, frozenset[str]] = {}
    lists: dict[str, Blob] = {}
    for item in artefacts:
        blob = _blob(project, item.oid, item.path)
        if not item.is_folder:
            files.setdefault(item.oid, blob)
            continue
        lists[item.oid] = blob
        with suppress(FileNotFoundError):
            known[item.oid] = blob.cached.read_bytes()
        if item.oid not in known:
            continue
        try:
            named = folder_list(known[item.oid])
        except ValueError as error:
            raise UserError(f"{blob.cached}: {error}.", mend="remove that file, then `neurofm pull`") from None
        folders[item.oid] = frozenset(oid for _, oid in named)
        for path, oid in named:
            files.setdefault(oid, _blob(project, oid, f"{item.path}/{path}"))
    return Contents(files=files, folders=folders, lists=lists)


def _blob(project: DvcProject, oid: str, path: str) -> Blob:
    return Blob(oid=oid, path=path, cached=project.cached(oid))
