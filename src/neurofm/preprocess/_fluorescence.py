"""What two-photon and miniscope recordings share: from raw fluorescence to a slower, corrected trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.preprocess._behaviour import with_behaviour
from neurofm.preprocess._delta_f import percent_per_unit
from neurofm.preprocess._exclusion import exclusion_reason
from neurofm.preprocess._frames import MOTION, frame_places, motion_series, moved_places, on_grid
from neurofm.preprocess.common import (
    Checked,
    Common,
    check_channels,
    finish,
    native_signal,
    recorded_samples,
    resample,
    resampling_support_s,
    robust_centre_scale,
)
from neurofm.recording import Recording, Signal, Step, Unreadable
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

Wanted = Literal["fluorescence", "events"]
EVENTS = "deconvolved"
"""The extra signal that holds events inferred from the fluorescence."""
_MAD_TO_SD = 1.4826

_Floats = npt.NDArray[np.float64]


class Exclude(Settings):
    """Which imaging recordings are kept out. ``null`` switches a limit off."""

    min_cells: int | None = Field(default=2, ge=1)
    """Usable cells. To predict a hidden cell from the others takes two."""
    max_dropped_fraction: float | None = Field(default=0.2, ge=0, le=1)
    """Share of frames that were lost."""
    max_moved_fraction: float | None = Field(default=0.5, ge=0, le=1)
    """Share of frames whose motion is beyond ``max_motion_px``."""
    min_snr: float | None = Field(default=None, ge=0)
    """Median over cells of the signal-to-noise ratio. Noise alone has 2.3."""
    max_noise_level: float | None = Field(default=None, gt=0)
    """Median over cells of the noise level of Rupprecht 2021, in percent per root hertz: 1 is a quiet recording, 8 a
    noisy one."""


class ImagingSettings(Settings):
    """What the sections ``preprocess.calcium`` and ``preprocess.miniscope`` of params.yaml share."""

    rate_hz: float = Field(gt=0)
    """Recordings that are faster are resampled to this rate."""
    signal: Wanted = "fluorescence"
    """``events`` takes the deconvolved events of recordings that have them, as they are."""
    max_motion_px: float | None = Field(default=10.0, gt=0)
    """Frames that lay farther from the reference image are not valid, where the motion was measured."""
    exclude: Exclude = Exclude()
    """Which recordings are kept out."""


LIMITS = (
    ("min_cells", "n_usable", "usable cells", ""),
    ("max_dropped_fraction", "dropped_fraction", "share of lost frames", ""),
    ("max_moved_fraction", "moved_fraction", "share of frames with motion", ""),
    ("min_snr", "snr_median", "median signal-to-noise ratio of cells", ""),
    ("max_noise_level", "noise_level_median", "median noise level of cells", " %/sqrt(Hz)"),
)
"""Limit, the measure that it is for, the measure in words, and its unit."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """A recording's frames on a regular grid."""

    native: Signal
    """The signal wanted, as the reader gave it."""
    cells: Checked
    neuropil: Checked | None
    quality: Mapping[str, JsonScalar]
    steps: tuple[Step, ...]


def read_frames(recording: Recording, *, settings: ImagingSettings, common: Common, version: str) -> Frames:
    """Put the signal that is wanted on a regular grid, and mark frames that were lost or moved.

    Lost frames are filled by linear interpolation and not valid; frames with motion keep their values and are not
    valid.

    Raises
    ------
    Unreadable
        If there is no such signal, or timestamps are impossible.
    """
    name = recording.clock.id
    native = native_signal(recording)
    if settings.signal == "events":
        if EVENTS not in recording.extra_signals:
            raise Unreadable(f"{name}: `signal: events` is set, but the recording has no deconvolved events")
        native = recording.extra_signals[EVENTS]
    place = None if recording.sample_time_s is None else frame_places(recording.sample_time_s, name=name)
    between = ~recorded_samples(recording, native) if place is None else None
    cells, dropped = _placed(native, place, between, common=common)
    period_s = 1 / native.sampling_rate_hz
    time_s = native.start_s + np.arange(len(cells.values), dtype=np.float64) * period_s
    moved = moved_places(recording, time_s, period_s=period_s, max_motion_px=settings.max_motion_px)
    cells = replace(cells, valid=cells.valid & ~moved)
    around = recording.extra_signals.get("neuropil") if settings.signal == "fluorescence" else None
    return Frames(
        native=native,
        cells=cells,
        neuropil=None if around is None else _placed(around, place, between, common=common)[0],
        quality={
            **_share("dropped", dropped, measured=place is not None),
            **_share("moved", moved, measured=MOTION in recording.noise and settings.max_motion_px is not None),
            "nan_channels": int((np.isnan(native.values).mean(axis=0) > common.max_nan_fraction).sum()),
        },
        steps=() if place is None else (Step(name="regular_grid", version=version, params={}),),
    )


def finish_fluorescence(
    recording: Recording,
    *,
    checked: Checked,
    native: Signal,
    units: str,
    steps: tuple[Step, ...],
    version: str,
    settings: ImagingSettings,
    common: Common,
    quality: Mapping[str, JsonScalar],
) -> Recording:
    """Measure noise, resample to the rate wanted, add the robust columns, and say why a recording is kept out.

    ``robust_centre`` and ``robust_scale`` are over the whole recording and serve display only: models fit their
    own on the training part.
    """
    noise = noise_columns(checked, rate_hz=native.sampling_rate_hz, percent=percent_per_unit(units))
    recorded = None if recording.stretches is None else recorded_samples(recording, native)
    values, valid, rate = resample(
        checked.values, checked.valid, from_hz=native.sampling_rate_hz, to_hz=settings.rate_hz, recorded=recorded
    )
    centre, scale = robust_centre_scale(values, valid)
    support_s = resampling_support_s(from_hz=native.sampling_rate_hz, to_hz=rate)
    resampling = Step(name="resample", version=version, params={"rate_hz": settings.rate_hz}, support_s=support_s)
    signal = Signal(values=values.astype(np.float32), sampling_rate_hz=rate, units=units, start_s=native.start_s)
    measured: dict[str, JsonScalar] = {
        "native_rate_hz": native.sampling_rate_hz,
        "constant_channels": constant_channels(native),
        **quality,
        **{f"{name}_median": _median(column) for name, column in noise.items()},
    }
    done = finish(
        recording,
        signal=signal,
        valid=valid,
        usable=checked.usable,
        steps=(*steps, resampling),
        common=common,
        channel_quality={"robust_centre": centre, "robust_scale": scale, **noise},
        quality=measured,
        noise=motion_series(recording, signal, max_gap_s=common.max_target_gap_s),
        excluded_reason=exclusion_reason(
            {**measured, "n_usable": int(checked.usable.sum())}, exclude=settings.exclude, limits=LIMITS
        ),
    )
    return with_behaviour(done)


def constant_channels(native: Signal) -> int:
    """Count channels that never change over their finite samples."""
    values: npt.NDArray[np.float64] = np.where(np.isfinite(native.values), native.values, np.nan)
    return int((np.fmin.reduce(values, axis=0) == np.fmax.reduce(values, axis=0)).sum())


def noise_columns(checked: Checked, *, rate_hz: float, percent: float | None) -> dict[str, _Floats]:
    """Measure noise by the change from frame to frame, which signals as slow as calcium's hardly add to.

    Parameters
    ----------
    checked
        [time, cell] at the camera's rate.
    rate_hz
        The camera's.
    percent
        How many percent of dF/F a unit is; None where the signal is no dF/F.

    Returns
    -------
    dict
        [cell] each, NaN for cells that are not usable or change less than every other frame (denoised traces):
        ``snr``, the 99th percentile above the median, over the noise's standard deviation (1.4826 times the median
        absolute change over the root of 2); of dF/F also ``noise_level``, the median absolute change in percent over
        the root of the rate (Rupprecht 2021, 10.1038/s41593-021-00895-5), which compares recordings of any rate.
    """
    n_cells = checked.values.shape[1]
    snr, change = np.full(n_cells, np.nan), np.full(n_cells, np.nan)
    both = checked.valid[1:] & checked.valid[:-1]
    for cell in np.flatnonzero(checked.usable) if both.any() else ():
        trace = checked.values[:, cell]
        step = float(np.median(np.abs(np.diff(trace)[both])))
        if step > 0:
            middle, high = np.percentile(trace[checked.valid], (50, 99))
            change[cell] = step
            snr[cell] = (high - middle) / (_MAD_TO_SD * step / np.sqrt(2))
    return {"snr": snr} | ({} if percent is None else {"noise_level": percent * change / np.sqrt(rate_hz)})


def _placed(
    signal: Signal, place: npt.NDArray[np.int64] | None, between: npt.NDArray[np.bool_] | None, *, common: Common
) -> tuple[Checked, npt.NDArray[np.bool_]]:
    """Put a signal in its places; what lies between trials is lost, too, but no frame was dropped there."""
    values, dropped = signal.values.astype(np.float64), np.zeros(len(signal.values), dtype=np.bool_)
    if place is not None:
        values, dropped = on_grid(values, place)
    return check_channels(
        values, max_nan_fraction=common.max_nan_fraction, lost=dropped if between is None else between
    ), dropped


def _share(name: str, found: npt.NDArray[np.bool_], *, measured: bool) -> dict[str, JsonScalar]:
    """Return number and share of frames; None where nothing was there to tell by."""
    return {
        f"{name}_frames": int(found.sum()) if measured else None,
        f"{name}_fraction": float(found.sum() / max(len(found), 1)) if measured else None,
    }


def _median(column: _Floats) -> float | None:
    known = column[np.isfinite(column)]
    return float(np.median(known)) if len(known) else None
