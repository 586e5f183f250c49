"""Names and numbers as a reader wants them."""

from __future__ import annotations

import math

from neurofm.recording import Modality

MODALITY_WORDS = {
    Modality.SPIKES: "Spikes",
    Modality.CALCIUM: "Two-photon calcium",
    Modality.MINISCOPE: "Miniscope calcium",
    Modality.FMRI: "fMRI",
    Modality.EEG: "EEG",
}


def number(value: float, *, digits: int = 3) -> str:
    """Write a number with `digits` significant digits, never as a power of ten unless it is tiny."""
    if not math.isfinite(value):
        return "–"
    if value == 0 or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def quality_value(value: str | float | bool | None) -> str:  # noqa: FBT001  # a JSON value, not a flag
    """Write a quality measure."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, int | float) else value


def modality_word(modality: str) -> str:
    """Name a modality; one that is unknown keeps its own name."""
    return MODALITY_WORDS[Modality(modality)] if modality in {kind.value for kind in Modality} else modality


def plain(name: str) -> str:
    """Turn ``masked_reconstruction`` or ``decoding:head_direction`` into words."""
    return name.replace("_", " ").replace(":", ": ")
