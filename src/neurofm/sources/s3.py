"""Source `s3`: objects under a prefix of a bucket, held by pins."""

from __future__ import annotations

from pathlib import Path

from neurofm.catalog import LATEST, S3Source
from neurofm.fetch.ask import Ask
from neurofm.recording import ManifestFile
from neurofm.sources.listing import Listing, chosen, safe


def is_fixed(source: S3Source) -> bool:
    """Never: a bucket can change at any time."""
    del source
    return False


def list_files(source: S3Source, *, ask: Ask, work: Path) -> Listing:
    """List the objects under the prefix, with ETag and, where the bucket keeps versions, version ids.

    Paths are relative to the prefix.
    """
    del work
    found = {
        safe(listed.key.removeprefix(source.prefix).lstrip("/"), where=f"s3://{source.bucket}/{source.prefix}"): listed
        for listed in ask.objects(source.bucket, source.prefix, versions=True)
        if not listed.key.endswith("/")
    }
    paths = chosen(sorted(found), include=source.include, exclude=source.exclude)
    files = tuple(
        ManifestFile(
            path=path,
            size=found[path].size,
            digest=f"s3-etag:{found[path].etag}",
            origin=f"s3://{source.bucket}/{found[path].key}",
            version_id=found[path].version_id if found[path].version_id != "null" else "",
        )
        for path in paths
    )
    version = "listed" if source.version == LATEST else source.version
    return Listing(source_id=f"{source.bucket}/{source.prefix}", version=version, files=files)
