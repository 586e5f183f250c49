"""EEG in the Brain Imaging Data Structure (BrainVision, EDF, BDF, EEGLAB inside)."""

from __future__ import annotations

import mne_bids
from pydantic import Field

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import opening
from neurofm.readers.shared.mne_raw import eeg_recording
from neurofm.recording import Recording
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("mne-bids", "mne", "numpy")


class Options(Settings):
    """What of a BIDS recording is wanted."""

    event_labels: dict[str, str] = Field(default_factory=dict)
    """Other names for trial types."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read one EEG run with what its side files say: channel types, bad channels, electrodes, line frequency, events.

    Parameters
    ----------
    source
        ``main`` is the EEG file in its place in the BIDS tree; `source.root` is the root of that tree.
    options
        Event names.

    Returns
    -------
    Recording
        As `neurofm.readers.shared.mne_raw.eeg_recording` describes it.

    Raises
    ------
    Unreadable
        For damaged files, file names that are not BIDS, or a run without EEG channels.
    """
    path = source.path()
    with opening(path):
        bids_path = mne_bids.get_bids_path_from_fname(path, verbose="error").update(root=source.root)
        raw = mne_bids.read_raw_bids(bids_path, verbose="error")
        return eeg_recording(source, raw, picks="eeg", event_labels=options.event_labels)
