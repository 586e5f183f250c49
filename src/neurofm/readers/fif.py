"""EEG and MEG in MNE's own format (``.fif``)."""

from __future__ import annotations

import mne

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import opening
from neurofm.readers.shared.mne_options import RawOptions
from neurofm.readers.shared.mne_raw import opened, raw_recording
from neurofm.recording import Recording

VERSION = "2"
LIBRARIES = ("mne", "numpy")


class Options(RawOptions):
    """What of a FIF file is wanted, and what replaces its words."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read the channels of one type, their places, and the events of the stimulus channel and annotations.

    Parameters
    ----------
    source
        ``main`` is the FIF file; a ``participants.tsv`` among the side files gives the scalars.
    options
        Kind of channels, montage, names and types.

    Returns
    -------
    Recording
        As `neurofm.readers.shared.mne_raw.raw_recording` describes it.

    Raises
    ------
    Unreadable
        For a damaged file, and what `opened` and `raw_recording` refuse.
    """
    path = source.path()

    def read_raw() -> mne.io.BaseRaw:
        return mne.io.read_raw_fif(path, allow_maxshield=True, verbose="warning")

    found = opened(path, read_raw)
    with opening(path):
        return raw_recording(source, found, options)
