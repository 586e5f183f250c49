"""Stream: fetch, preprocess and remove a dataset's recordings one by one, so that its raw files are never all here.

For each recording, in this order: its files are fetched and verified, its shard is durable, its receipt is durable,
the ledger says that the files are consumed, the raw files are removed. Whoever is killed between two of these goes on
from there: a shard without a receipt is made again from the files that are still here, a receipt without the rest is
believed if its shard is whole.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from neurofm.catalog import CatalogEntry
from neurofm.errors import UserError
from neurofm.fetch import FetchSite, fetch_some, open_ledger
from neurofm.fetch.waiting import alone
from neurofm.ingest.dataset import refuse_too_many_failures
from neurofm.ingest.plan import UnitPlan, digests_taken
from neurofm.ingest.recording import IngestTask
from neurofm.preprocess import Common
from neurofm.recording import Manifest
from neurofm.settings import Settings
from neurofm.stream.raw_files import RawFiles
from neurofm.stream.run import StreamRun, StreamSummary
from neurofm.units import Executor, ReceiptBook


def stream_dataset(
    entry: CatalogEntry,
    manifest: Manifest,
    *,
    shards: Path,
    receipts: Path,
    work: Path,
    settings: Settings,
    common: Common,
    executor: Executor[IngestTask],
    budget_bytes: int,
    site: FetchSite,
) -> StreamSummary:
    """Turn every recording of a dataset into a shard without keeping its raw files.

    A recording whose receipt holds (same key, shard with the right digest) is not fetched. One that could not be
    preprocessed is fetched again only when its key changes, or where ``NEUROFM_RETRY`` names the dataset.

    Parameters
    ----------
    entry, manifest
        The dataset.
    shards
        ``data/shards/<dataset>``; shards of recordings that left the manifest are removed.
    receipts
        ``data/receipts/<dataset>.jsonl``.
    work
        ``.neurofm``: raw files are in ``stream/<dataset>/`` while they are needed.
    settings, common
        Sections of `preprocess`.
    executor
        Where `ingest` runs. While it has its hands full, one more recording is fetched.
    budget_bytes
        Most that raw files of streamed datasets, partial ones included, may take at any moment. The package of a
        registry source counts, shards do not.
    site
        How archives are reached.

    Raises
    ------
    UserError
        If fetching cannot go on at all (missing credentials, offline), or the disk is full. What was at work is
        finished before.
    """
    raw = work / "stream" / entry.id
    plan = UnitPlan(entry=entry, manifest=manifest, raw=raw, shards=shards, settings=settings, common=common)
    book = ReceiptBook(receipts, running=work / "receipts" / entry.id)
    # One stream at a time, or each would keep to the budget and both would break it.
    with alone(work / "locks" / "stream"), book.held(), open_ledger(work) as ledger:
        retry = entry.id in os.environ.get("NEUROFM_RETRY", "").split(",")
        if retry:
            ledger.retry(entry.id)
        with executor:
            book.take_up()  # After entering, which may have stopped what an earlier run had left at work.
            shards.mkdir(parents=True, exist_ok=True)
            files = RawFiles(entry, manifest, folder=raw, ledger=ledger, budget_bytes=budget_bytes)
            files.remember(digests_taken(entry, manifest, receipts=book.known.values(), ledger=ledger))
            fetch = partial(fetch_some, entry, raw=raw, work=work, site=site, ledger=ledger)
            stream = StreamRun(plan, book=book, files=files, fetch=fetch, retry=retry)
            stream.run(executor)
        stream.gather()
        plan.remove_strangers()  # A worker that was killed leaves what it was writing.
    return stream.summary()


def refuse_failures(dataset: str, summary: StreamSummary, *, max_failed_fraction: float) -> None:
    """Fail a stage in which files did not come that may come next time, or too many recordings failed.

    Raises
    ------
    UserError
        Naming up to three of them with their reasons.
    """
    if summary.not_come:
        shown = "; ".join(f"{path}: {reason}" for path, reason in sorted(summary.not_come.items())[:3])
        more = f"; and {len(summary.not_come) - 3} more" if len(summary.not_come) > 3 else ""
        raise UserError(
            f"{dataset}: {len(summary.not_come)} files did not come for now: {shown}{more}.",
            mend="check the network, then `dvc repro` again (the other recordings are done and kept)",
        )
    refuse_too_many_failures(
        dataset,
        summary.units,
        max_failed_fraction=max_failed_fraction,
        mend="mend what the reasons say, then `dvc repro` again; what was refused or unreadable is asked for again "
        f"only with NEUROFM_RETRY={dataset} (the other recordings are done and kept)",
    )
