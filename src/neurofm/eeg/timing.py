"""How far a whole chain of steps moved a recording in time, measured on the recording itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurofm.eeg.state import State
from neurofm.eeg.usable import good_channels

_STRETCH_S = 20.0
_SHORTEST_S = 2.0
_STEP_HZ = 0.5
_INNER = (1.5, 0.8)
"""The frequencies compared lie within the band: above the lower edge by this factor, below the upper by that one."""
_LOWEST_HZ = 2.0
_MOST_S, _GRID_S = 0.1, 1e-4

_Complex = npt.NDArray[np.complex128]


def time_shift_s(before: State, after: State, *, band_hz: tuple[float, float]) -> float | None:
    """Return how much later the same waveform lies in `after` than in `before`, in seconds.

    Three stretches of 20 s are compared, at the beginning, in the middle and at the end, since a rate that is not
    quite the one stated shifts the end only; the one that moved farthest is told. Of each stretch the Fourier
    transforms of both are taken at the same frequencies and at the samples' own times, so no sample of one need lie
    on one of the other. The delay is where the transfer function between them, summed over channels, lines up best.
    A symmetric mix of channels (an average reference, a projection) adds nothing to that sum's phase.

    Parameters
    ----------
    before, after
        The recording as its reader gave it, and after its steps, with the same channels in the same order.
    band_hz
        What passed through: highest of the lower edges, lowest of the upper ones.

    Returns
    -------
    float or None
        Up to 0.1 s either way, to about 0.01 ms; None where there are less than 2 s, or no channel with a signal.
    """
    lower = max(band_hz[0] * _INNER[0], _LOWEST_HZ)
    frequency = np.arange(lower, band_hz[1] * _INNER[1], _STEP_HZ)
    picks = [name for name in good_channels(after) if name not in before.silent | after.bad]
    length_s = len(after.raw.times) / float(after.raw.info["sfreq"])
    if length_s < _SHORTEST_S or not picks or len(frequency) == 0:
        return None
    span_s = min(_STRETCH_S, length_s)
    shifts = []
    for begin_s in {0.0, (length_s - span_s) / 2, length_s - span_s}:
        first_s = after.start_s + begin_s
        x = _transform(before, picks, first_s, first_s + span_s, frequency)
        y = _transform(after, picks, first_s, first_s + span_s, frequency)
        power = (np.abs(x) ** 2).sum(axis=0)
        if not power.all():
            continue
        shifts.append(_delay_s((x.conj() * y).sum(axis=0) / power, frequency))
    return max(shifts, key=abs) if shifts else None


def _transform(
    state: State, picks: list[str], begin_s: float, end_s: float, frequency: npt.NDArray[np.float64]
) -> _Complex:
    """[channel, frequency] of a stretch of the recording, under a Hann window that both compared have in common."""
    fs = float(state.raw.info["sfreq"])
    first = max(0, int(np.ceil((begin_s - state.start_s) * fs)))
    last = min(len(state.raw.times), int(np.floor((end_s - state.start_s) * fs)) + 1)
    time = state.start_s + np.arange(first, last) / fs
    values = state.raw.get_data(picks=picks, start=first, stop=last)
    values = values - values.mean(axis=1, keepdims=True)
    window = np.sin(np.pi * np.clip((time - begin_s) / (end_s - begin_s), 0, 1)) ** 2
    wave = np.exp(-2j * np.pi * np.outer(time - begin_s, frequency)) * window[:, None] / fs
    return np.asarray(values @ wave.real + 1j * (values @ wave.imag), dtype=np.complex128)


def _delay_s(transfer: _Complex, frequency: npt.NDArray[np.float64]) -> float:
    delay = np.arange(-_MOST_S, _MOST_S + _GRID_S / 2, _GRID_S)
    match = (np.exp(2j * np.pi * np.outer(delay, frequency)) @ transfer).real
    best = int(np.clip(np.argmax(match), 1, len(delay) - 2))
    left, middle, right = match[best - 1 : best + 2]
    bend = left - 2 * middle + right
    # The vertex of the parabola through the highest three.
    return float(delay[best] + (0.5 * _GRID_S * (left - right) / bend if bend < 0 else 0.0))
