"""EEG and MEG in the Brain Imaging Data Structure (BrainVision, EDF, BDF, EEGLAB or FIF inside)."""

from __future__ import annotations

from collections.abc import Mapping

import mne
import mne_bids

from neurofm.eeg.hbn.events import read_events
from neurofm.eeg.hbn.exclusions import lists_digest
from neurofm.eeg.hbn.recording import HbnSettings, describe
from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.bids_sidecars import read_sidecars
from neurofm.readers.shared.common import opening
from neurofm.readers.shared.mne_options import RawOptions
from neurofm.readers.shared.mne_raw import opened, raw_recording
from neurofm.recording import Recording
from neurofm.recording.recording import JsonScalar

VERSION = "3"
LIBRARIES = ("mne-bids", "mne", "numpy", "pandas")


class Options(RawOptions):
    """What of a BIDS recording is wanted, and what replaces its side files' words."""

    hbn: HbnSettings | None = None
    """For HBN-EEG: crop to the file's own task, and add its trials, rest blocks, factors and exclusions."""


def read(source: ReaderInput, options: Options) -> Recording:
    """Read one run with what its side files say: channel types, bad channels, electrodes, reference, events.

    Parameters
    ----------
    source
        ``main`` is the recording in its place in the BIDS tree; `source.root` is the root of that tree.
    options
        Kind of channels, montage, names and types.

    Returns
    -------
    Recording
        As `neurofm.readers.shared.mne_raw.raw_recording` describes it, with scalar ``reference``
        (``EEGReference``), and quality ``missing_sidecars`` (those that BIDS asks for: without ``channels.tsv``
        channel types are the file's own, without ``eeg.json`` reference and line frequency are unknown) and
        ``missing_end_s`` (shorter than ``RecordingDuration`` by more than 1 s) where it is so. With `hbn`, what
        `neurofm.eeg.hbn.recording.describe` makes of that.

    Raises
    ------
    Unreadable
        For damaged files or side files, names that are not BIDS, a sampling rate that header and side file
        state differently, and what `opened` and `raw_recording` refuse.
    """
    path = source.path()
    with opening(path):
        bids_path = mne_bids.get_bids_path_from_fname(path, verbose="error").update(root=source.root)
        sidecars = read_sidecars(bids_path)

    def read_raw() -> mne.io.BaseRaw:
        return mne_bids.read_raw_bids(bids_path, verbose="warning")

    found = opened(path, read_raw)
    rate_hz = float(found.raw.info["sfreq"])
    sidecars.check_rate(rate_hz, name=path.name)
    scalars: dict[str, JsonScalar] = {"reference": sidecars.reference} if sidecars.reference else {}
    quality: dict[str, JsonScalar] = {}
    if sidecars.missing:
        quality["missing_sidecars"] = ", ".join(sidecars.missing)
    if missing_s := sidecars.missing_end_s(len(found.raw.times) / rate_hz):
        quality["missing_end_s"] = missing_s
    with opening(path):
        recording = raw_recording(source, found, options, events=sidecars.events, scalars=scalars, quality=quality)
    if options.hbn is None:
        return recording
    events = path.with_name(f"{path.stem.removesuffix('_eeg')}_events.tsv")
    return describe(recording, read_events(events), settings=options.hbn)


def outside(source: ReaderInput, options: Options) -> Mapping[str, str]:
    """Return the digest of the lists of excluded participants, which are no file of the dataset."""
    del source
    return {"lists of excluded participants": f"sha256:{lists_digest()}"} if options.hbn else {}
