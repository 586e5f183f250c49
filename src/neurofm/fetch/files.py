"""Bring many files: believe what is there by its digest, ask for the rest, and write down how each one ended."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from neurofm.errors import UserError
from neurofm.fetch.blobs import bring_from_mirrors
from neurofm.fetch.crew import bring_from_hosts
from neurofm.fetch.endings import Endings
from neurofm.fetch.hosts import FetchSite
from neurofm.fetch.landing import Landing
from neurofm.fetch.ledger import DatasetKey, Ledger
from neurofm.fetch.survey import Missing, survey
from neurofm.fetch.transfer import Tally
from neurofm.fetch.waiting import alone, is_offline
from neurofm.progress import Progressing
from neurofm.recording import ManifestFile
from neurofm.recording.manifest import groups_of


@dataclass(frozen=True, kw_only=True)
class FetchSummary:
    """What one fetch did. Not for outputs: it differs between a first and a second run."""

    fetched_files: int = 0
    """Files written under the raw folder."""
    fetched_bytes: int = 0
    """Bytes that came over the network."""
    kept_files: int = 0
    """Files that were there already, with the right digest."""
    requests: int = 0
    """Requests that were sent."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Path to reason: did not come for now; the next fetch tries again."""
    quarantined: Mapping[str, str] = field(default_factory=dict)
    """Path to reason: refused, or not what is pinned; not asked for again."""


def fetch_files(
    files: Collection[ManifestFile],
    *,
    who: DatasetKey,
    folder: Path,
    ledger: Ledger,
    site: FetchSite,
    work: Path,
    title: str = "",
) -> FetchSummary:
    """Bring files of a dataset into `folder`, each verified; another process that does the same waits.

    Parameters
    ----------
    files
        What to bring. What is there already is hashed, and believed only if its digest is right.
    who
        The dataset, for the ledger, the lock and the quarantine.
    folder
        Where they go. Other files in it are left alone.
    ledger
        Told how each file ended.
    site
        Hosts, connections, patience; offline, nobody is asked.
    work
        ``.neurofm``: locks, git mirrors, quarantine.
    title
        For the progress; the dataset by default.

    Returns
    -------
    FetchSummary
        With the reasons of files that failed or are quarantined: one file's trouble is not raised.

    Raises
    ------
    UserError
        For what ends everything: no login, no room on the disk, offline while files are missing.
    """
    with alone(work / "locks" / who.dataset):
        return bring_files(files, who=who, folder=folder, ledger=ledger, site=site, work=work, title=title)


def bring_files(
    files: Collection[ManifestFile],
    *,
    who: DatasetKey,
    folder: Path,
    ledger: Ledger,
    site: FetchSite,
    work: Path,
    title: str = "",
) -> FetchSummary:
    """Do what `fetch_files` says, for a caller that holds the dataset's lock."""
    if who.dataset in os.environ.get("NEUROFM_RETRY", "").split(","):
        ledger.retry(who.dataset)
    title = title or who.dataset
    landing = Landing(folder, aside=work / "quarantine" / who.dataset)
    endings = Endings(who=who, landing=landing, ledger=ledger)
    tally = Tally()
    try:
        with ThreadPoolExecutor(max_workers=2 + (os.cpu_count() or 1)) as pool:
            found = survey(files, who=who, landing=landing, ledger=ledger, pool=pool, title=title)
            in_groups = [one for one in found.missing if groups_of(one.file.digest)]
            whole = [one for one in found.missing if not groups_of(one.file.digest)]
            _check_room(whole, folder=folder, dataset=who.dataset)
            if in_groups:
                _check_online(in_groups, site=site, dataset=who.dataset)
                from neurofm.fetch.groups import bring_groups  # noqa: PLC0415  # HDF5, which few datasets need here

                with Progressing(f"groups {title}", total=len(in_groups), unit="files") as progress:
                    bring_groups(in_groups, endings=endings, site=site, tally=tally, progress=progress)
            from_mirrors = [one for one in whole if one.file.origin.startswith("git://")]
            from_hosts = [one for one in whole if not one.file.origin.startswith("git://")]
            with Progressing(f"fetch {title}", total=_bytes_left(whole), unit="bytes") as progress:
                bring_from_mirrors(from_mirrors, endings=endings, site=site, work=work, progress=progress)
                if from_hosts:
                    _check_online(from_hosts, site=site, dataset=who.dataset)
                    asyncio.run(
                        bring_from_hosts(
                            from_hosts, endings=endings, site=site, pool=pool, tally=tally, progress=progress
                        )
                    )
    finally:
        ledger.flush()
    return FetchSummary(
        fetched_files=endings.fetched,
        fetched_bytes=tally.bytes,
        kept_files=found.kept,
        requests=tally.requests,
        failed=dict(sorted((found.failed | endings.failed).items())),
        quarantined=dict(sorted((found.quarantined | endings.quarantined).items())),
    )


def _bytes_left(missing: Iterable[Missing]) -> int:
    return sum(max(one.file.size - one.there, 0) for one in missing)


def _check_room(missing: list[Missing], *, folder: Path, dataset: str) -> None:
    needed = _bytes_left(missing)
    if needed == 0:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}.", mend="check the disk that holds it") from None
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e6:.0f} MB free, the {len(missing)} missing files of {dataset} need "
            f"{needed / 1e6:.0f} MB.",
            mend="free some disk, or stream the dataset (docs/fetch.md)",
        )


def _check_online(missing: list[Missing], *, site: FetchSite, dataset: str) -> None:
    if is_offline(site):
        raise UserError(
            f"{dataset}: {len(missing)} files are not here (first: {missing[0].file.path}), and this run is offline.",
            mend="run without --offline",
        )
