"""Real EEG as states, and artefacts of known size to be laid over it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import mne
import numpy as np
import numpy.typing as npt

from neurofm.eeg import State
from neurofm.eeg.reference import ReferenceKind, ReferenceSettings
from neurofm.eeg.reference import step as reference_step

Array = npt.NDArray[np.float64]
EYES_M = np.array([0.0, 0.10, -0.01])
"""Between the eyes, in head coordinates."""


def eegmat(data: Path, recording: str) -> State:
    """Return 19 channels at 500 Hz, which the authors have freed from artefacts."""
    raw = mne.io.read_raw_edf(data / "eeg" / "eegmat" / f"Subject{recording}.edf", preload=True, verbose="error")
    raw.pick(raw.ch_names[:19])
    raw.rename_channels(lambda name: name.removeprefix("EEG "))
    raw.set_montage("standard_1020", verbose="error")
    return State(raw=raw)


def eegbci(data: Path, run: int) -> State:
    """Return 64 channels at 160 Hz as they were recorded, for one minute."""
    raw = mne.io.read_raw_edf(data / "eeg" / "eegbci_S003" / f"S003R0{run}.edf", preload=True, verbose="error")
    mne.datasets.eegbci.standardize(raw)
    raw.set_montage("standard_1005", verbose="error")
    return State(raw=raw)


def averaged(state: State) -> State:
    return reference_step(state, settings=ReferenceSettings(kind=ReferenceKind.AVERAGE))


def uv(state: State) -> Array:
    """Return [channel, time] in microvolts."""
    return np.asarray(state.raw.get_data() * 1e6, dtype=np.float64)


def with_values(state: State, values_uv: Array) -> State:
    """Return the state with other values, [channel, time]."""
    raw = mne.io.RawArray(values_uv * 1e-6, state.raw.info.copy(), verbose="error")
    return State(raw=raw, bad=state.bad, silent=state.silent, masked=state.masked, quality=state.quality)


def blinks(state: State, *, onsets_s: Iterable[float], peak_uv: float) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return blinks of 0.4 s that fade with the square of the distance from the eyes, and when they are."""
    raw = state.raw
    rate = raw.info["sfreq"]
    distance = np.array([np.linalg.norm(channel["loc"][:3] - EYES_M) for channel in raw.info["chs"]])
    map_ = (distance.min() / distance) ** 2
    shape = peak_uv * np.hanning(round(0.4 * rate))
    course = np.zeros(raw.n_times)
    for onset in onsets_s:
        start = round(onset * rate)
        course[start : start + len(shape)] += shape
    return map_[:, None] * course, course > 0


def muscle(
    state: State, channel: str, *, onset_s: float, duration_s: float, rms_uv: float
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return noise of 30-90 Hz at one channel, a third of it at its neighbours within 8 cm, and when it is."""
    raw = state.raw
    rate = raw.info["sfreq"]
    noise = mne.filter.filter_data(
        np.random.default_rng(0).standard_normal(raw.n_times), rate, 30.0, min(90.0, 0.45 * rate), verbose="error"
    )
    start, samples = round(onset_s * rate), round(duration_s * rate)
    course = np.zeros(raw.n_times)
    burst = noise[start : start + samples]
    course[start : start + samples] = rms_uv * burst / burst.std()
    at = raw.info["chs"][raw.ch_names.index(channel)]["loc"][:3]
    distance = np.array([np.linalg.norm(each["loc"][:3] - at) for each in raw.info["chs"]])
    map_ = np.where(distance == 0, 1.0, np.where(distance < 0.08, 1 / 3, 0.0))
    return map_[:, None] * course, course != 0


def rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))
