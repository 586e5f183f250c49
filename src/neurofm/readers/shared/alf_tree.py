"""A session's ALF files (IBL): which of several revisions counts, and objects as ONE-api loads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from one.alf import io as alfio
from one.alf.path import ALFPath
from one.util import filter_revision_last_before

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import opening
from neurofm.recording import Unreadable


@dataclass(frozen=True, kw_only=True)
class SessionTree:
    """The files of one session that a recording may read, one revision of each."""

    session: str
    """``lab/Subjects/subject/date/number``, or what of it the paths have."""
    files: tuple[ALFPath, ...]

    def find(self, name: str, attribute: str = "", *, collection: str | None = None) -> tuple[ALFPath, ...]:
        """Return the files of the object `name`, in the order of their paths.

        Parameters
        ----------
        name
            The object: ``spikes``, ``trials``, ``wheel``.
        attribute
            Only this one; empty for all.
        collection
            Only in this folder of the session (``alf/probe00/pykilosort``); None for every folder.
        """
        return tuple(
            file
            for file in self.files
            if file.object == name
            and (not attribute or _attribute(file) == attribute)
            and (collection is None or file.collection == collection)
        )

    def one(self, name: str, attribute: str, *, collections: Sequence[str] | None = None) -> Any:
        """Return the content of a single file, from the first folder that has it; None where none has.

        Raises
        ------
        Unreadable
            If the file is damaged.
        """
        for collection in collections if collections is not None else [None]:
            if files := self.find(name, attribute, collection=collection):
                return load(files[:1])[attribute]
        return None


def session_tree(source: ReaderInput, *, revision: str) -> SessionTree:
    """Return the session that a recording's main file belongs to, with its side files.

    Parameters
    ----------
    source
        The main file and the side files, below ``lab/Subjects/subject/date/number/``.
    revision
        As in ``one.load_dataset(.., revision=..)``: of a dataset that lies in several folders ``#2024-05-06#`` the
        latest that is not after this date counts (and one without a folder is the oldest); empty for the latest.

    Raises
    ------
    Unreadable
        If the main file lies in no session's folder, or nothing is left of it.
    """
    main = ALFPath(source.path())
    session = main.session_path()
    if session is None:
        raise Unreadable(f"{main.name}: it does not lie in a session's folder, subject/date/number/alf/..")
    paths = [ALFPath(source.root / path) for path in sorted({*source.entry.files.values(), *source.entry.extra})]
    paths = [path for path in paths if path.is_dataset() and path.is_relative_to(session)]
    # UUIDs, which a plain copy of the bucket keeps in the names, differ between revisions of one dataset.
    names = [path.without_uuid().relative_to(session).as_posix() for path in paths]
    table = pd.DataFrame({"rel_path": names, "number": range(len(paths))})
    with opening(source.path()):
        chosen = filter_revision_last_before(table, revision or None, assert_unique=False)["number"]
    kept = tuple(paths[number] for number in sorted(chosen))
    if not any(path.object == main.object and _attribute(path) == _attribute(main) for path in kept):
        raise Unreadable(f"{main.name}: there is no revision of it as old as {revision}")
    return SessionTree(session=session.relative_to(source.root).as_posix(), files=kept)


def _attribute(file: ALFPath) -> str:
    """Return the attribute with its timescale (``brainLocationIds_ccf_2017``), as ONE-api names it in an object."""
    return "_".join(filter(None, (file.attribute, file.timescale)))


def _holds_objects(file: Path) -> bool:
    with file.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = header(stream)
    return bool(dtype.hasobject)


def load(files: Sequence[Path]) -> dict[str, Any]:
    """Load files of one object as ONE-api does: content per attribute, columns of a ``table`` each on its own.

    Raises
    ------
    Unreadable
        For a damaged file, or one that would run code when it is loaded (ONE-api itself allows pickles).
    """
    for file in files:
        with opening(file):
            if file.suffix == ".npy" and _holds_objects(file):
                raise Unreadable(f"{file.name}: it holds Python objects (a pickle), which could run code when loaded")
    with opening(files[0]):
        return dict(alfio.load_object(list(files), short_keys=True))
