"""A catalogue entry: what a dataset is, where it comes from, on which terms, and what to expect of it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, JsonValue, field_validator

from neurofm.catalog.source import HttpSource, ListedSource, LocalSource, RegistrySource
from neurofm.recording import Modality
from neurofm.settings import Settings

DATASET_ID = r"^[a-z0-9][a-z0-9-]*$"


class RecordingRule(Settings):
    """How the dataset's files make recordings."""

    pattern: str
    """Regular expression that must match the whole path of a recording's main file. Its named groups are
    ``subject`` (required unless `subject` is given) and, where there are any, ``session``, ``task``, ``run``. Further
    named groups (``acq``) tell recordings apart: they stand in the recording's id and nowhere else."""
    subject: str = ""
    """Subject label where the path does not carry it."""
    respell: dict[Annotated[str, Field(min_length=1)], str] = Field(default_factory=dict)
    """Texts in subject labels and what stands for them: two archives that spell one animal differently
    (``CSH_ZAD_024``, ``CSH-ZAD-024``) must come out alike, or the overlap audit cannot see it."""
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
    native_rate_hz: float | None = None
    """Of the archive's files."""
    files: int | None = None
    """Files that the include globs leave; for preflight, before there is a manifest."""
    bytes: int | None = None
    """Size of those files."""


class Terms(Settings):
    """Terms that a person must accept before files are fetched."""

    summary: str = Field(min_length=1)
    """What they ask, in a few lines: shown once."""
    url: str = ""
    account: str = ""
    """Where to register, where an account is needed."""


class CatalogEntry(Settings):
    """``data/catalog/<id>.yaml``."""

    id: str = Field(pattern=DATASET_ID)
    title: str = Field(min_length=1)
    modality: Modality
    reader: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Module in ``neurofm.readers``."""
    reader_options: dict[str, JsonValue] = Field(default_factory=dict)
    """Facts that the files do not carry (TR, atlas, which variable), checked by the reader's own `Options`."""
    source: RegistrySource | LocalSource | HttpSource | ListedSource = Field(discriminator="archive")
    recordings: RecordingRule
    subject_namespace: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Who numbered the subjects. Datasets that share subjects share the namespace, so the overlap audit sees it."""
    clock: str = ""
    """A word that several entries share whose recordings of one subject, session, task and run were made at once, from
    files of their own (EEG in the scanner). What is read from one file needs none."""
    species: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    licence_url: str = ""
    redistribute: bool
    """Whether raw files may be put on a remote that others read. If not, the dataset is streamed or local only."""
    terms: Terms | None = None
    """Terms to accept first, if any."""
    citation: str = Field(min_length=1)
    doi: str = ""
    score: bool = True
    """False: train on it, never score it."""
    score_note: str = ""
    """Why it is not scored, for the report."""
    expect: Expectation = Field(default_factory=Expectation)
    verified: dict[str, bool] = Field(default_factory=dict)
    """Facts of this entry that could not be checked against the archive, by dotted name:
    ``{source.version: false, expect.subjects: false}``. ``neurofm catalog verify`` checks them."""
