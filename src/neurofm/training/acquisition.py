"""Acquisition: what a recording must have in common with those that a model was trained on.

A repetition time, an atlas, a montage or a bin that differs raises no error by itself: patches then span other times,
and identities describe other channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neurofm.errors import UserError
from neurofm.recording import Modality
from neurofm.windows import RecordingView

_AS_LONG = 1e-3
"""Relative difference of two rates that are the same."""
_RATES: Mapping[Modality, tuple[str, Callable[[float], str]]] = {
    Modality.SPIKES: ("bin", lambda rate: f"{1000 / rate:.4g} ms"),
    Modality.FMRI: ("TR", lambda rate: f"{1 / rate:.4g} s"),
}
"""What people call the sampling rate, and how they write it."""
_ANY_RATE: tuple[str, Callable[[float], str]] = ("sampling rate", lambda rate: f"{rate:.6g} Hz")
_CHANNEL_SETS = {Modality.FMRI: "atlas", Modality.EEG: "montage", Modality.MEG: "helmet"}
"""Modalities whose channels are the same in several recordings, and the name of such a set. Elsewhere every recording
has channels of its own."""


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """How recordings of one kind were acquired."""

    modality: Modality
    sampling_rate_hz: float
    channel_set: str
    """Digest of the channels and their space; empty where every recording has its own."""
    channels: int
    """How many; 0 where every recording has its own."""

    @classmethod
    def of(cls, view: RecordingView) -> Acquisition:
        """Describe a recording."""
        shared = view.modality in _CHANNEL_SETS
        return cls(
            modality=view.modality,
            sampling_rate_hz=view.sampling_rate_hz,
            channel_set=view.channel_set if shared else "",
            channels=len(view.channel_ids) if shared else 0,
        )

    @classmethod
    def parse(cls, plain: Mapping[str, Any]) -> Acquisition:
        """Read what ``config.json`` says."""
        return cls(**{**plain, "modality": Modality(plain["modality"])})

    @property
    def rate(self) -> str:
        """As people write it."""
        _, said = _RATES.get(self.modality, _ANY_RATE)
        return said(self.sampling_rate_hz)

    @property
    def channels_said(self) -> str:
        """As people may recognise it."""
        return f"{self.channel_set} of {self.channels} channels"


def acquisitions(views: Iterable[RecordingView]) -> tuple[Acquisition, ...]:
    """Describe recordings, each kind once."""
    return tuple(sorted({Acquisition.of(view) for view in views}, key=repr))


def refuse_other(view: RecordingView, known: Sequence[Acquisition]) -> None:
    """Refuse a recording that differs from everything that the model was trained on.

    Parameters
    ----------
    view
        The recording.
    known
        What the model was trained on.

    Raises
    ------
    UserError
        That names what differs, and both values.
    """
    here = Acquisition.of(view)
    there = [one for one in known if one.modality is here.modality]
    if not there:
        return  # `Predictor.prepare` refuses a modality that was never seen.
    differences = []
    if not any(math.isclose(here.sampling_rate_hz, one.sampling_rate_hz, rel_tol=_AS_LONG) for one in there):
        name, _ = _RATES.get(here.modality, _ANY_RATE)
        differences.append(f"{name} {here.rate} here, {_several(one.rate for one in there)} in training")
    if here.channel_set and here.channel_set not in {one.channel_set for one in there}:
        name = _CHANNEL_SETS[here.modality]
        differences.append(
            f"{name} {here.channels_said} here, {_several(one.channels_said for one in there)} in training"
        )
    if differences:
        raise UserError(
            f"{view.name}: not what the model was trained on: {'; '.join(differences)}.",
            mend="preprocess it as the training data were, choose another model, or let this one meet it unprepared "
            "(`neurofm embed --other`; `Predictor.load(folder, strict=False)`)",
        )


def _several(words: Iterable[str]) -> str:
    return " or ".join(sorted(set(words)))
