"""Archive: a zip that somebody else may have made, refused before anything of it is written where it is not safe."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from neurofm.errors import UserError
from neurofm.operations.challenge.contract import SUBMISSION

MOST_BYTES = 2 << 30
"""Unpacked, together."""
MOST_FILES = 100
MOST_TIMES = 1000
"""How much larger a file may be unpacked: weights shrink little, and a bomb a thousand times."""
_ENCRYPTED = 0x1
_PIECE = 1 << 20
_MEND = "pack it anew with `neurofm challenge package`, or zip the files themselves and not their folder"


def look(path: Path) -> list[zipfile.ZipInfo]:
    """Look through a submission's list of files.

    Raises
    ------
    UserError
        If it is no zip, has folders, names that lead elsewhere, links, names twice, encrypted files or more bytes than
        a submission needs, or no ``submission.py``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file.", mend="neurofm challenge package") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise UserError(f"{path}: no readable zip: {error}.", mend=_MEND) from None
    for entry in entries:
        if wrong := _wrong(entry):
            raise UserError(f"{path}: {entry.filename!r} {wrong}.", mend=_MEND)
    names = [entry.filename for entry in entries]
    total = sum(entry.file_size for entry in entries)
    for is_wrong, problem in (
        (len(names) > MOST_FILES, f"{len(names)} files, at most {MOST_FILES} are unpacked"),
        (len({name.lower() for name in names}) < len(names), "a name is in it twice"),
        (total > MOST_BYTES, f"unpacks to {total / 1e9:.1f} GB, at most {MOST_BYTES / 1e9:.1f} GB are unpacked"),
        (SUBMISSION not in names, f"no {SUBMISSION} at its top level"),
    ):
        if is_wrong:
            raise UserError(f"{path}: {problem}.", mend=_MEND)
    return entries


def unpack(path: Path, folder: Path) -> None:
    """Unpack a submission into an empty folder; no more of a file than the zip's list says.

    Raises
    ------
    UserError
        As `look`, or for a file that is damaged or longer than the list says.
    """
    for entry in look(path):
        try:
            with (
                zipfile.ZipFile(path) as archive,
                archive.open(entry) as packed,
                (folder / entry.filename).open("xb") as file,
            ):
                written = 0
                while piece := packed.read(_PIECE):
                    written += len(piece)
                    if written > entry.file_size:
                        raise UserError(f"{path}: {entry.filename!r} is longer than it says.", mend=_MEND)
                    file.write(piece)
        except (OSError, EOFError, zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError) as error:
            raise UserError(f"{path}: {entry.filename!r} cannot be unpacked: {error}.", mend=_MEND) from None


def _wrong(entry: zipfile.ZipInfo) -> str:
    """Say what is wrong with a file of a zip; nothing if nothing is."""
    name = entry.orig_filename
    kind = stat.S_IFMT(entry.external_attr >> 16)
    for is_wrong, problem in (
        ("\0" in name or not name, "is no name"),
        (PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).drive), "leads out of the folder"),
        (".." in PurePosixPath(name).parts or ".." in PureWindowsPath(name).parts, "leads out of the folder"),
        (kind == stat.S_IFLNK, "is a link"),
        (kind not in (0, stat.S_IFREG, stat.S_IFDIR), "is no plain file"),
        (entry.is_dir() or "/" in name or "\\" in name, "is in a folder: the organisers want a single level"),
        (bool(entry.flag_bits & _ENCRYPTED), "is encrypted"),
        (entry.file_size > MOST_TIMES * max(entry.compress_size, _PIECE), "unpacks to more than it should"),
    ):
        if is_wrong:
            return problem
    return ""
