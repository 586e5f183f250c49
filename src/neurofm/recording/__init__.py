"""The nouns of the field, as data, and the reason of what is damaged: no I/O, numpy and pydantic only."""

from neurofm.recording.damage import reading
from neurofm.recording.manifest import FIRST_USE, Manifest, ManifestFile, ManifestRecording
from neurofm.recording.recording import (
    SHARED_CLOCK,
    SPACE_UNKNOWN,
    Channels,
    Clock,
    Confounds,
    EventColumn,
    Events,
    Modality,
    Recording,
    Signal,
    Spikes,
    Step,
    Stimulus,
    Target,
)
from neurofm.recording.status import UnitStatus, Unreadable

__all__ = [
    "FIRST_USE",
    "SHARED_CLOCK",
    "SPACE_UNKNOWN",
    "Channels",
    "Clock",
    "Confounds",
    "EventColumn",
    "Events",
    "Manifest",
    "ManifestFile",
    "ManifestRecording",
    "Modality",
    "Recording",
    "Signal",
    "Spikes",
    "Step",
    "Stimulus",
    "Target",
    "UnitStatus",
    "Unreadable",
    "reading",
]
