"""What each archive is called, on the page and elsewhere."""

from __future__ import annotations

from neurofm.catalog import CatalogEntry

ARCHIVES = {
    "allen": "Allen Institute, {project}",
    "crcns": "CRCNS {dataset}",
    "dandi": "DANDI {dandiset}",
    "http": "web addresses, each pinned by its digest",
    "ibl": "International Brain Laboratory, brain-wide map",
    "local": "local folder {path}",
    "openneuro": "OpenNeuro {accession}",
    "openneuro-derivatives": "OpenNeuroDerivatives {accession}",
    "registry": "Python package index: {filename} of {package}, sha256 {sha256}",
    "s3": "S3: {bucket}/{prefix}",
}
"""What the page calls each kind of source, filled in from its settings."""


def archive_name(entry: CatalogEntry) -> str:
    """Name the place that a dataset comes from, in the archive's own terms."""
    return ARCHIVES[entry.source.archive].format_map(entry.source.model_dump())
