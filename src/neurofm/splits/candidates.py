"""Candidates: what the splitter needs to know of each recording, read from its shard."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neurofm.catalog import CatalogEntry
from neurofm.recording import Modality
from neurofm.recording.recording import JsonScalar
from neurofm.shards import Moment, read_shard
from neurofm.shards.packed import PackedShard


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What the splitter needs to know of a recording."""

    dataset: str
    recording: str
    subject: str
    modality: Modality
    samples: int
    sampling_rate_hz: float
    support_s: float
    """How far apart two samples must be to share no raw sample."""
    excluded_reason: str = ""
    """Why preprocessing keeps it out; empty if it does not."""
    score: bool = True
    score_note: str = ""
    session: str = ""
    attributes: Mapping[str, JsonScalar] = field(default_factory=dict)
    """Columns of the subject's row in ``participants.tsv``."""
    content: str = ""
    """Digest of its samples; empty where it is not known."""
    moment: Moment | None = None
    """When it was recorded."""

    @property
    def name(self) -> str:
        """``<dataset>/<recording>``."""
        return f"{self.dataset}/{self.recording}"


def find_candidates(entries: Sequence[CatalogEntry], *, shards: Path) -> list[Candidate]:
    """Read from the shards of the named datasets what the splitter needs to know.

    Parameters
    ----------
    entries
        Catalogue entries of the datasets that take part; other folders under `shards` are not looked at.
    shards
        ``data/shards``.
    """
    return [
        candidate_of(path, entry=entry) for entry in entries for path in sorted((shards / entry.id).glob("*.zarr.zip"))
    ]


def candidate_of(path: Path, *, entry: CatalogEntry) -> Candidate:
    """Read from one shard what the splitter needs to know."""
    shard = read_shard(path)
    return Candidate(
        dataset=entry.id,
        recording=path.name.removesuffix(".zarr.zip"),
        subject=shard.recording.subject,
        modality=shard.recording.modality,
        samples=len(shard.stored),
        sampling_rate_hz=shard.sampling_rate_hz,
        support_s=shard.support_s,
        excluded_reason=str(shard.recording.quality.get("excluded_reason") or ""),
        score=entry.score,
        score_note=entry.score_note,
        session=shard.recording.session,
        attributes=shard.recording.scalars,
        content=content_of(path),
        moment=shard.moment(samples=len(shard.stored)),
    )


def content_of(path: Path) -> str:
    """SHA-256 of a shard's shape and of the checksums of its samples and scales: equal for equal recordings.

    A copy that was cut or preprocessed otherwise has another one. Nothing is decoded.

    Raises
    ------
    Unreadable
        If it is no whole shard.
    """
    shard = PackedShard(path)
    signal, scale = shard.array("signal"), shard.array("channels/scale")
    head = f"{signal.shape} {signal.dtype} ".encode()
    return hashlib.sha256(head + signal.fingerprint() + scale.fingerprint()).hexdigest()
