"""What all modalities share: unusable channels, missing samples, and targets on the signal's times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.recording import Recording, Signal, Step, Stimulus, Target, Unreadable
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("numpy", "scipy")

_MAD_TO_SD = 1.4826
"""A normal variable's standard deviation over its median absolute deviation."""
_MAX_DENOMINATOR = 1000
"""Resampling is by a ratio of whole numbers up to this: enough to hit any rate within a millionth."""
_TIME_SLACK = 1e-3
"""Samples by which two times may differ and be the same."""
_MAX_UNSEEN = 0.01
"""Largest share of a stimulus that may lie outside of the recording: a film may run on a little, a clock in other units
or another session's film would run elsewhere."""
_FILTER_HALF_PERIODS = 10
"""Half length of `scipy.signal.resample_poly`'s filter, in samples of the slower of the two rates."""


class Common(Settings):
    """The section ``preprocess.common`` of params.yaml."""

    max_nan_fraction: float = Field(ge=0, le=1)
    """A channel with more missing samples than this is unusable; fewer are filled in and marked invalid."""
    min_valid_fraction: float = Field(ge=0, le=1)
    """A recording with fewer valid samples than this is kept out."""
    max_target_gap_s: float = Field(gt=0)
    """Targets are not interpolated across gaps longer than this, seconds."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A signal without holes, and what was wrong with it."""

    values: npt.NDArray[np.float64]
    """[time, channel]; gaps filled by linear interpolation, unusable channels 0."""
    usable: npt.NDArray[np.bool_]
    """[channel]"""
    valid: npt.NDArray[np.bool_]
    """[time]; False where a usable channel had no number."""


def native_signal(recording: Recording) -> Signal:
    """Return the signal that a reader must have given.

    Raises
    ------
    Unreadable
        If there is none.
    """
    if recording.signal is None:
        raise Unreadable(f"{recording.clock.id}: the reader gave no signal, which {recording.modality} needs")
    return recording.signal


def check_channels(
    values: npt.NDArray[np.floating | np.integer],
    *,
    max_nan_fraction: float,
    lost: npt.NDArray[np.bool_] | None = None,
    bad: npt.NDArray[np.bool_] | None = None,
) -> Checked:
    """Find channels that carry nothing, and fill single missing samples of the others.

    Parameters
    ----------
    values
        [time, channel]; NaN and infinity count as missing.
    max_nan_fraction
        A channel with more missing than this fraction is unusable, as is a constant one.
    lost
        [time]; True for samples known to be missing from all channels, which speak against none of them.
    bad
        [channel]; True for channels known to be bad already.
    """
    filled = np.array(values, dtype=np.float64)
    missing = ~np.isfinite(filled)
    filled[missing] = np.nan
    kept = np.ones(len(filled), dtype=bool) if lost is None else ~lost
    good = np.ones(filled.shape[1], dtype=bool) if bad is None else ~bad
    good &= missing[kept].mean(axis=0) <= max_nan_fraction
    # fmin and fmax pass over NaN and, unlike nanmin, are silent about channels without any number.
    good &= np.fmin.reduce(filled, axis=0) < np.fmax.reduce(filled, axis=0)
    valid = kept & ~missing[:, good].any(axis=1)
    filled[:, ~good] = 0.0
    sample = np.arange(len(filled))
    for i in np.flatnonzero(good & missing.any(axis=0)):
        hole = missing[:, i]
        filled[hole, i] = np.interp(sample[hole], sample[~hole], filled[~hole, i])
    return Checked(values=filled, usable=good, valid=valid)


def resample(
    values: npt.NDArray[np.float64],
    valid: npt.NDArray[np.bool_],
    *,
    from_hz: float,
    to_hz: float,
    recorded: npt.NDArray[np.bool_] | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], float]:
    """Lower the sampling rate with a zero-phase polyphase filter; a rate that is not higher is left alone.

    Sample 0 stays where it is. A new sample is valid if all old ones within half a new period of it were.

    Parameters
    ----------
    values
        [time, channel].
    valid
        [time].
    from_hz, to_hz
        Rates before and wished for.
    recorded
        [time] False between trials that were laid end to end: each run of True is filtered by itself, as if its
        first and last value went on, so that no sample holds anything of another trial.

    Returns
    -------
    values, valid, rate_hz
        The rate reached: the wished one within a millionth or so, as a ratio of whole numbers.
    """
    # Here, because every command reads this module's settings and scipy.signal takes a second to import.
    from scipy.signal import resample_poly  # noqa: PLC0415

    ratio = Fraction(to_hz / from_hz).limit_denominator(_MAX_DENOMINATOR)
    if ratio >= 1 or len(values) == 0:
        return values, valid, from_hz
    # Beyond its ends a trace goes on at its last value: zeros would draw a baseline fluorescence down.
    lower = np.asarray(resample_poly(values, ratio.numerator, ratio.denominator, axis=0, padtype="edge"))
    margin = math.ceil((_FILTER_HALF_PERIODS + 1) / float(ratio))
    for start, stop in [] if recorded is None else _runs(recorded):
        # New samples fall where they fall in the whole only if the piece begins where old and new samples meet.
        first_old = (start // ratio.denominator) * ratio.denominator
        piece = np.pad(values[start:stop], ((start - first_old, margin), (0, 0)), mode="edge")
        filtered = resample_poly(piece, ratio.numerator, ratio.denominator, axis=0, padtype="edge")
        first_new = first_old // ratio.denominator * ratio.numerator
        inside = np.arange(math.ceil(start * ratio), math.ceil(stop * ratio))
        lower[inside] = filtered[inside - first_new]
    centre = np.arange(len(lower)) / float(ratio)
    half = 0.5 / float(ratio)
    first = np.clip(np.ceil(centre - half), 0, len(values)).astype(np.int64)
    last = np.clip(np.floor(centre + half) + 1, 0, len(values)).astype(np.int64)
    bad = np.concatenate([[0], np.cumsum(~valid)])
    return lower, bad[last] == bad[first], from_hz * float(ratio)


def recorded_samples(recording: Recording, signal: Signal, *, width_s: float = 0.0) -> npt.NDArray[np.bool_]:
    """Return [time] which samples of `signal` lie inside the recording's stretches; all where there are none.

    Parameters
    ----------
    recording
        With `stretches` where trials were laid on one clock.
    signal
        At any rate, on the recording's clock.
    width_s
        How long a sample lasts from its time on: a bin of counts must lie inside from edge to edge.
    """
    if recording.stretches is None:
        return np.ones(len(signal.values), dtype=bool)
    # Times were added up from floats: a thousandth of a sample is neither before nor after.
    first = (recording.stretches[:, 0] - signal.start_s) * signal.sampling_rate_hz - _TIME_SLACK
    last = (recording.stretches[:, 1] - width_s - signal.start_s) * signal.sampling_rate_hz
    last += _TIME_SLACK if width_s > 0 else -_TIME_SLACK
    sample = np.arange(len(signal.values))
    stretch = np.searchsorted(first, sample, side="right") - 1
    return np.asarray((stretch >= 0) & (sample <= last[stretch]))


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return [start, stop) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def resampling_support_s(*, from_hz: float, to_hz: float) -> float:
    """Return the length of `resample`'s filter in seconds; 0 where it does nothing."""
    return 0.0 if to_hz >= from_hz else 2 * _FILTER_HALF_PERIODS / to_hz


def robust_centre_scale(
    values: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return [channel] median and 1.4826 times the median absolute deviation, over valid samples.

    Where more than half of the samples are equal (a silent cell's trace) the scale is the standard deviation.
    """
    if not valid.any():
        return np.zeros(values.shape[1]), np.zeros(values.shape[1])
    fit = values[valid]
    centre = np.median(fit, axis=0)
    scale = _MAD_TO_SD * np.median(np.abs(fit - centre), axis=0)
    return centre, np.where(scale > 0, scale, fit.std(axis=0))


def align_target(
    target: Target, time_s: npt.NDArray[np.float64], *, max_gap_s: float, centre_offset_s: float = 0.0
) -> Target:
    """Put a target on the signal's times by linear interpolation.

    Cosine and sine of an angle are interpolated and brought back to length 1, so that the way from 359 to 1
    degree leads over 0.

    Parameters
    ----------
    target
        On its own times.
    time_s
        [time] of the signal's samples; they become the target's `time_s`.
    max_gap_s
        NaN inside gaps longer than this, and outside the span that was measured.
    centre_offset_s
        How far after `time_s` the value is taken: half a bin for counts, whose time is the bin's left edge.
    """
    measured = np.isfinite(target.values).all(axis=1)
    values = np.full((len(time_s), target.values.shape[1]), np.nan)
    source_s = target.time_s[measured]
    if len(source_s) > 0:
        at_s = time_s + centre_offset_s
        after = np.clip(np.searchsorted(source_s, at_s), 1, max(len(source_s) - 1, 1))
        gap_s = np.diff(source_s, append=source_s[-1])[after - 1]
        inside = (at_s >= source_s[0]) & (at_s <= source_s[-1]) & (gap_s <= max_gap_s)
        for k, column in enumerate(target.values[measured].T):
            values[inside, k] = np.interp(at_s[inside], source_s, column)
    if target.columns == ("cos", "sin"):
        values = _to_unit_length(values)
    return replace(target, values=values.astype(np.float32), time_s=time_s)


def align_stimulus(
    stimulus: Stimulus,
    time_s: npt.NDArray[np.float64],
    *,
    span_s: tuple[float, float],
    where: str,
    centre_offset_s: float = 0.0,
) -> Stimulus:
    """Say for each sample of the signal which frame was seen.

    Parameters
    ----------
    stimulus
        On its own times.
    time_s
        [time] of the signal's samples; they become the stimulus' `time_s`.
    span_s
        When the recording began and ended, before anything was cropped.
    where
        The recording, for errors.
    centre_offset_s
        How far after `time_s` the frame is taken: half a bin for counts, whose time is the bin's left edge.

    Raises
    ------
    Unreadable
        If more than a hundredth of the time for which frames were shown lies outside of the recording.
    """
    begin_s, end_s = stimulus.time_s[:-1], stimulus.time_s[1:]
    seen = stimulus.shown[:-1] >= 0
    inside_s = np.clip(np.minimum(end_s, span_s[1]) - np.maximum(begin_s, span_s[0]), 0, None)[seen].sum()
    shown_s = (end_s - begin_s)[seen].sum()
    if inside_s < (1 - _MAX_UNSEEN) * shown_s:
        raise Unreadable(
            f"{where}: {shown_s - inside_s:.3g} of the {shown_s:.3g} s for which the stimulus was shown "
            f"({stimulus.time_s[0]:.6g} to {stimulus.time_s[-1]:.6g} s) lie outside of the recording "
            f"({span_s[0]:.6g} to {span_s[1]:.6g} s)"
        )
    row = np.searchsorted(stimulus.time_s, time_s + centre_offset_s, side="right") - 1
    shown = np.where(row >= 0, stimulus.shown[row], np.int32(-1))
    return Stimulus(frames=stimulus.frames, shown=shown, time_s=time_s)


def _span_s(recording: Recording) -> tuple[float, float]:
    """Return when a recording as its reader gave it began and ended, seconds on its clock."""
    if recording.spikes is not None:
        return recording.spikes.start_s, recording.spikes.stop_s
    native = native_signal(recording)
    time_s = native.time_s if recording.sample_time_s is None else recording.sample_time_s
    return float(time_s[0]), float(time_s[-1]) + 1 / native.sampling_rate_hz


def _seen(
    recording: Recording, signal: Signal, recorded: npt.NDArray[np.bool_], *, centre_offset_s: float
) -> Stimulus | None:
    """Return the recording's stimulus on the signal's times, nothing between the trials."""
    if recording.stimulus is None:
        return None
    seen = align_stimulus(
        recording.stimulus,
        signal.time_s,
        span_s=_span_s(recording),
        where=recording.clock.id,
        centre_offset_s=centre_offset_s,
    )
    return replace(seen, shown=np.where(recorded, seen.shown, np.int32(-1)))


def _within(target: Target, recorded: npt.NDArray[np.bool_]) -> Target:
    """Take out what was interpolated from the end of one trial to the beginning of the next."""
    return replace(target, values=np.where(recorded[:, None], target.values, np.float32(np.nan)))


def _to_unit_length(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    length = np.hypot(values[:, 0], values[:, 1])[:, None]
    # Two opposite directions have no mean: such a sample counts as not measured.
    return np.where(length > 0, values / np.where(length > 0, length, 1), np.nan)


def finish(
    recording: Recording,
    *,
    signal: Signal,
    valid: npt.NDArray[np.bool_],
    usable: npt.NDArray[np.bool_],
    steps: tuple[Step, ...],
    common: Common,
    channel_quality: Mapping[str, npt.NDArray[np.float64]],
    quality: Mapping[str, JsonScalar],
    target_offset_s: float = 0.0,
    kept_signals: Mapping[str, Signal] | None = None,
    noise: Mapping[str, Target] | None = None,
    excluded_reason: str = "",
) -> Recording:
    """Put a modality's result together: quality, targets on the signal's times, and why it is kept out, if it is."""
    reason: dict[str, JsonScalar] = {"excluded_reason": excluded_reason} if excluded_reason else {}
    # Bins of counts have a width; where a trial ends, a bin that reaches beyond it has not been counted to its end.
    recorded = recorded_samples(recording, signal, width_s=2 * target_offset_s)
    valid = valid & recorded
    fraction = float(valid[recorded].mean()) if recorded.any() else 0.0
    stimulus = _seen(recording, signal, recorded, centre_offset_s=target_offset_s)
    # Nothing is said of a stimulus where there is none: most shards have none.
    seen: dict[str, JsonScalar] = {} if stimulus is None else {"stimulus_fraction": float((stimulus.shown >= 0).mean())}
    if not usable.any():
        reason["excluded_reason"] = "no usable channel: all are constant, missing or marked bad"
    elif fraction < common.min_valid_fraction:
        reason["excluded_reason"] = (
            f"{fraction:.0%} of the samples are valid, fewer than {common.min_valid_fraction:.0%}"
        )
    columns = {**recording.channels.quality, **channel_quality, "usable": usable.astype(np.float64)}
    common_step = Step(name="check", version=VERSION, params=common.model_dump())
    return replace(
        recording,
        channels=replace(recording.channels, quality=columns),
        signal=signal,
        valid=valid,
        sample_time_s=None,
        extra_signals=dict(kept_signals or {}),
        confounds=None,
        noise=dict(noise or {}),
        stretches=None,
        targets={
            name: _within(
                align_target(target, signal.time_s, max_gap_s=common.max_target_gap_s, centre_offset_s=target_offset_s),
                recorded,
            )
            for name, target in recording.targets.items()
        },
        stimulus=stimulus,
        quality={
            **recording.quality,
            "n_channels": len(usable),
            "n_usable": int(usable.sum()),
            "duration_s": int(recorded.sum()) / signal.sampling_rate_hz,
            "valid_fraction": fraction,
            **seen,
            **quality,
            **reason,
        },
        steps=(*recording.steps, common_step, *steps),
    )
