"""Real EEG as a reader gives it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mne
import numpy as np
import numpy.typing as npt

from neurofm.recording import Channels, Clock, Events, Modality, Recording, Signal
from neurofm.recording.recording import JsonScalar

Array = npt.NDArray[np.float64]


def eegmat(data: Path, recording: str) -> Recording:
    """Return 19 channels at 500 Hz: `Subject00_1` rests for a minute, `Subject00_2` does sums in the head."""
    raw = mne.io.read_raw_edf(data / "eeg" / "eegmat" / f"Subject{recording}.edf", preload=True, verbose="error")
    raw.pick(raw.ch_names[:19])
    raw.rename_channels(lambda name: name.removeprefix("EEG "))
    raw.set_montage("standard_1020", verbose="error")
    return as_recording(raw, line_hz=50.0)


def eegbci(data: Path, run: int) -> Recording:
    """Return 64 channels at 160 Hz: run 1 with eyes open, run 2 closed."""
    raw = mne.io.read_raw_edf(data / "eeg" / "eegbci_S003" / f"S003R0{run}.edf", preload=True, verbose="error")
    mne.datasets.eegbci.standardize(raw)
    raw.set_montage("standard_1005", verbose="error")
    return as_recording(raw, line_hz=60.0)


def as_recording(raw: mne.io.BaseRaw, *, line_hz: float) -> Recording:
    position = np.array([channel["loc"][:3] for channel in raw.info["chs"]])
    return recording(
        raw.get_data().T,
        rate_hz=float(raw.info["sfreq"]),
        names=tuple(raw.ch_names),
        position=position,
        scalars={"line_freq_hz": line_hz},
    )


def recording(
    values: Array,
    *,
    rate_hz: float,
    names: tuple[str, ...],
    position: Array | None = None,
    events: Events | None = None,
    scalars: Mapping[str, JsonScalar] | None = None,
    start_s: float = 0.0,
) -> Recording:
    """Return [time, channel] V as a reader gives it."""
    place = np.full((len(names), 3), np.nan) if position is None else position
    return Recording(
        dataset="real",
        subject="real:01",
        session="",
        run="",
        task="",
        species="-",
        modality=Modality.EEG,
        channels=Channels(id=names, position=place, position_unit="" if position is None else "m"),
        clock=Clock(id="real/01"),
        signal=Signal(values=np.ascontiguousarray(values), sampling_rate_hz=rate_hz, units="V", start_s=start_s),
        events=events,
        scalars=dict(scalars or {}),
    )


def tiled(one: Recording, *, samples: int) -> Recording:
    """Return a recording of `samples`, made of one that is turned at each end, so that it goes on without a jump."""
    assert one.signal is not None
    both = np.concatenate([one.signal.values, one.signal.values[::-1]])
    values = np.tile(both, (-(-samples // len(both)), 1))[:samples]
    return recording(
        values,
        rate_hz=one.signal.sampling_rate_hz,
        names=one.channels.id,
        position=np.asarray(one.channels.position, dtype=np.float64),
        scalars=one.scalars,
    )


def hbn_events(data: Path, subject: str) -> Events:
    """Return the events of a participant's rest, as the file of the Healthy Brain Network has them."""
    folder = data / "eeg" / "hbn_r1_metadata_ds005505" / subject / "eeg"
    lines = (folder / f"{subject}_task-RestingState_events.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    return Events(
        onset_s=np.array([float(row[0]) for row in rows]),
        duration_s=np.full(len(rows), np.nan),
        label=tuple(row[3] for row in rows),
    )
