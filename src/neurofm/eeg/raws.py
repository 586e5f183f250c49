"""A raw object with other values: what a step returns that filters, crops or resamples."""

from __future__ import annotations

import mne
import numpy as np
import numpy.typing as npt


def with_values(
    raw: mne.io.BaseRaw, values: npt.NDArray[np.float64], *, rate_hz: float | None = None, cut_s: float = 0.0
) -> mne.io.RawArray:
    """Return a raw object with the channels, positions and events of another, and with these values.

    Parameters
    ----------
    raw
        Whose channels these are; it stays as it is.
    values
        [channel, time] in V. They are kept, not copied.
    rate_hz
        Their rate, where it is another one.
    cut_s
        How much later than the first sample of `raw` they begin. Events count from their first sample.
    """
    info = raw.info.copy()
    if rate_hz is not None:
        with info._unlock():  # noqa: SLF001  # MNE's own way: it has no public one for a new rate
            info["sfreq"] = float(rate_hz)
            info["lowpass"] = min(info["lowpass"], rate_hz / 2)
    new = mne.io.RawArray(values, info, verbose="error")
    duration_s = values.shape[1] / new.info["sfreq"]
    onset = np.asarray(raw.annotations.onset, dtype=np.float64) - cut_s
    # An event of unknown length is an instant.
    length = np.nan_to_num(np.asarray(raw.annotations.duration, dtype=np.float64))
    inside = (onset + length >= 0) & (onset < duration_s)
    labels = [str(label) for label, kept in zip(raw.annotations.description, inside, strict=True) if kept]
    new.set_annotations(mne.Annotations(onset[inside], length[inside], labels), verbose="error")
    return new
