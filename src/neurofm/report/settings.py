"""What the report shows of each recording."""

from __future__ import annotations

from pydantic import Field

from neurofm.recording import Modality
from neurofm.settings import Settings


class ExcerptSeconds(Settings):
    """How long the excerpt drawn from a recording is, per modality; shorter recordings are drawn whole."""

    spikes: float = Field(gt=0)
    calcium: float = Field(gt=0)
    miniscope: float = Field(gt=0)
    fmri: float = Field(gt=0)
    eeg: float = Field(gt=0)
    meg: float = Field(default=10.0, gt=0)

    def of(self, modality: Modality) -> float:
        """Return the seconds of `modality`."""
        seconds: float = getattr(self, modality.value)
        return seconds


class ReportSettings(Settings):
    """`report` in params.yaml."""

    excerpt_s: ExcerptSeconds
    traces: int = Field(gt=0)
    """Most channels drawn as traces, taken evenly through the channel table."""
    reconstructed_channels: int = Field(gt=0)
    """Most hidden channels drawn per dataset."""
    table_rows: int = Field(gt=0)
    """Most rows shown of a table that grows with the number of recordings or files."""
    eeg_pages: int = Field(ge=0)
    """Most reports of MNE per EEG dataset, the most suspicious recordings first; a second and 2.5 MB each."""
    eeg_shards: int = Field(gt=0)
    """Most shards per EEG dataset that are read for spectra and the map of bad channels, evenly through the list."""
    png_dpi: int = Field(gt=0)
    """Of the two pictures for the README."""
