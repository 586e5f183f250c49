"""Names and numbers as a reader wants them."""

from __future__ import annotations

import math

from neurofm.recording import Modality

MISSING = "\N{EN DASH}"
"""Stands in tables for what is not known."""

MODALITY_WORDS = {
    Modality.SPIKES: "Spikes",
    Modality.CALCIUM: "Two-photon calcium",
    Modality.MINISCOPE: "Miniscope calcium",
    Modality.FMRI: "fMRI",
    Modality.EEG: "EEG",
    Modality.MEG: "MEG",
}


def number(value: float, *, digits: int = 3) -> str:
    """Write a number with `digits` significant digits, never as a power of ten unless it is tiny."""
    if not math.isfinite(value):
        return MISSING
    if value == 0 or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def counted(count: int, noun: str) -> str:
    """Write a number of things: ``1 file``, ``2 files``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def unit_name(unit: str) -> str:
    """Write a unit as it is printed."""
    return "µV" if unit == "uV" else unit


_UNIT_SUFFIXES = {"hz": "Hz", "s": "s", "ms": "ms", "uv": "µV", "sd": "SD"}


def quality_name(name: str) -> str:
    """Turn ``mean_rate_hz`` into ``mean rate (Hz)``."""
    head, _, tail = name.rpartition("_")
    return f"{plain(head)} ({_UNIT_SUFFIXES[tail]})" if head and tail in _UNIT_SUFFIXES else plain(name)


def quality_value(value: str | float | bool | None) -> str:  # noqa: FBT001  # a JSON value, not a flag
    """Write a quality measure."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else value


def modality_word(modality: str) -> str:
    """Name a modality; one that is unknown keeps its own name."""
    return MODALITY_WORDS[Modality(modality)] if modality in {kind.value for kind in Modality} else modality


def modality_order(modality: str) -> int:
    """Place of a modality on the page; one that is unknown comes last."""
    names = [kind.value for kind in Modality]
    return names.index(modality) if modality in names else len(names)


def plain(name: str) -> str:
    """Turn ``masked_reconstruction`` or ``decoding:head_direction`` into words."""
    return name.replace("_", " ").replace(":", ": ")
