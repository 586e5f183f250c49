"""One archive per module: a catalogue entry becomes a manifest."""

from __future__ import annotations

from pathlib import Path

from neurofm.catalog import CatalogEntry
from neurofm.recording import Manifest
from neurofm.sources import local, registry
from neurofm.sources.manifest_file import read_manifest, write_manifest
from neurofm.sources.recordings import recordings_of

__all__ = ["build_manifest", "read_manifest", "recordings_of", "write_manifest"]

_MANIFEST_OF = {"registry": registry.manifest, "local": local.manifest}


def build_manifest(entry: CatalogEntry, *, root: Path) -> Manifest:
    """Return the pinned, checksummed file list of a dataset, whatever its archive.

    Parameters
    ----------
    entry
        The catalogue's entry.
    root
        The project's root.

    Raises
    ------
    UserError
        If the entry does not fit the files; see the source's module.
    """
    return _MANIFEST_OF[entry.source.archive](entry, root=root)
