"""EEG in MNE's own format (``.fif``)."""

from __future__ import annotations

import mne
from pydantic import Field

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import opening
from neurofm.readers.shared.mne_raw import eeg_recording
from neurofm.recording import Recording
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("mne", "numpy")


class Options(Settings):
    """What of a FIF file is wanted."""

    picks: str = "eeg"
    """MNE channel type."""
    event_labels: dict[str, str] = Field(default_factory=dict)
    """Names for the codes of the stimulus channel: ``"1": auditory/left``."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read the channels of one type, their montage, and the events of the stimulus channel.

    Parameters
    ----------
    source
        ``main`` is the FIF file; a ``participants.tsv`` among the side files gives the scalars.
    options
        Channel type and event names.

    Returns
    -------
    Recording
        As `neurofm.readers.shared.mne_raw.eeg_recording` describes it.

    Raises
    ------
    Unreadable
        For a damaged file, or one without such channels.
    """
    path = source.path()
    with opening(path):
        raw = mne.io.read_raw_fif(path, allow_maxshield=True, verbose="error")
        return eeg_recording(source, raw, picks=options.picks, event_labels=options.event_labels)
