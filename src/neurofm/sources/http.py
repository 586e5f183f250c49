"""Source `http`: files at web addresses, each pinned by its digest in the entry."""

from __future__ import annotations

from pathlib import Path

from neurofm.catalog import CatalogEntry, HttpSource
from neurofm.recording import Manifest, ManifestFile
from neurofm.sources.recordings import recordings_of


def manifest(entry: CatalogEntry, *, root: Path) -> Manifest:
    """Return the manifest that the catalogue entry pins. Asks nobody.

    Raises
    ------
    UserError
        If the files do not make recordings.
    """
    source = entry.source
    assert isinstance(source, HttpSource)
    paths = [file.path for file in source.files]
    return Manifest(
        dataset=entry.id,
        archive=source.archive,
        source_id=entry.id,
        version=source.version,
        files=tuple(
            ManifestFile(path=file.path, size=file.size, digest=file.digest, origin=file.url)
            for file in sorted(source.files, key=lambda file: file.path)
        ),
        recordings=recordings_of(
            paths,
            entry.recordings,
            namespace=entry.subject_namespace,
            where=str(root / "data" / "catalog" / f"{entry.id}.yaml"),
        ),
    )
