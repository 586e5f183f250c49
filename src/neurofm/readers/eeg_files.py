"""EEG outside BIDS: EDF, BDF, BrainVision and EEGLAB files, as an amplifier or a program wrote them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mne

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import opening
from neurofm.readers.shared.mne_options import RawOptions
from neurofm.readers.shared.mne_raw import opened, raw_recording
from neurofm.recording import Recording, Unreadable

VERSION = "1"
LIBRARIES = ("mne", "numpy")

_FORMATS: dict[str, Callable[..., Any]] = {
    ".edf": mne.io.read_raw_edf,
    ".bdf": mne.io.read_raw_bdf,
    ".vhdr": mne.io.read_raw_brainvision,
    ".set": mne.io.read_raw_eeglab,
}


class Options(RawOptions):
    """What of a file is wanted, and what replaces its words."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read the channels of one type, their places, and the file's own events.

    Parameters
    ----------
    source
        ``main`` is the file (of BrainVision the ``.vhdr``, of EEGLAB the ``.set``); the files that belong to it are
        side files. A ``participants.tsv`` among them gives the scalars.
    options
        Kind of channels, montage, names and types: such files tend to call everything EEG.

    Returns
    -------
    Recording
        As `neurofm.readers.shared.mne_raw.raw_recording` describes it.

    Raises
    ------
    Unreadable
        For an unknown suffix, a damaged file, and what `opened` and `raw_recording` refuse.
    """
    path: Path = source.path()
    read_format = _FORMATS.get(path.suffix.lower())
    if read_format is None:
        raise Unreadable(f"{path.name}: suffix {path.suffix!r} is none of {', '.join(_FORMATS)}")
    found = opened(path, lambda: read_format(path, verbose="warning"))
    with opening(path):
        return raw_recording(source, found, options)
