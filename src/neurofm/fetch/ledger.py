"""The ledger: what is known of every file that was ever wanted here (`.neurofm/ledger.sqlite`)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FileState(StrEnum):
    """Where a file is on its way."""

    PLANNED = "planned"
    PARTIAL = "partial"
    VERIFIED = "verified"
    CONSUMED = "consumed"
    """Its shard and receipt are durable, and the raw file was removed: not fetched again unless its unit's key
    changes."""
    FAILED = "failed"
    """Did not come for now (network, server); the next run tries again."""
    QUARANTINED = "quarantined"
    """Refused or not what is pinned; tried again only when asked to, or when the pin changes."""


@dataclass(frozen=True, kw_only=True)
class DatasetKey:
    """Which dataset, at which version."""

    dataset: str
    archive: str
    version: str
