"""Finding: one thing that was compared, and how that came out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from neurofm.settings import Settings

CERTIFICATE = Path("reports/certificate.json")
"""Where a certificate is written; its page is beside it."""


class Status(StrEnum):
    """How a comparison came out."""

    EQUAL = "equal bytes"
    WITHIN = "within tolerance"
    NOT_REBUILT = "not rebuilt"
    DIFFERS = "differs"


class Part(StrEnum):
    """What was compared, in the order of the pipeline."""

    CODE = "code and settings"
    ARTEFACTS = "artefacts"
    CACHE = "DVC's cache"
    RECEIPTS = "shards and receipts"
    MANIFEST = "manifest, built again"
    SHARD = "shard, built again"
    CUT = "slice of a shard"
    SPLIT = "split of the slices"
    MODEL = "model of the slices"
    SCORE = "score of the slices"


class Finding(Settings):
    """One thing that was compared."""

    part: Part
    item: str
    status: Status
    detail: str = ""
    mend: str = ""
    reference: float | None = None
    """For what is compared as a number: what the original run had, what this one has, how far apart they may be."""
    rebuilt: float | None = None
    allowed: float | None = None


class Verdict(StrEnum):
    """What all findings come to."""

    CERTIFIED = "certified"
    WITHIN = "certified within tolerances"
    IN_PART = "certified in part"
    NOT = "not certified"


_WORST = (
    (Status.DIFFERS, Verdict.NOT),
    (Status.NOT_REBUILT, Verdict.IN_PART),
    (Status.WITHIN, Verdict.WITHIN),
)


def verdict_of(findings: Iterable[Finding]) -> Verdict:
    """Return what the worst finding leaves possible."""
    statuses = {finding.status for finding in findings}
    return next((verdict for status, verdict in _WORST if status in statuses), Verdict.CERTIFIED)


@dataclass(frozen=True, kw_only=True)
class PartCount:
    """How many comparisons of one part came out how."""

    part: Part
    counts: Counter[Status]


def counted(findings: Sequence[Finding]) -> list[PartCount]:
    """Count findings per part, in the order of the pipeline."""
    return [
        PartCount(part=part, counts=counts)
        for part in Part
        if (counts := Counter(finding.status for finding in findings if finding.part is part))
    ]
