"""A dataset whose files are all here: what is missing, changed or damaged becomes shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from neurofm.catalog import CatalogEntry
from neurofm.errors import UserError
from neurofm.fetch import open_ledger
from neurofm.fetch.digests import matches
from neurofm.files import sha256_of
from neurofm.ingest.plan import UnitPlan, digests_of_parts, digests_taken
from neurofm.ingest.recording import IngestTask
from neurofm.preprocess import Common
from neurofm.recording import Manifest, UnitStatus
from neurofm.recording.manifest import FIRST_USE
from neurofm.settings import Settings
from neurofm.shards import read_shard
from neurofm.units import Executor, ReceiptBook, UnitSummary, run_units


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
    plan = UnitPlan(entry=entry, manifest=manifest, raw=raw, shards=shards, settings=settings, common=common)
    with book.held():
        with open_ledger(work) as ledger:
            taken = digests_taken(entry, manifest, receipts=book.known.values(), ledger=ledger)
            parts = digests_of_parts(entry, manifest, ledger=ledger)
        for file in manifest.files:
            # Never fetched here and in no receipt: what lies there is the first use.
            if file.digest == FIRST_USE and file.path not in taken and (raw / file.path).is_file():
                taken[file.path] = f"sha256:{sha256_of(raw / file.path)}"
        units = []
        for recording in manifest.recordings:
            unit = plan.unit(recording, taken=taken)
            units.append(replace(unit, missing=_missing(raw, unit.inputs, manifest, parts=parts)))
        shards.mkdir(parents=True, exist_ok=True)
        summary = run_units(units, executor=executor, book=book, title=f"preprocess {entry.id}")
        plan.remove_strangers()  # Only now is nothing at work on these shards, not even what an earlier run left.
    return summary


def _missing(raw: Path, inputs: Mapping[str, str], manifest: Manifest, *, parts: Mapping[str, str]) -> str:
    """Say which input is not there or not what it must be; of chosen groups of a file, `parts` has the digest."""
    for name, digest in inputs.items():
        path = raw / name
        if not path.is_file():
            return f"{path} is not there (not downloaded, or quarantined)"
        if not matches(path, parts.get(name, digest), size=manifest.by_path[name].size):
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


def refuse_too_many_failures(
    dataset: str,
    summary: UnitSummary,
    *,
    max_failed_fraction: float,
    units: str = "recordings",
    setting: str = "preprocess.max_failed_fraction",
    mend: str = "replace or leave out the files named (the other recordings are done and kept), then `dvc repro` again",
) -> None:
    """Fail a stage in which too many units failed.

    Parameters
    ----------
    dataset, summary
        How its units ended.
    max_failed_fraction, setting
        Share that may fail, and where it stands.
    units
        What they are.
    mend
        What is advised.

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
        f"{dataset}: {len(failed)} of {len(summary.statuses)} {units} failed "
        f"(`{setting}` allows {max_failed_fraction:g}): {shown}{more}.",
        mend=mend,
    )
