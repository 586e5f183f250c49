"""Manifest: every file of a dataset with size, digest and origin, and how files make recordings."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field

from neurofm.settings import Settings


def safe_relative_path(path: str) -> str:
    """Return `path` if it is relative, normalised and stays inside its root.

    Raises
    ------
    ValueError
        For absolute paths, ``..``, backslashes, empty parts and control characters.
    """
    pure = PurePosixPath(path)
    hostile = (
        not path
        or pure.is_absolute()
        or ".." in pure.parts
        or "\\" in path
        or any(ord(character) < 32 for character in path)
        or pure.as_posix() != path
    )
    if hostile:
        msg = f"{path!r} is not a plain relative path"
        raise ValueError(msg)
    return path


SafePath = Annotated[str, AfterValidator(safe_relative_path)]


class ManifestFile(Settings):
    """One file as the archive has it."""

    path: SafePath
    """Where it lies under ``data/raw/<dataset>/`` (or under the user's folder for ``local``)."""
    size: int = Field(ge=0)
    """Bytes."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    origin: str
    """Stable name of where it comes from: ``pypi://pynapple/0.11.4/pynapple-0.11.4.tar.gz#<member>`` or ``file``."""


class ManifestRecording(Settings):
    """One subject x session x run x modality: the files it is read from."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$")
    """Unique in the dataset; the shard is ``<id>.zarr.zip``."""
    subject: str
    """Archive-qualified: ``<namespace>:<label>``."""
    session: str = ""
    run: str = ""
    task: str = ""
    files: dict[str, SafePath]
    """Role to path. ``main`` is the file that the reader opens; readers name the other roles (``labels``)."""
    extra: tuple[SafePath, ...] = ()
    """Further files that the reader may look at (side files): they count as inputs."""


class Manifest(Settings):
    """The pinned, checksummed file list of one dataset: ``data/manifests/<dataset>.json``."""

    dataset: str
    archive: str
    source_id: str
    version: str
    files: tuple[ManifestFile, ...]
    recordings: tuple[ManifestRecording, ...]

    def file(self, path: str) -> ManifestFile:
        """Return the entry of `path`."""
        for entry in self.files:
            if entry.path == path:
                return entry
        raise KeyError(path)
