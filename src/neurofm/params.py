"""`params.yaml` and `site.yaml`: every setting, validated before any stage starts."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from neurofm.catalog import CatalogEntry, LocalSource, load_entry, read_yaml
from neurofm.catalog.entry import DATASET_ID
from neurofm.connectivity.settings import ConnectivitySettings
from neurofm.containers import ContainersSite
from neurofm.derivatives.settings import DerivativesSettings
from neurofm.errors import UserError
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.fetch.hosts import FetchSite
from neurofm.preprocess import Common, calcium, eeg, fmri, miniscope, spikes
from neurofm.preprocess.meg import ModalitySettings as MegSettings
from neurofm.recording import Modality
from neurofm.report.settings import ReportSettings
from neurofm.settings import Settings
from neurofm.slices.settings import SliceSettings
from neurofm.splits import SplitSettings
from neurofm.training.settings import FinetuneSettings, PretrainSettings
from neurofm.training.site import TrainingSite
from neurofm.units import UnitsSite
from neurofm.windows import WindowsSettings
from neurofm.windows.policy import StoreSite

PARAMS = Path("params.yaml")
SITE = Path("site.yaml")
EXECUTOR = "NEUROFM_EXECUTOR"
"""Variable of the environment: `executor` of site.yaml, for once."""
CONTAINER = "NEUROFM_CONTAINER"
"""Variable of the environment: `container` of site.yaml, for once; 1 or 0."""
GROUPS = ("datasets", "streamed", "local")
"""Sections of params.yaml that name datasets: kept raw, never kept, read where they lie."""
WITH_ENTRIES = (*GROUPS, "bids")
"""Those, and the one that names raw BIDS to be preprocessed: all have a catalogue entry and a manifest."""
_NAMED = (*WITH_ENTRIES, "derivatives")


class Dataset(Settings):
    """A dataset that takes part: its modality and reader choose which code its stages depend on."""

    modality: Modality
    reader: str
    max_subjects: int | None = Field(default=None, ge=1)
    """Take no more subjects than this (which ones, is drawn from their names alone); None takes all."""


class StreamedDataset(Dataset):
    """A dataset whose raw files are fetched one recording at a time and never kept."""


class LocalDataset(Dataset):
    """A dataset in a folder of the user's."""

    path: str


class RawBids(Settings):
    """A raw BIDS dataset of an archive, which becomes derivatives before it becomes shards."""

    max_subjects: int | None = Field(default=None, ge=1)
    """As in `Dataset`."""


class PreprocessParams(Settings):
    """`preprocess`: what all modalities share, and one section each."""

    common: Common
    spikes: spikes.ModalitySettings
    calcium: calcium.ModalitySettings
    miniscope: miniscope.ModalitySettings
    fmri: fmri.ModalitySettings
    eeg: eeg.ModalitySettings
    meg: MegSettings = Field(default_factory=MegSettings)
    max_failed_fraction: float = Field(ge=0, le=1)
    """Share of a dataset's recordings that may fail before its stage does."""

    def of(self, modality: Modality) -> Settings:
        """Return the section of `modality`."""
        section: Settings = getattr(self, modality.value)
        return section


class Params(Settings):
    """`params.yaml`: one section per stage. Whatever changes bytes is here, and nothing else."""

    datasets: dict[str, Dataset]
    streamed: dict[str, StreamedDataset]
    local: dict[str, LocalDataset]
    bids: dict[str, RawBids] = Field(default_factory=dict)
    derivatives: dict[str, DerivativesSettings] = Field(default_factory=dict)
    preprocess: PreprocessParams
    windows: WindowsSettings
    split: SplitSettings
    pretrain: PretrainSettings
    finetune: dict[str, FinetuneSettings] = Field(default_factory=dict)
    evaluate: EvaluateSettings
    connectivity: ConnectivitySettings
    slice: SliceSettings
    report: ReportSettings

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        groups = {name: getattr(self, name) for name in _NAMED}
        for (one, first), (other, second) in combinations(groups.items(), 2):
            if twice := sorted(first.keys() & second.keys()):
                raise ValueError(f"{twice[0]} stands under `{one}` and under `{other}`; keep one")
        return self

    @model_validator(mode="after")
    def _ids_are_plain(self) -> Self:
        # They become names of folders; those of the other groups are names of catalogue entries.
        for group, name in (
            *(("derivatives", name) for name in self.derivatives),
            *(("finetune", n) for n in self.finetune),
        ):
            if not re.fullmatch(DATASET_ID, name):
                raise ValueError(f"{group}.{name}: an id has small letters, digits and hyphens")
        return self

    @property
    def all_datasets(self) -> dict[str, Dataset]:
        """Every dataset that becomes shards, by id."""
        return {**self.datasets, **self.streamed, **self.local}

    @property
    def known_folds(self) -> int | None:
        """How many folds there are; None with `split.leave_out`, where the shards alone say it."""
        return None if self.split.leave_out else self.split.folds

    def max_subjects_of(self, dataset: str) -> int | None:
        """Return how many subjects of a dataset take part at most, of one that becomes derivatives too."""
        return (self.bids | self.all_datasets)[dataset].max_subjects


class Site(UnitsSite, ContainersSite):
    """`site.yaml`: where and how things run. Changes no byte of any result, but for how GPUs and FSDP2 round."""

    fetch: FetchSite = Field(default_factory=FetchSite)
    """How archives are reached: hosts, connections, patience."""
    fmriprep_docker: bool = False
    """Run fMRIPrep through its authors' wrapper, `fmriprep-docker`, instead of the engine itself."""
    store: StoreSite = Field(default_factory=StoreSite)
    """Where training keeps decoded samples."""
    training: TrainingSite = Field(default_factory=TrainingSite)
    """Who watches over training."""
    disk_budget_gb: float = Field(default=50.0, gt=0)
    """Most that raw files of streamed datasets may take at any moment, 10^9 bytes."""
    bandwidth_mb_s: float = Field(default=20.0, gt=0)
    """For the hours that preflight foretells, 10^6 bytes a second."""
    price_per_gb_month: float = Field(default=0.023, ge=0)
    """Of the storage that artefacts are kept on, for what preflight foretells."""
    price_per_hour: float = Field(default=0.0, ge=0)
    """Of the machine that stages run on, for what preflight foretells and training says; 0 where nobody sends a
    bill."""


def load_params(root: Path = Path(), *, dataset: str = "", groups: tuple[str, ...] = GROUPS) -> Params:
    """Read and validate ``params.yaml`` and every catalogue entry that it names.

    Parameters
    ----------
    root
        The project's root.
    dataset, groups
        For a stage that does one dataset: which, and the groups that the stage is for.

    Raises
    ------
    UserError
        In one line that names the key; or if `dataset` stands in none of `groups`, for a stage that is run by hand.
    """
    path = root / PARAMS
    params = check_params(read_yaml(path), root=root, where=str(path))
    if dataset and not any(dataset in getattr(params, group) for group in groups):
        there = next((f"under `{group}`" for group in _NAMED if dataset in getattr(params, group)), "in no group")
        raise UserError(
            f"{path}: `{dataset}` stands {there}; this stage is for {' and '.join(f'`{group}`' for group in groups)}.",
            mend="run the stage of its group (`stream` for `streamed`, `preprocess` for the others), or correct the id",
        )
    return params


def check_params(content: Any, *, root: Path, where: str, entries: Mapping[str, CatalogEntry] | None = None) -> Params:
    """Validate the content of ``params.yaml``, and every catalogue entry that it names.

    Parameters
    ----------
    content
        Plain data, as YAML gives it.
    root
        The project's root, for the catalogue.
    where
        What the errors call the file.
    entries
        Those that are about to be written to the catalogue.

    Raises
    ------
    UserError
        In one line that names the key.
    """
    new = entries or {}
    params = Params.parse(content, where=where, mend="correct that key; docs/settings.md says what each one means")
    if strangers := sorted(params.pretrain.dataset_shares.keys() - params.all_datasets.keys()):
        raise UserError(
            f"{where}: `pretrain.dataset_shares.{strangers[0]}`: this dataset does not take part.",
            mend="correct the id, or remove it there",
        )
    _refuse_unknown_to_finetune(params, where=where)
    for dataset, chosen in params.all_datasets.items():
        entry = new.get(dataset) or load_entry(dataset, root=root)
        for key, here, there in (
            ("modality", chosen.modality, entry.modality),
            ("reader", chosen.reader, entry.reader),
        ):
            if here != there:
                raise UserError(
                    f"{where}: `{dataset}.{key}` is {here!s}, data/catalog/{dataset}.yaml says {there!s}.",
                    mend="make them equal",
                )
        _refuse_wrong_group(params, entry, where=where)
        params.windows.of(entry.modality)
    for dataset in params.bids:
        _refuse_wrong_source(load_entry(dataset, root=root), where=where)
    return params


def _refuse_unknown_to_finetune(params: Params, *, where: str) -> None:
    """Refuse what learns on from datasets that take no part, or in folds that there are not."""
    for name, chosen in params.finetune.items():
        if strangers := sorted(set(chosen.datasets) - params.all_datasets.keys()):
            raise UserError(
                f"{where}: `finetune.{name}.datasets`: {strangers[0]} does not take part.",
                mend="correct the id, or add the dataset",
            )
        folds, last = params.known_folds, max(chosen.folds)
        if folds is not None and last >= folds:
            raise UserError(
                f"{where}: `finetune.{name}.folds`: there is no fold {last}, `split.folds` is {folds}.",
                mend=f"choose from 0 to {folds - 1}",
            )


def _refuse_wrong_source(entry: CatalogEntry, *, where: str) -> None:
    """Refuse raw BIDS that is here already, or that nobody may hand on."""
    if isinstance(entry.source, LocalSource):
        raise UserError(
            f"{where}: `{entry.id}` stands under `bids`, and is a folder of yours.",
            mend="leave it out there, and name the folder in `derivatives.<id>.bids`",
        )
    if not entry.redistribute:
        raise UserError(
            f"{where}: `{entry.id}` stands under `bids`, whose raw files `dvc push` would put on a remote, but its "
            "terms forbid handing them on (`redistribute: false` in its catalogue entry).",
            mend="get the files by yourself, and name their folder in `derivatives.<id>.bids`",
        )


def _refuse_wrong_group(params: Params, entry: CatalogEntry, *, where: str) -> None:
    """Refuse a dataset that stands in a group which its source, or its licence, does not allow."""
    (group,) = (name for name in GROUPS if entry.id in getattr(params, name))
    is_local = isinstance(entry.source, LocalSource)
    if is_local != (group == "local"):
        raise UserError(
            f"{where}: `{entry.id}` stands under `{group}`, but its catalogue entry's source is "
            f"{entry.source.archive!r}.",
            mend=f"move it to `{'local' if is_local else 'datasets' if entry.redistribute else 'streamed'}`",
        )
    if isinstance(entry.source, LocalSource) and entry.source.path != params.local[entry.id].path:
        raise UserError(
            f"{where}: `local.{entry.id}.path` is {params.local[entry.id].path!r}, "
            f"data/catalog/{entry.id}.yaml says {entry.source.path!r}.",
            mend="make them equal",
        )
    if group == "datasets" and not entry.redistribute:
        raise UserError(
            f"{where}: `{entry.id}` stands under `datasets`, whose raw files `dvc push` would put on a remote, but its "
            "terms forbid handing them on (`redistribute: false` in its catalogue entry).",
            mend="move it to `streamed`, which keeps shards and no raw files",
        )


def load_site(root: Path = Path()) -> Site:
    """Read ``site.yaml``; without one the defaults hold.

    NEUROFM_EXECUTOR and NEUROFM_CONTAINER in the environment stand above it.
    """
    path = root / SITE
    content = (read_yaml(path) or {}) if path.is_file() else {}
    where = str(path)
    if executor := os.environ.get(EXECUTOR):
        content, where = {**content, "executor": executor}, f"{where} and ${EXECUTOR}"
    if container := os.environ.get(CONTAINER):
        chosen = {"1": True, "0": False}.get(container, container)
        content, where = {**content, "container": chosen}, f"{where} and ${CONTAINER}"
    return Site.parse(content, where=where, mend="correct that key; see site.example.yaml")
