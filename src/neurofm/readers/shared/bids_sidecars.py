"""What the side files of a BIDS recording say beyond what mne-bids takes from them, and which are missing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mne_bids

from neurofm.readers.shared.common import opening
from neurofm.readers.shared.event_rows import EventTable, read_event_table
from neurofm.recording import Unreadable

_RATE_TOLERANCE = 1e-3
"""Relative: 600.615 Hz stands as 600 or 600.6 in side files written by hand, 500 Hz never as 512."""
_MISSING_END_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Sidecars:
    """The side files of one recording."""

    described: Mapping[str, Any]
    """``*_eeg.json`` or ``*_meg.json``; empty where there is none."""
    events: EventTable | None
    missing: tuple[str, ...]
    """Side files that BIDS asks for and that are not there: what they would say is unknown."""

    @property
    def reference(self) -> str:
        """The reference electrode as the side file names it (``EEGReference``); empty where it is unknown."""
        stated = str(self.described.get("EEGReference", "")).strip()
        return "" if stated in ("n/a", "N/A") else stated

    def check_rate(self, rate_hz: float, *, name: str) -> None:
        """Refuse a recording whose header and side file disagree about its sampling rate: one of them moves events.

        Raises
        ------
        Unreadable
            If they differ by more than one in a thousand.
        """
        stated = self.number("SamplingFrequency")
        if stated is not None and abs(stated - rate_hz) > _RATE_TOLERANCE * rate_hz:
            raise Unreadable(f"{name}: sampled at {rate_hz:g} Hz by its header, at {stated:g} Hz by its side file")

    def missing_end_s(self, duration_s: float) -> float:
        """Return by how much the recording is shorter than its side file says; 0 below one second."""
        lacking = (self.number("RecordingDuration") or 0.0) - duration_s
        return round(lacking, 3) if lacking > _MISSING_END_S else 0.0

    def number(self, key: str) -> float | None:
        """Return a number of the JSON side file, None where it is not stated as one."""
        value = self.described.get(key)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_sidecars(bids_path: mne_bids.BIDSPath) -> Sidecars:
    """Read the side files of a recording, found by BIDS's inheritance principle.

    Parameters
    ----------
    bids_path
        The recording, with its root.

    Raises
    ------
    Unreadable
        If one of them is damaged; the text names it.
    """
    kind = str(bids_path.datatype)
    found = {
        (suffix, extension): bids_path.find_matching_sidecar(suffix=suffix, extension=extension, on_error="ignore")
        for suffix, extension in (
            (kind, ".json"),
            ("channels", ".tsv"),
            ("events", ".tsv"),
            ("electrodes", ".tsv"),
            ("coordsystem", ".json"),
        )
    }
    asked = {(kind, ".json"), ("channels", ".tsv")}
    if found["electrodes", ".tsv"] is not None:
        # Without it MNE does not know what the coordinates are relative to, and leaves the electrodes out.
        asked.add(("coordsystem", ".json"))
    described, events = found[kind, ".json"], found["events", ".tsv"]
    return Sidecars(
        described={} if described is None else _json(Path(described)),
        events=None if events is None else read_event_table(Path(events)),
        missing=tuple(sorted(f"{suffix}{extension}" for suffix, extension in asked if not found[suffix, extension])),
    )


def _json(path: Path) -> Mapping[str, Any]:
    with opening(path):
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(content, dict):
        raise Unreadable(f"{path.name}: expected named values, it holds a {type(content).__name__}")
    return content
