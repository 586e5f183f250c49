"""From work to hours and memory: by what was paid here, else by usual figures."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neurofm.operations.foretold.record import Foretold, Paid
from neurofm.operations.foretold.units_paid import UnitsPaid
from neurofm.operations.foretold.usual import SECONDS_PER_GB, USUAL
from neurofm.operations.foretold.work import Work
from neurofm.params import Site
from neurofm.recording import Modality
from neurofm.units import ExecutorName

_ENOUGH_S = 5.0
"""A bandwidth is believed once downloads took so long together."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What was paid here."""

    stages: Mapping[str, Paid]
    units: Mapping[Modality, UnitsPaid]
    bandwidth: float | None
    """Bytes a second, of all downloads so far."""

    @classmethod
    def of(cls, stages: Mapping[str, Paid], units: Mapping[Modality, UnitsPaid]) -> Known:
        """Gather what is known; the bandwidth is what all downloads had together."""
        downloads = [paid for name, paid in stages.items() if name.startswith("download@") and paid.amount > 0]
        seconds = sum(max(0.0, paid.seconds - USUAL["download"].start_s) for paid in downloads)
        enough = seconds >= _ENOUGH_S
        return cls(
            stages=stages,
            units=units,
            bandwidth=sum(paid.amount for paid in downloads) / seconds if enough else None,
        )


def foretell(works: Sequence[Work], *, known: Known, site: Site) -> dict[str, Foretold]:
    """Return what every stage will cost, by its name."""
    now = time.time()
    return {work.stage: _foretell(work, known=known, site=site, now=now) for work in works}


def _foretell(work: Work, *, known: Known, site: Site, now: float) -> Foretold:
    start = USUAL[work.family].start_s
    paid = known.stages.get(work.stage)
    seconds, from_here = _seconds(work, paid, known=known, site=site)
    peak_mb, peak_from_here = _peak_mb(work, paid, known=known)
    return Foretold(
        stage=work.stage,
        made=now,
        amount=work.amount or 0.0,
        held_bytes=work.held_bytes,
        at_once=work.at_once if site.executor is ExecutorName.LOCAL or work.modality is None else 1,
        seconds=round(start + seconds, 3),
        peak_mb=round(peak_mb, 1),
        measured=from_here and peak_from_here,
        files=work.files,
        written=work.written,
        paid=paid,
    )


def _seconds(work: Work, paid: Paid | None, *, known: Known, site: Site) -> tuple[float, bool]:
    """Return the seconds after the start, and whether they rest on what was paid here."""
    usual, amount = USUAL[work.family], work.amount or 0.0
    coming, coming_known = _coming(work, known=known, site=site)
    if work.family == "download":
        return coming, coming_known
    if paid is not None and paid.amount > 0 and not work.to_come:
        return max(0.0, paid.seconds - usual.start_s) * amount / paid.amount, True
    if paid is not None and amount == 0:
        return max(0.0, paid.seconds - usual.start_s), True
    if work.modality is None:
        return amount * usual.seconds_per, amount == 0 and paid is not None
    units = known.units.get(work.modality)
    per_byte = units.seconds_per_byte if units else SECONDS_PER_GB[work.modality] / 1e9
    # A streamed dataset is worked on while more of it comes.
    return max(amount * per_byte, coming), units is not None and coming_known


def _coming(work: Work, *, known: Known, site: Site) -> tuple[float, bool]:
    """Return the seconds that bytes take over the network."""
    rate = known.bandwidth or site.bandwidth_mb_s * 1e6
    return work.to_come / rate, known.bandwidth is not None or work.to_come == 0


def _peak_mb(work: Work, paid: Paid | None, *, known: Known) -> tuple[float, bool]:
    """Return the memory of the largest process, MiB, and whether it rests on what was paid here."""
    usual = USUAL[work.family]
    if paid is not None:
        return _scaled(paid.peak_mb, work.held_bytes, paid.held_bytes, base_mb=usual.base_mb), True
    units = known.units.get(work.modality) if work.modality else None
    if units is not None:
        return _scaled(units.peak_mb, work.held_bytes, units.bytes_each, base_mb=usual.base_mb), True
    packed = 4.0 if work.modality is Modality.FMRI else 1.0  # Volumes come compressed.
    return usual.base_mb + usual.mb_per_mb * packed * work.held_bytes / 2**20, usual.mb_per_mb == 0


def _scaled(peak_mb: float, held: float, then: float, *, base_mb: float) -> float:
    """Scale what a process took above its start with the data that it holds."""
    return peak_mb if held <= 0 or then <= 0 else base_mb + max(0.0, peak_mb - base_mb) * held / then
