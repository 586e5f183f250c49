"""`params.yaml` and `site.yaml`: every setting, validated before any stage starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from neurofm.catalog import LocalSource, load_entry, read_yaml
from neurofm.errors import UserError
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.fetch.hosts import FetchSite
from neurofm.preprocess import Common, calcium, eeg, fmri, miniscope, spikes
from neurofm.recording import Modality
from neurofm.report.settings import ReportSettings
from neurofm.settings import Settings
from neurofm.splits import SplitSettings
from neurofm.training.settings import PretrainSettings
from neurofm.windows import WindowsSettings

PARAMS = Path("params.yaml")
SITE = Path("site.yaml")


class Dataset(Settings):
    """A dataset that takes part: its modality and reader choose which code its stages depend on."""

    modality: Modality
    reader: str


class StreamedDataset(Dataset):
    """A dataset whose raw files are fetched one recording at a time and never kept."""


class LocalDataset(Dataset):
    """A dataset in a folder of the user's."""

    path: str


class PreprocessParams(Settings):
    """`preprocess`: what all modalities share, and one section each."""

    common: Common
    spikes: spikes.ModalitySettings
    calcium: calcium.ModalitySettings
    miniscope: miniscope.ModalitySettings
    fmri: fmri.ModalitySettings
    eeg: eeg.ModalitySettings
    max_failed_fraction: float = Field(ge=0, le=1)
    """Share of a dataset's recordings that may fail before its stage does."""

    def of(self, modality: Modality) -> Settings:
        """Return the section of `modality`."""
        section: Settings = getattr(self, modality.value)
        return section


class Params(Settings):
    """`params.yaml`: one section per stage. Whatever changes bytes is here, and nothing else."""

    datasets: dict[str, Dataset]
    local: dict[str, LocalDataset]
    streamed: dict[str, StreamedDataset]
    preprocess: PreprocessParams
    windows: WindowsSettings
    split: SplitSettings
    pretrain: PretrainSettings
    evaluate: EvaluateSettings
    report: ReportSettings

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if twice := sorted(self.datasets.keys() & self.local.keys()):
            raise ValueError(f"{twice[0]} stands under `datasets` and under `local`; keep one")
        return self

    @property
    def all_datasets(self) -> dict[str, Dataset]:
        """Every dataset by id."""
        return {**self.datasets, **self.local}


class Site(Settings):
    """`site.yaml`: where and how things run. Never changes a byte of any result."""

    workers: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    """Processes that run side by side."""
    fetch: FetchSite = Field(default_factory=FetchSite)
    """How archives are reached: hosts, connections, patience."""
    disk_budget_gb: float = Field(default=50.0, gt=0)
    """Most that raw files of streamed datasets may take at any moment, 10^9 bytes."""
    bandwidth_mb_s: float = Field(default=20.0, gt=0)
    """For the hours that preflight foretells, 10^6 bytes a second."""
    price_per_gb_month: float = Field(default=0.023, ge=0)
    """Of the storage that artefacts are kept on, for what preflight foretells."""


def load_params(root: Path = Path()) -> Params:
    """Read and validate ``params.yaml`` and every catalogue entry that it names.

    Raises
    ------
    UserError
        In one line that names the key.
    """
    path = root / PARAMS
    params = Params.parse(
        read_yaml(path), where=str(path), mend="correct that key; docs/settings.md says what each one means"
    )
    for dataset, chosen in params.all_datasets.items():
        entry = load_entry(dataset, root=root)
        for key, here, there in (
            ("modality", chosen.modality, entry.modality),
            ("reader", chosen.reader, entry.reader),
        ):
            if here != there:
                raise UserError(
                    f"{path}: `{dataset}.{key}` is {here!s}, data/catalog/{dataset}.yaml says {there!s}.",
                    mend="make them equal",
                )
        in_local = dataset in params.local
        is_local = isinstance(entry.source, LocalSource)
        if in_local != is_local:
            raise UserError(
                f"{path}: `{dataset}` stands under `{'local' if in_local else 'datasets'}`, "
                f"but its catalogue entry's source is {entry.source.archive!r}.",
                mend=f"move it to `{'local' if is_local else 'datasets'}`",
            )
        if isinstance(entry.source, LocalSource) and entry.source.path != params.local[dataset].path:
            raise UserError(
                f"{path}: `local.{dataset}.path` is {params.local[dataset].path!r}, "
                f"data/catalog/{dataset}.yaml says {entry.source.path!r}.",
                mend="make them equal",
            )
    return params


def load_site(root: Path = Path()) -> Site:
    """Read ``site.yaml``; without one the defaults hold."""
    path = root / SITE
    if not path.is_file():
        return Site()
    return Site.parse(read_yaml(path) or {}, where=str(path), mend="correct that key; see site.example.yaml")
