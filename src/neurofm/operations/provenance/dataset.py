"""One dataset: its terms, its files, how each recording was made, what it is used for, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from neurofm.catalog import CatalogEntry
from neurofm.errors import UserError
from neurofm.recording import Manifest, ManifestFile, UnitStatus
from neurofm.report.archives import archive_name
from neurofm.report.written import DatasetQuality
from neurofm.sources import read_manifest
from neurofm.splits import LeftOut, Splits
from neurofm.units import Receipt
from neurofm.units.receipt import read_receipts

_NEVER_RUN = "never run"
_ROLES = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """One file as the archive has it."""

    path: str
    size: int
    digest: str
    origin: str
    version_id: str


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """A recording that takes no part, or only in part."""

    recording: str
    consequence: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Roles:
    """What a dataset is for in one fold."""

    fold: int
    kind: str
    """``subject``, ``session``, ``time`` or ``train-only``."""
    train: tuple[str, ...]
    """Subjects that are learned from."""
    validation: tuple[str, ...]
    test: tuple[str, ...]
    """Subjects that are scored. Where time is split, the same subjects as are learned from, at other times."""


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """Everything that the project knows of a dataset, as far as it is here."""

    id: str
    title: str
    modality: str
    archive: str
    source: str
    """What its place in the archive is called."""
    source_id: str
    """The same in the manifest's words; empty without one."""
    version: str
    licence: str
    licence_url: str
    redistribute: bool
    citation: str
    doi: str
    chosen: Mapping[str, Any]
    """What decides which files take part: include, exclude, at most how many subjects."""
    files: tuple[FileFacts, ...] | None
    """None without a manifest."""
    recordings: tuple[str, ...] | None
    """Of the manifest; None without one and without receipts."""
    statuses: Mapping[str, int]
    """How many recordings ended how."""
    hosts: tuple[str, ...]
    containers: tuple[str, ...]
    """Images in which its recordings were worked on; empty where they ran in the project's own environment."""
    left_out: tuple[Exclusion, ...]
    roles: tuple[Roles, ...] | None
    """Per fold in which it takes part; None without a split."""


@dataclass(frozen=True, kw_only=True)
class DatasetFiles:
    """What the stages left of one dataset; None for what is not here."""

    manifest: Manifest | None
    receipts: Mapping[str, Receipt] | None
    quality: DatasetQuality | None


def read_files(dataset: str, *, root: Path) -> DatasetFiles:
    """Read manifest, receipts and quality of a dataset.

    Raises
    ------
    UserError
        For one that is there, but is not what its stage writes.
    """
    manifest = root / "data" / "manifests" / f"{dataset}.json"
    receipts = root / "data" / "receipts" / f"{dataset}.jsonl"
    quality = root / "metrics" / "quality" / f"{dataset}.json"
    try:
        described = DatasetQuality.model_validate_json(quality.read_bytes()) if quality.is_file() else None
    except ValidationError as error:
        raise UserError.from_validation(error, where=str(quality), mend=f"git checkout -- {quality}") from None
    return DatasetFiles(
        manifest=read_manifest(manifest) if manifest.is_file() else None,
        receipts=read_receipts(receipts) if receipts.is_file() else None,
        quality=described,
    )


def read_splits(root: Path) -> Splits | None:
    """Read the split; None if it is not here.

    Raises
    ------
    UserError
        If it is not one.
    """
    path = root / "data" / "splits.json"
    try:
        return Splits.read(path) if path.is_file() else None
    except ValidationError as error:
        raise UserError.from_validation(error, where=str(path), mend="dvc repro split") from None


def container_of(receipt: Receipt) -> str:
    """Return the digest of the image that a unit ran in; empty where that was none."""
    return receipt.cost.container if receipt.cost else ""


def dataset_facts(
    entry: CatalogEntry, files: DatasetFiles, splits: Splits | None, *, max_subjects: int | None
) -> DatasetFacts:
    """Put together what is known of a dataset.

    Parameters
    ----------
    entry
        Its catalogue entry.
    files
        What its stages left.
    splits
        The split, where there is one.
    max_subjects
        The bound of params.yaml.
    """
    manifest, receipts = files.manifest, files.receipts or {}
    source = entry.source.model_dump(mode="json")
    chosen = {
        name: source[name] for name in ("include", "exclude", "groups") if source.get(name) not in (None, [], ["**"])
    }
    if max_subjects is not None:
        chosen["max_subjects"] = max_subjects
    return DatasetFacts(
        id=entry.id,
        title=entry.title,
        modality=entry.modality.value,
        archive=entry.source.archive,
        source=archive_name(entry),
        source_id=manifest.source_id if manifest else "",
        version=manifest.version if manifest else entry.source.version,
        licence=entry.licence,
        licence_url=entry.licence_url,
        redistribute=entry.redistribute,
        citation=entry.citation,
        doi=entry.doi,
        chosen=chosen,
        files=tuple(map(file_facts, manifest.files)) if manifest else None,
        recordings=_recordings(files),
        statuses=dict(sorted(Counter(_statuses(files).values()).items())),
        hosts=tuple(sorted({receipt.cost.host for receipt in receipts.values() if receipt.cost})),
        containers=tuple(sorted({found for receipt in receipts.values() if (found := container_of(receipt))})),
        left_out=(*_not_made(files), *_not_used(entry.id, splits)),
        roles=roles_of(entry.id, splits) if splits else None,
    )


def file_facts(file: ManifestFile) -> FileFacts:
    """Return what a manifest says of a file."""
    return FileFacts(**file.model_dump())


def roles_of(dataset: str, splits: Splits) -> tuple[Roles, ...]:
    """Say who of a dataset is learned from, chosen on and scored, per fold in which it takes part."""
    found = []
    for number, fold in enumerate(splits.folds):
        own = [entry for entry in fold.recordings if entry.dataset == dataset]
        if own:
            by_role = {role: tuple(sorted({one.subject for one in own if getattr(one, role)})) for role in _ROLES}
            found.append(Roles(fold=number, kind=own[0].kind, **by_role))
    return tuple(found)


def _recordings(files: DatasetFiles) -> tuple[str, ...] | None:
    if files.manifest is not None:
        return tuple(recording.id for recording in files.manifest.recordings)
    known = [*(files.receipts or ()), *(files.quality.recordings if files.quality else ())]
    return tuple(sorted(set(known))) if known else None


def _statuses(files: DatasetFiles) -> dict[str, str]:
    """Return how each recording ended; without receipts, as the quality table says, which git keeps."""
    if files.receipts is not None:
        ended = {name: receipt.status.value for name, receipt in files.receipts.items()}
    else:
        ended = {name: one.status for name, one in (files.quality.recordings if files.quality else {}).items()}
    if not ended:
        return {}
    return {name: ended.get(name, _NEVER_RUN) for name in _recordings(files) or ()}


def _not_made(files: DatasetFiles) -> list[Exclusion]:
    receipts, quality = files.receipts or {}, files.quality.recordings if files.quality else {}
    rows = []
    for name, status in sorted(_statuses(files).items()):
        if status != UnitStatus.SUCCEEDED:
            said: Sequence[Receipt | Any] = [one for one in (receipts.get(name), quality.get(name)) if one]
            rows.append(
                Exclusion(recording=name, consequence=f"no shard ({status})", reason=said[0].reason if said else "")
            )
    return rows


def _not_used(dataset: str, splits: Splits | None) -> list[Exclusion]:
    left: Sequence[LeftOut] = splits.left_out if splits else ()
    return [
        Exclusion(
            recording=one.recording,
            consequence="learned from, not scored" if one.trains else "not used",
            reason=one.reason,
        )
        for one in left
        if one.dataset == dataset
    ]
