"""One archive per module: a catalogue entry becomes a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from neurofm.catalog import LATEST, ArchiveSource, CatalogEntry, LocalSource, read_pins
from neurofm.catalog.source import Source
from neurofm.errors import UserError
from neurofm.fetch.ask import Ask
from neurofm.fetch.hosts import FetchSite
from neurofm.recording import Manifest
from neurofm.sources import allen, crcns, dandi, http, ibl, local, openneuro, registry, s3
from neurofm.sources.groups import in_groups
from neurofm.sources.listing import Listing
from neurofm.sources.manifest_file import read_manifest, write_manifest
from neurofm.sources.recordings import recordings_of
from neurofm.sources.selection import of_subjects

__all__ = [
    "Listing",
    "build_manifest",
    "is_pinned",
    "list_archive",
    "of_subjects",
    "read_manifest",
    "recordings_of",
    "write_manifest",
]


class ListedArchive(Protocol):
    """A module of an archive that lists its files."""

    def list_files(self, source: Any, *, ask: Ask, work: Path) -> Listing:
        """Ask the archive for the files of a dataset; ``latest`` is resolved."""

    def is_fixed(self, source: Any) -> bool:
        """Whether the entry's version alone fixes every byte (so that it needs no pins)."""


_HERE = {"registry": registry.manifest, "http": http.manifest}
"""Sources whose entry says it all."""

_LISTED: dict[str, ListedArchive] = {
    "allen": allen,
    "crcns": crcns,
    "dandi": dandi,
    "ibl": ibl,
    "openneuro": openneuro,
    "openneuro-derivatives": openneuro,
    "s3": s3,
}


def is_pinned(source: Source) -> bool:
    """Say whether an entry fixes every byte: by its version alone, by pins, or by listing each file itself."""
    if not isinstance(source, ArchiveSource) or source.pin:
        return True
    return source.version != LATEST and _LISTED[source.archive].is_fixed(source)


def build_manifest(
    entry: CatalogEntry, *, root: Path, site: FetchSite | None = None, max_subjects: int | None = None
) -> Manifest:
    """Return the pinned, checksummed file list of a dataset, whatever its archive.

    Parameters
    ----------
    entry
        The catalogue's entry.
    root
        The project's root.
    site
        Where archives are reached; the defaults are their own addresses. Asked only if the entry has no pins.
    max_subjects
        At most so many subjects, the same ones every time; None takes all.

    Raises
    ------
    UserError
        If the entry is not pinned, the archive does not answer, or the files do not make recordings.
    """
    source = entry.source
    if isinstance(source, LocalSource):
        return local.manifest(entry, root=root, max_subjects=max_subjects)  # hashes only what is chosen
    where = str(root / "data" / "catalog" / f"{entry.id}.yaml")
    if not isinstance(source, ArchiveSource):
        made = in_groups(_HERE[source.archive](entry, root=root), source, where=where)
        return of_subjects(made, max_subjects=max_subjects)
    if source.pin:
        pins = read_pins(entry.id, digest=source.pin, root=root)
        listing = Listing(source_id=_source_id(source), version=pins.version, files=pins.files)
    else:
        if not is_pinned(source):
            raise UserError(
                f"{where}: version {source.version!r} can change at any time.",
                mend=f"pin it: neurofm catalog pin {entry.id}",
            )
        listing = list_archive(entry, root=root, site=site)
    made = in_groups(_manifest(entry, listing, where=where), source, where=where)
    return of_subjects(made, max_subjects=max_subjects)


def list_archive(entry: CatalogEntry, *, root: Path, site: FetchSite | None = None) -> Listing:
    """Ask the archive of an entry what it has now; ``latest`` is resolved.

    Raises
    ------
    UserError
        If the archive does not answer, or the entry's source is not one that is asked (registry, local, http).
    """
    source = entry.source
    if not isinstance(source, ArchiveSource):
        raise UserError(
            f"{entry.id}: a {source.archive!r} source lists its files in the entry itself.", mend="nothing to ask for"
        )
    with Ask(site or FetchSite()) as ask:
        return _LISTED[source.archive].list_files(source, ask=ask, work=root / ".neurofm")


def _manifest(entry: CatalogEntry, listing: Listing, *, where: str) -> Manifest:
    """Make recordings of a listing; only files that a recording reads are kept."""
    recordings = recordings_of(
        [file.path for file in listing.files], entry.recordings, namespace=entry.subject_namespace, where=where
    )
    used = {path for recording in recordings for path in (*recording.files.values(), *recording.extra)}
    return Manifest(
        dataset=entry.id,
        archive=entry.source.archive,
        source_id=listing.source_id,
        version=listing.version,
        files=tuple(file for file in listing.files if file.path in used),
        recordings=recordings,
    )


def _source_id(source: ArchiveSource) -> str:
    for name in ("accession", "dandiset", "dataset", "project", "bucket"):
        if value := getattr(source, name, ""):
            return str(value)
    return source.version
