"""Source `local`: a folder of the user's. Files are read where they are, never copied."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from neurofm.catalog import CatalogEntry, LocalSource
from neurofm.errors import UserError
from neurofm.files import sha256_of
from neurofm.progress import Progressing
from neurofm.recording import Manifest, ManifestFile, ManifestRecording
from neurofm.recording.manifest import safe_relative_path
from neurofm.sources.recordings import recordings_of
from neurofm.sources.selection import chosen_recordings, used_paths

_ZARR_NAMES = frozenset({".zgroup", ".zarray", ".zattrs", ".zmetadata"})
"""Without them a Zarr v2 array, as minian writes it, is only chunks."""


def manifest(entry: CatalogEntry, *, root: Path, max_subjects: int | None = None) -> Manifest:
    """Return the manifest of the files that are in the folder now.

    Only files that belong to a chosen recording (main, roles, extra) are hashed and listed.

    Parameters
    ----------
    entry
        Its source is a `LocalSource`.
    root
        The project's root; a relative ``source.path`` starts there.
    max_subjects
        At most so many subjects; None takes all.

    Raises
    ------
    UserError
        If the folder is missing, the files do not make recordings, or a file that is needed has a hostile name, is
        unreadable or is a link that leads out of the folder.
    """
    source = entry.source
    assert isinstance(source, LocalSource)
    recordings, sizes = files_of(entry, root=root, max_subjects=max_subjects)
    return Manifest(
        dataset=entry.id,
        archive=source.archive,
        source_id=source.path,
        version=source.version,
        files=_hashed(root / source.path, sizes, dataset=entry.id),
        recordings=recordings,
    )


def files_of(
    entry: CatalogEntry, *, root: Path, max_subjects: int | None = None
) -> tuple[tuple[ManifestRecording, ...], dict[str, int]]:
    """Return the recordings of a folder, and the bytes of each file that they need; no file is opened.

    Parameters, and what is raised, are those of `manifest`.
    """
    source = entry.source
    assert isinstance(source, LocalSource)
    where = str(root / "data" / "catalog" / f"{entry.id}.yaml")
    folder = root / source.path
    if not is_folder(folder):
        raise UserError(f"{where}: `source.path`: {folder} is not a folder.", mend=how_to_get(source))
    recordings = recordings_of(scan(folder), entry.recordings, namespace=entry.subject_namespace, where=where)
    recordings = chosen_recordings(recordings, max_subjects=max_subjects)
    try:
        return recordings, {path: (folder / path).stat().st_size for path in sorted(used_paths(recordings))}
    except OSError as error:
        raise _unread(error) from None


def how_to_get(source: LocalSource) -> str:
    """Say what to do about a folder that is not there; for data that nobody may hand on, how to apply for them."""
    if not source.apply:
        return "correct the path, or mount the disk that holds it"
    return f"{' '.join(source.apply.split())} Put or link the files at {source.path}, or correct `source.path`"


def scan(folder: Path) -> list[str]:
    """List the files under `folder`, sorted, relative to it.

    Names that begin with a dot are left out, but for those of Zarr v2.

    Raises
    ------
    UserError
        If a link leads out of the folder, or a name is hostile (control characters, backslashes).
    """
    return sorted(_files_under(folder))


def _files_under(folder: Path) -> Iterator[str]:
    inside = folder.resolve()
    for here, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in (*folders, *names):
            path = Path(here, name)
            if name.startswith(".") and name not in _ZARR_NAMES:
                continue
            if path.is_symlink() and not _resolved(path).is_relative_to(inside):
                raise UserError(
                    f"{path} is a link that leads out of {folder}.", mend="put the files themselves there, or remove it"
                )
            if name in names:
                yield _plain(path, folder)


def is_folder(path: Path) -> bool:
    """Whether it is there and may be looked at."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # Python 3.11 raises RuntimeError for links that lead in a circle.
        raise UserError(f"{path} is a link that leads nowhere or in a circle.", mend="mend or remove it") from None


def _plain(path: Path, folder: Path) -> str:
    try:
        return safe_relative_path(path.relative_to(folder).as_posix())
    except ValueError as error:
        raise UserError(f"{folder}: {error}.", mend="rename the file without control characters or \\") from None


def _unreadable(error: OSError) -> None:
    raise UserError(f"{error.filename}: {error.strerror}.", mend="make the folder readable") from error


def _hashed(folder: Path, sizes: Mapping[str, int], *, dataset: str) -> tuple[ManifestFile, ...]:
    try:
        files = []
        with Progressing(f"hash {dataset}", total=sum(sizes.values()), unit="bytes") as progress:
            for path, size in sizes.items():
                files.append(
                    ManifestFile(path=path, size=size, digest=f"sha256:{sha256_of(folder / path)}", origin="file")
                )
                progress.advance(size, note=path)
    except OSError as error:
        raise _unread(error) from None
    return tuple(files)


def _unread(error: OSError) -> UserError:
    return UserError(
        f"{error.filename}: {error.strerror}.", mend="make the file readable, or remove it from the folder"
    )
