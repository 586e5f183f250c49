"""Bring the files of one dataset: manifest to verified files under ``data/raw/<dataset>/``."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from neurofm.catalog import CatalogEntry, LocalSource, RegistrySource, groups_wanted
from neurofm.errors import UserError
from neurofm.fetch.files import FetchSummary, bring_files
from neurofm.fetch.hosts import FetchSite
from neurofm.fetch.landing import is_part_of
from neurofm.fetch.ledger import DatasetKey, Ledger
from neurofm.fetch.registry import bring_members
from neurofm.fetch.waiting import alone
from neurofm.recording import Manifest, ManifestFile
from neurofm.recording.manifest import groups_of

_SHOWN = 5


def dataset_key(entry: CatalogEntry) -> DatasetKey:
    """Return under which key the ledger knows an entry's files."""
    return DatasetKey(dataset=entry.id, archive=entry.source.archive, version=entry.source.version)


def open_ledger(work: Path) -> Ledger:
    """Open the project's ledger, ``<work>/ledger.sqlite``."""
    return Ledger.open(work / "ledger.sqlite")


def fetch_dataset(
    entry: CatalogEntry, manifest: Manifest, *, raw: Path, work: Path, site: FetchSite | None = None
) -> FetchSummary:
    """Make `raw` hold the manifest's files, each verified, and no other file.

    Every file is hashed on every call: what lies there is believed only when its digest says so. Files that are
    right are neither asked for nor touched. A second process that wants the same dataset waits, then finds all there.

    Parameters
    ----------
    entry
        The catalogue's entry. For a `LocalSource` there is nothing to fetch: its files are read where they are.
    manifest
        The pinned file list.
    raw
        ``data/raw/<dataset>``; it belongs to this dataset, and what is not in the manifest is removed from it.
    work
        ``.neurofm``: the ledger, packages in ``packages/``, wrong bytes in ``quarantine/<dataset>/``.
    site
        Hosts, connections, patience; the archives' own by default.

    Returns
    -------
    FetchSummary
        Files that were refused or are not what is pinned are quarantined: told on stderr, and not an error here.

    Raises
    ------
    UserError
        If the manifest and the entry disagree, nothing can come (no login, disk full, offline), or, after everything
        else is done, files did not come.
    """
    source = entry.source
    if isinstance(source, LocalSource):
        return FetchSummary(kept_files=len(manifest.files))
    _check_agreement(entry, manifest)
    with alone(work / "locks" / entry.id), open_ledger(work) as ledger:
        ledger.plan(dataset_key(entry), manifest.files)
        raw.mkdir(parents=True, exist_ok=True)
        _remove_strangers(raw, frozenset(file.path for file in manifest.files))
        summary = _bring(entry, manifest.files, raw=raw, work=work, site=site, ledger=ledger)
    _report(entry.id, summary, of=len(manifest.files))
    return summary


def fetch_some(
    entry: CatalogEntry,
    files: Collection[ManifestFile],
    *,
    raw: Path,
    work: Path,
    site: FetchSite | None = None,
    ledger: Ledger | None = None,
) -> FetchSummary:
    """Bring exactly these files of a dataset, whatever its archive; others in `raw` are left alone.

    Parameters
    ----------
    entry, raw, work, site
        As for `fetch_dataset`.
    files
        From the dataset's manifest.
    ledger
        The project's ledger if the caller has it open.

    Returns
    -------
    FetchSummary
        With the reasons of files that failed or are quarantined.

    Raises
    ------
    UserError
        For what ends everything: no login, disk full, offline while files are missing, a package that cannot be had.
    """
    if isinstance(entry.source, LocalSource):
        return FetchSummary(kept_files=len(files))
    with alone(work / "locks" / entry.id):
        if ledger is not None:
            return _bring(entry, files, raw=raw, work=work, site=site, ledger=ledger)
        with open_ledger(work) as own:
            return _bring(entry, files, raw=raw, work=work, site=site, ledger=own)


def _bring(
    entry: CatalogEntry,
    files: Collection[ManifestFile],
    *,
    raw: Path,
    work: Path,
    site: FetchSite | None,
    ledger: Ledger,
) -> FetchSummary:
    who = dataset_key(entry)
    site = site or FetchSite()
    if isinstance(entry.source, RegistrySource):
        return bring_members(entry.source, files, who=who, folder=raw, work=work, site=site, ledger=ledger)
    return bring_files(files, who=who, folder=raw, ledger=ledger, site=site, work=work)


def _report(dataset: str, summary: FetchSummary, *, of: int) -> None:
    """Tell of quarantined files, and raise if some did not come."""
    if summary.quarantined:
        sys.stderr.write(
            f"{dataset}: {len(summary.quarantined)} of {of} files are quarantined and are not asked for again "
            f"(NEUROFM_RETRY={dataset} does): {_shown(summary.quarantined)}\n"
        )
    if summary.failed:
        raise UserError(
            f"{dataset}: {len(summary.failed)} of {of} files did not come: {_shown(summary.failed)}.",
            mend="run again: it goes on where it stopped",
        )


def _shown(reasons: Mapping[str, str]) -> str:
    first = [f"{path}: {reason}" for path, reason in list(reasons.items())[:_SHOWN]]
    more = len(reasons) - len(first)
    return "; ".join(first) + (f"; and {more} more (neurofm status)" if more else "")


def _check_agreement(entry: CatalogEntry, manifest: Manifest) -> None:
    """Refuse a manifest that was made from another state of the catalogue."""
    source = entry.source
    agrees = (manifest.dataset, manifest.archive) == (entry.id, source.archive)
    if isinstance(source, RegistrySource):
        pinned = {(file.path, file.size, f"sha256:{file.sha256}") for file in source.files}
        listed = {(file.path, file.size, file.digest) for file in manifest.files}
        agrees = agrees and listed <= pinned and manifest.version == source.version  # fewer with `max_subjects`
    # An older manifest would bring whole files where a few per cent are wanted.
    groups = {groups_of(file.digest) for file in manifest.files} - {()}
    wanted = tuple(sorted(set(groups_wanted(source))))
    agrees = agrees and groups == ({wanted} if wanted else set())
    if not agrees:
        raise UserError(
            f"data/manifests/{manifest.dataset}.json is not what data/catalog/{entry.id}.yaml says.",
            mend=f"make it anew: neurofm run manifest --dataset {entry.id}",
        )


def _remove_strangers(raw: Path, known: frozenset[str]) -> None:
    """Remove files that the manifest does not list (and folders that this leaves empty); unfinished ones stay."""
    for here, folders, names in os.walk(raw, topdown=False):
        for name in names:
            path = Path(here, name)
            if not is_part_of(path.relative_to(raw).as_posix(), known):
                path.unlink()
        for name in folders:
            folder = Path(here, name)
            if folder.is_symlink():
                folder.unlink()
            elif not any(folder.iterdir()):
                folder.rmdir()
