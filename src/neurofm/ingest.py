"""Ingest: one recording's files become one shard. The unit of work of the `preprocess` stage."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from neurofm.catalog import CatalogEntry
from neurofm.errors import UserError
from neurofm.fetch import Ledger, dataset_key, open_ledger
from neurofm.fetch.digests import matches
from neurofm.files import sha256_of
from neurofm.preprocess import Common, modality_module, preprocess_recording
from neurofm.readers import read_recording, reader_module
from neurofm.readers.input import ReaderInput
from neurofm.recording import Manifest, ManifestRecording, UnitStatus, Unreadable
from neurofm.recording.manifest import FIRST_USE
from neurofm.settings import Settings
from neurofm.shards import Provenance, read_shard, write_shard
from neurofm.shards.write import VERSION as SHARD_VERSION
from neurofm.units import (
    Executor,
    Outcome,
    Receipt,
    ReceiptBook,
    Unit,
    UnitSummary,
    code_digest,
    run_units,
    unit_key,
)


@dataclass(frozen=True, kw_only=True)
class IngestTask:
    """All that turning one recording into a shard needs, in a form that a worker process can be sent."""

    entry: CatalogEntry
    recording: ManifestRecording
    root: Path
    """Folder that manifest paths are relative to."""
    digests: Mapping[str, str]
    """``<kind>:<value>`` per input path."""
    source_id: str
    version: str
    settings: Settings
    """`preprocess.<modality>` in params.yaml."""
    common: Common
    """`preprocess.common` in params.yaml."""
    shard: Path


def ingest_dataset(
    entry: CatalogEntry,
    manifest: Manifest,
    *,
    raw: Path,
    shards: Path,
    receipts: Path,
    work: Path,
    settings: Settings,
    common: Common,
    executor: Executor[IngestTask],
) -> UnitSummary:
    """Turn every recording of a dataset into a shard; rebuild only what is missing, changed or damaged.

    Parameters
    ----------
    entry, manifest
        The dataset.
    raw
        Folder with its files.
    shards
        ``data/shards/<dataset>``; shards of recordings that left the manifest are removed.
    receipts
        ``data/receipts/<dataset>.jsonl``.
    work
        ``.neurofm``: receipts in progress, and the fetch ledger.
    settings, common
        Sections of `preprocess`.
    executor
        Where `ingest` runs.
    """
    book = ReceiptBook(receipts, running=work / "receipts" / entry.id)
    with open_ledger(work) as ledger:
        taken = digests_taken(entry, manifest, receipts=book.known.values(), ledger=ledger)
    for file in manifest.files:
        # Never fetched here and in no receipt: what lies there is the first use.
        if file.digest == FIRST_USE and file.path not in taken and (raw / file.path).is_file():
            taken[file.path] = f"sha256:{sha256_of(raw / file.path)}"
    plan = UnitPlan(entry=entry, manifest=manifest, raw=raw, shards=shards, settings=settings, common=common)
    units = []
    for recording in manifest.recordings:
        unit = plan.unit(recording, taken=taken)
        units.append(replace(unit, missing=_missing(raw, unit.inputs, manifest)))
    plan.remove_strangers()
    summary = run_units(units, executor=executor, book=book, title=f"preprocess {entry.id}")
    plan.remove_strangers()  # A worker that was killed leaves what it was writing.
    return summary


@dataclass(frozen=True, kw_only=True)
class UnitPlan:
    """How the recordings of a dataset become units of work."""

    entry: CatalogEntry
    manifest: Manifest
    raw: Path
    """Folder that manifest paths are relative to."""
    shards: Path
    settings: Settings
    """`preprocess.<modality>` in params.yaml."""
    common: Common
    """`preprocess.common` in params.yaml."""

    def unit(self, recording: ManifestRecording, *, taken: Mapping[str, str]) -> Unit[IngestTask]:
        """Return the unit of one recording.

        Parameters
        ----------
        recording
            One of the manifest's.
        taken
            Digest per path of those files for which the archive publishes none (`digests_taken`). Of a file that
            never came the digest is not known; it stands as `FIRST_USE`, and no receipt has such a key.
        """
        entry, manifest = self.entry, self.manifest
        digests = {path: manifest.by_path[path].digest for path in inputs_of(recording)}
        digests |= {path: taken[path] for path, digest in digests.items() if digest == FIRST_USE and path in taken}
        params: dict[str, Any] = {
            "settings": self.settings.model_dump(mode="json"),
            "common": self.common.model_dump(mode="json"),
            "reader": {"name": entry.reader, "options": dict(entry.reader_options)},
            # Facts of the catalogue that are written into the shard.
            "entry": [entry.id, entry.modality, entry.species, entry.licence, entry.citation],
            "recording": recording.model_dump(mode="json"),
            "source": [entry.source.archive, manifest.source_id, manifest.version],
        }
        shard = self.shard(recording)
        return Unit(
            id=recording.id,
            key=unit_key(inputs=digests, params=params, code=self._code, libraries=self._libraries),
            inputs=digests,
            outputs=(shard,),
            payload=IngestTask(
                entry=entry,
                recording=recording,
                root=self.raw,
                digests=digests,
                source_id=manifest.source_id,
                version=manifest.version,
                settings=self.settings,
                common=self.common,
                shard=shard,
            ),
        )

    def shard(self, recording: ManifestRecording) -> Path:
        """Return where a recording's shard is."""
        return self.shards / f"{recording.id}.zarr.zip"

    def remove_strangers(self) -> None:
        """Remove what the manifest does not name: a persisted output keeps what earlier runs left."""
        self.shards.mkdir(parents=True, exist_ok=True)
        expected = {self.shard(recording) for recording in self.manifest.recordings}
        for path in self.shards.iterdir():
            if path not in expected:
                path.unlink()

    @cached_property
    def _code(self) -> dict[str, str]:
        return _code(self.entry)

    @cached_property
    def _libraries(self) -> dict[str, str]:
        return _libraries(self.entry)


def inputs_of(recording: ManifestRecording) -> list[str]:
    """Return the paths that a recording is read from, sorted."""
    return sorted({*recording.files.values(), *recording.extra})


def digests_taken(
    entry: CatalogEntry, manifest: Manifest, *, receipts: Iterable[Receipt], ledger: Ledger
) -> dict[str, str]:
    """Return the digests that were taken of files for which the archive publishes none.

    Parameters
    ----------
    entry, manifest
        The dataset.
    receipts
        Of earlier runs: they remember if the ledger is lost.
    ledger
        The project's.

    Returns
    -------
    dict
        ``sha256:<hex>`` by path, of those that came once.
    """
    wanted = {file.path: file for file in manifest.files if file.digest == FIRST_USE}
    taken = {path: digest for receipt in receipts for path, digest in receipt.inputs.items() if path in wanted}
    for path, file in wanted.items():
        row = ledger.row(dataset_key(entry), file)
        if row is not None and row.sha256:
            taken[path] = f"sha256:{row.sha256}"
    return taken


def ingest(task: IngestTask) -> Outcome:
    """Read, preprocess and write one recording; then read the shard back, so that what is kept is readable.

    Raises
    ------
    Unreadable
        For a damaged file or a recording that cannot be stored.
    """
    # Two OpenMP threads under load ran six times slower than one; units run side by side instead.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    source = ReaderInput(
        dataset=task.entry.id,
        modality=task.entry.modality,
        species=task.entry.species,
        root=task.root,
        entry=task.recording,
    )
    recording = read_recording(task.entry.reader, source, dict(task.entry.reader_options))
    recording = preprocess_recording(recording, settings=task.settings, common=task.common)
    provenance = Provenance(
        archive=task.entry.source.archive,
        source_id=task.source_id,
        version=task.version,
        files=tuple(sorted(task.digests.items())),
        licence=task.entry.licence,
        citation=task.entry.citation,
        libraries=_libraries(task.entry),
    )
    try:
        write_shard(recording, provenance=provenance, path=task.shard)
    except ValueError as error:
        raise Unreadable(f"{task.recording.id}: {error}") from error
    shard = read_shard(task.shard)
    return Outcome(
        facts={
            "samples": len(shard.stored),
            "channels": shard.stored.shape[1],
            "duration_s": round(len(shard.stored) / shard.sampling_rate_hz, 3),
        }
    )


def _libraries(entry: CatalogEntry) -> dict[str, str]:
    """Return the versions of the libraries whose arithmetic ends up in a shard."""
    names = {*reader_module(entry.reader).LIBRARIES, *modality_module(entry.modality).LIBRARIES, "zarr", "numcodecs"}
    return {name: version(name) for name in sorted(names)}


def _code(entry: CatalogEntry) -> dict[str, str]:
    """Return version and digest of every module that a shard's bytes come from."""
    reader, modality = reader_module(entry.reader), modality_module(entry.modality)
    return {
        "reader": f"{reader.VERSION}-{code_digest(f'neurofm.readers.{entry.reader}')}",
        "preprocess": f"{modality.VERSION}-{code_digest(f'neurofm.preprocess.{entry.modality}')}",
        "shard": f"{SHARD_VERSION}-{code_digest('neurofm.shards.write')}",
    }


def _missing(raw: Path, inputs: Mapping[str, str], manifest: Manifest) -> str:
    """Say which input is not there or not what it must be."""
    for name, digest in inputs.items():
        path = raw / name
        if not path.is_file():
            return f"{path} is not there (not downloaded, or quarantined)"
        if not matches(path, digest, size=manifest.by_path[name].size):
            return f"{path} is not the file of the manifest (its digest differs)"
    return ""


def quality_report(dataset: str, manifest: Manifest, summary: UnitSummary, *, shards: Path) -> dict[str, Any]:
    """Describe every recording of a dataset: how it ended, its size and its measured quality.

    Returns
    -------
    The content of ``metrics/quality/<dataset>.json``; also recordings that failed are in it, with the reason.
    """
    recordings: dict[str, dict[str, Any]] = {}
    for recording in manifest.recordings:
        status = summary.statuses[recording.id]
        described: dict[str, Any] = {
            "status": status.value,
            "reason": summary.reasons.get(recording.id, ""),
            "subject": recording.subject,
        }
        if status is UnitStatus.SUCCEEDED:
            shard = read_shard(shards / f"{recording.id}.zarr.zip")
            described |= {
                "duration_s": round(len(shard.stored) / shard.sampling_rate_hz, 3),
                "sampling_rate_hz": round(shard.sampling_rate_hz, 6),
                "channels": shard.stored.shape[1],
                "usable_channels": int(shard.usable.sum()),
                "valid_fraction": round(float(shard.valid.mean()), 6) if len(shard.valid) else 0.0,
                "quality": dict(shard.recording.quality),
            }
        recordings[recording.id] = described
    return {"dataset": dataset, "recordings": recordings}


def refuse_too_many_failures(dataset: str, summary: UnitSummary, *, max_failed_fraction: float) -> None:
    """Fail a stage in which too many recordings failed.

    Raises
    ------
    UserError
        Naming up to three of them with their reasons.
    """
    failed = summary.failed
    if len(failed) <= max_failed_fraction * len(summary.statuses):
        return
    shown = "; ".join(f"{unit}: {summary.reasons.get(unit, 'no reason')}" for unit in failed[:3])
    more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
    raise UserError(
        f"preprocess {dataset}: {len(failed)} of {len(summary.statuses)} recordings failed "
        f"(`preprocess.max_failed_fraction` allows {max_failed_fraction:g}): {shown}{more}.",
        mend="replace or leave out the files named (the other recordings are done and kept), then `dvc repro` again",
    )
