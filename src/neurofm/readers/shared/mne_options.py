"""What is wanted of a recording that MNE opens, and what the file may fail to say."""

from __future__ import annotations

import difflib

import mne
from pydantic import Field, field_validator

from neurofm.settings import Settings

UNITS = {"eeg": "V", "mag": "T", "grad": "T/m", "meg": "T, T/m", "seeg": "V", "ecog": "V", "dbs": "V"}
"""Unit of each kind of channel that can be picked, as MNE has them; `meg` are magnetometers and gradiometers."""


class RawOptions(Settings):
    """One kind of channels, and what the file's own words are to be replaced with."""

    picks: str = "eeg"
    """MNE channel type, of which a recording holds one; ``meg`` takes magnetometers (``mag``, T) and gradiometers
    (``grad``, T/m) together, and the channel table tells them apart."""
    montage: str = ""
    """Template of electrode positions (`mne.channels.get_builtin_montages`: ``GSN-HydroCel-129``; ``standard_1020``
    is the older name of ``colin27_1020``), used where neither file nor side files give any position."""
    rename: dict[str, str] = Field(default_factory=dict)
    """Other names for channels: ``"EEG Fp1": Fp1``. Each must be in the file."""
    types: dict[str, str] = Field(default_factory=dict)
    """MNE channel types by name (after `rename`), in place of what file and side files say: ``ECG: ecg``."""
    event_labels: dict[str, str] = Field(default_factory=dict)
    """Other names for events; codes of a stimulus channel as text: ``"1": auditory/left``."""

    clock_event: str = ""
    """Label of the event, the first of its kind, at which the clock that the recording shares with another reads 0:
    the trigger of the scanner's first volume."""

    @field_validator("picks")
    @classmethod
    def _one_unit(cls, value: str) -> str:
        return _known(value, list(UNITS), "kind of channels to pick")

    @field_validator("montage")
    @classmethod
    def _builtin(cls, value: str) -> str:
        known = mne.channels.get_builtin_montages()
        older = [name.replace("colin27_", "standard_") for name in known if name.startswith("colin27_")]
        return _known(value, [*known, *older], "montage") if value else value

    @field_validator("types")
    @classmethod
    def _mne_types(cls, value: dict[str, str]) -> dict[str, str]:
        known = sorted(mne.io.get_channel_type_constants(include_defaults=True))
        return {name: _known(kind, known, "channel type") for name, kind in value.items()}


def template(name: str) -> mne.channels.DigMontage:
    """Return a montage under its present or its older name (MNE 1.13 renamed ``standard_*`` to ``colin27_*``)."""
    return mne.channels.make_standard_montage(name.replace("standard_", "colin27_"))


def _known(value: str, names: list[str], what: str) -> str:
    if value in names:
        return value
    lower = {name.lower(): name for name in names}
    near = [lower[name] for name in difflib.get_close_matches(value.lower(), lower, n=3, cutoff=0.4)]
    raise ValueError(f"there is no {what} {value!r}; near: {', '.join(near or names[:6])}")
