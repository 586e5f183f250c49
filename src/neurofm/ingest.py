"""Ingest: one recording's files become one shard. The unit of work of the `preprocess` stage."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from neurofm.catalog import CatalogEntry
from neurofm.errors import UserError
from neurofm.fetch.digests import matches
from neurofm.preprocess import Common, modality_module, preprocess_recording
from neurofm.readers import read_recording, reader_module
from neurofm.readers.input import ReaderInput
from neurofm.recording import Manifest, ManifestFile, ManifestRecording, UnitStatus, Unreadable
from neurofm.settings import Settings
from neurofm.shards import Provenance, read_shard, write_shard
from neurofm.shards.write import VERSION as SHARD_VERSION
from neurofm.units import Outcome, Unit, UnitSummary, code_digest, run_units, unit_key


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
    running: Path,
    settings: Settings,
    common: Common,
    workers: int,
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
    running
        Folder under ``.neurofm/`` for receipts in progress.
    settings, common
        Sections of `preprocess`.
    workers
        Number of processes.
    """
    shards.mkdir(parents=True, exist_ok=True)
    units = [
        _unit(entry, manifest, recording, raw=raw, shards=shards, settings=settings, common=common)
        for recording in manifest.recordings
    ]
    expected = {path for unit in units for path in unit.outputs}
    for path in shards.iterdir():
        # A persisted output keeps what earlier runs left; what the manifest no longer names must go.
        if path not in expected:
            path.unlink()
    return run_units(units, ingest, title=f"preprocess {entry.id}", receipts=receipts, running=running, workers=workers)


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


def _unit(
    entry: CatalogEntry,
    manifest: Manifest,
    recording: ManifestRecording,
    *,
    raw: Path,
    shards: Path,
    settings: Settings,
    common: Common,
) -> Unit[IngestTask]:
    paths = sorted({*recording.files.values(), *recording.extra})
    digests = {path: manifest.by_path[path].digest for path in paths}
    shard = shards / f"{recording.id}.zarr.zip"
    params: dict[str, Any] = {
        "settings": settings.model_dump(mode="json"),
        "common": common.model_dump(mode="json"),
        "reader": {"name": entry.reader, "options": dict(entry.reader_options)},
        # Facts of the catalogue that are written into the shard.
        "entry": [entry.id, entry.modality, entry.species, entry.licence, entry.citation],
        "recording": recording.model_dump(mode="json"),
        "source": [entry.source.archive, manifest.source_id, manifest.version],
    }
    return Unit(
        id=recording.id,
        key=unit_key(
            inputs=digests,
            params=params,
            code=_code(entry),
            libraries=_libraries(entry),
        ),
        outputs=(shard,),
        payload=IngestTask(
            entry=entry,
            recording=recording,
            root=raw,
            digests=digests,
            source_id=manifest.source_id,
            version=manifest.version,
            settings=settings,
            common=common,
            shard=shard,
        ),
        missing=_missing(raw, [manifest.by_path[path] for path in paths]),
    )


def _missing(raw: Path, files: Sequence[ManifestFile]) -> str:
    """Say which input is not there or not what the manifest says."""
    for file in files:
        path = raw / file.path
        if not path.is_file():
            return f"{path} is not there (not downloaded, or quarantined)"
        if not matches(path, file.digest, size=file.size):
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
