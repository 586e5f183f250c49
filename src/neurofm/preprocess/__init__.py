"""One modality per module: a recording as the file has it becomes a clean one on a regular grid, with its quality.

A module is named after its modality and has a ``VERSION``, the ``LIBRARIES`` that decide its result, a class
``ModalitySettings`` and a function ``preprocess``. Modules are imported when they are used.

What every result has: `signal` on a regular grid (uint8 counts, or float32), `valid`, targets on the signal's
own times, the channel quality column ``usable`` (1 or 0; an unusable channel's values are 0), and the steps taken.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol, cast

from neurofm.preprocess.common import Common
from neurofm.recording import Modality, Recording
from neurofm.settings import Settings

__all__ = ["Common", "ModalityModule", "modality_module", "preprocess_recording", "settings_class"]


class ModalityModule(Protocol):
    """What every modality's module has."""

    VERSION: str
    """Raised by hand when the result of `preprocess` changes; part of a unit's key."""
    LIBRARIES: tuple[str, ...]
    """Distributions whose version may change the result."""
    ModalitySettings: type[Settings]

    def preprocess(self, recording: Recording, *, settings: Settings, common: Common) -> Recording:
        """Clean one recording; raises `Unreadable` where that is impossible."""
        ...


def modality_module(modality: Modality) -> ModalityModule:
    """Import the module of a modality: the one that bears its name."""
    return cast("ModalityModule", import_module(f"{__name__}.{modality.value}"))


def settings_class(modality: Modality) -> type[Settings]:
    """Return the settings model of a modality: the section ``preprocess.<modality>`` of params.yaml."""
    return modality_module(modality).ModalitySettings


def preprocess_recording(recording: Recording, *, settings: Settings, common: Common) -> Recording:
    """Clean one recording by the rules of its modality.

    Parameters
    ----------
    recording
        As a reader gives it.
    settings
        An instance of `settings_class` of the recording's modality.
    common
        What all modalities share.

    Raises
    ------
    Unreadable
        If the recording lacks what its modality needs.
    """
    return modality_module(recording.modality).preprocess(recording, settings=settings, common=common)
