"""Manifest: every file of a dataset with size, digest and origin, and how files make recordings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated

from pydantic import AfterValidator, Field

from neurofm.settings import Settings

_HOSTILE = re.compile(r"(^|/)\.{0,2}(/|$)|[\\\x00-\x1f]")
"""An empty part (so a slash at either end, too), ``.`` or ``..`` as a part, a backslash, a control character."""


def safe_relative_path(path: str) -> str:
    """Return `path` if it is relative, normalised and stays inside its root.

    Raises
    ------
    ValueError
        For absolute paths, ``.``, ``..``, backslashes, empty parts and control characters.
    """
    if _HOSTILE.search(path):
        msg = f"{path!r} is not a plain relative path"
        raise ValueError(msg)
    return path


SafePath = Annotated[str, AfterValidator(safe_relative_path)]


FIRST_USE = "first-use"
"""Digest of a file for which the archive publishes none: its SHA-256 is taken when it first comes, kept in the ledger
and in the receipts, and demanded from then on."""

_PUBLISHED = (
    "sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}|git-sha1:[0-9a-f]{40}|blake2b:[0-9a-f]{128}"
    "|dandi-etag:[0-9a-f]{32}-[1-9][0-9]*|s3-etag:[0-9a-f]{32}(-[1-9][0-9]*)?"
)
DIGEST = f"^({_PUBLISHED}|{FIRST_USE})$"
"""``git-sha1`` is that of a git blob; an ``s3-etag`` with ``-n`` is that of an upload in n parts."""

GROUP = r"^[^,@]+$"
"""What the path of a group inside an HDF5 file may hold, beside being a `SafePath`."""

_IN_GROUPS = "groups:"
_DIGEST_OR_GROUPS = f"^({_PUBLISHED}|{FIRST_USE}|{_IN_GROUPS}[^@]+@({_PUBLISHED}))$"


def digest_in_groups(whole: str, groups: Iterable[str]) -> str:
    """Return what stands in the place of a digest where only some groups of an HDF5 file are wanted.

    It names the groups and the whole file, ``groups:intervals,units@sha256:..``, so that other groups or another file
    at the archive make another one. No byte that comes is held to it: a part of a file has no published digest.
    """
    return f"{_IN_GROUPS}{','.join(sorted(set(groups)))}@{whole}"


def groups_of(digest: str) -> tuple[str, ...]:
    """Return the groups that are wanted of a file, by its digest; empty where the whole file is."""
    if not digest.startswith(_IN_GROUPS):
        return ()
    return tuple(digest.removeprefix(_IN_GROUPS).partition("@")[0].split(","))


class ManifestFile(Settings):
    """One file as the archive has it."""

    path: SafePath
    """Where it lies under ``data/raw/<dataset>/`` (or under the user's folder for ``local``)."""
    size: int = Field(ge=0)
    """Bytes."""
    digest: str = Field(pattern=_DIGEST_OR_GROUPS)
    """``<kind>:<value>``, in the kind that the archive publishes; or `digest_in_groups`."""
    origin: str
    """Stable address, without secrets: ``s3://bucket/key``, ``https://..``, ``crcns://hc-3/..``, or
    ``pypi://pynapple/0.11.4/pynapple-0.11.4.tar.gz#<member>``, or ``file`` for what is read where it lies."""
    version_id: str = ""
    """Version of an S3 object, where the archive names one: then the address cannot change under us."""


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

    @cached_property
    def by_path(self) -> Mapping[str, ManifestFile]:
        """Every file by its path."""
        return {file.path: file for file in self.files}
