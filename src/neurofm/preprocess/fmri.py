"""Parcellated BOLD: confounds regressed out, slow drifts removed, volumes with motion marked."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from neurofm.preprocess._confounds import (
    MotionModel,
    Regressors,
    Scrub,
    Strategy,
    confounds_of,
    drift_only,
    strategy_regressors,
)
from neurofm.preprocess._exclusion import Exclude, exclusion_reason
from neurofm.preprocess._motion import motion_quality, noise_series
from neurofm.preprocess._regression import degrees_of_freedom_left, residuals
from neurofm.preprocess.common import Checked, Common, check_channels, finish, native_signal
from neurofm.recording import Recording, Signal, Step
from neurofm.recording.recording import Confounds, JsonScalar
from neurofm.settings import Settings

VERSION = "2"
LIBRARIES = ("nilearn", "numpy", "pandas", "scipy")

_OUTLIER_SDS = 3.0
_MAD_TO_SD = 1.4826


class ModalitySettings(Settings):
    """The section ``preprocess.fmri`` of params.yaml."""

    highpass_hz: float = Field(gt=0)
    """Slower changes than this are removed (scanner drift), where no confounds table brings its own cosines."""
    strategy: Strategy = "simple"
    """What is regressed out of runs with a confounds table; others lose their drift only, as with ``none``."""
    motion: MotionModel = "full"
    """Motion regressors: 6 parameters, with their squares, with their derivatives, or all 24."""
    global_signal: bool = False
    """Regress out the mean over the brain as well."""
    scrub: Scrub = Scrub()
    """When a volume counts as moved; the strategy ``scrubbing`` leaves such volumes out."""
    min_coverage: float = Field(default=0.5, ge=0, le=1)
    """A parcel of which the run has a smaller share is unusable (the limit of XCP-D, 10.1162/imag_a_00257)."""
    exclude: Exclude = Exclude()
    """Which runs are kept out."""

    @model_validator(mode="after")
    def _none_regresses_nothing_out(self) -> Self:
        if self.strategy == "none" and self.global_signal:
            raise ValueError("`global_signal` regresses the global signal out, and `strategy: none` nothing")
        return self


def preprocess(recording: Recording, *, settings: ModalitySettings, common: Common) -> Recording:
    """Remove the mean, the linear trend, slow drifts and, by a strategy, confounds of each parcel.

    Drifts are removed by regression on cosines (the filter of SPM and fMRIPrep), which has no edge effects and
    works on runs of any length. Confounds go in the same regression, so that what one removes the other does not
    bring back (Lindquist 2019, 10.1002/hbm.24528), and the high-pass is applied once. Volumes that the strategy
    leaves out keep their place in time: they are invalid, and drawn linearly between their neighbours. Each
    output volume depends on the whole run: the step's `support_s` is the run's length.

    Parameters
    ----------
    recording
        With `signal` [volume, parcel] at 1 / TR, NaN in parcels that the run has not got. Used where they are
        there: `confounds`, and the channel quality ``coverage`` (0 to 1).
    settings, common
        Strategy, cut-off and limits; limits of missing data.

    Returns
    -------
    Recording
        `signal` [volume, parcel] float32, mean 0 over the volumes kept, in the unit it came in, at its TR. Where
        confounds were regressed out, the extra signal ``uncleaned`` is what the strategy ``none`` gives. `noise`:
        see `neurofm.preprocess._motion.noise_series`. Channel quality ``tsnr`` (mean over standard deviation before
        cleaning; NaN for parcels that were centred before they came). Quality ``tsnr_median``,
        ``dvars_median`` and ``dvars_outlier_fraction``, ``usable_minutes``, ``regressors``, ``dof_lost`` and
        ``dof_left``; with a table ``fd_mean_mm``, ``fd_max_mm`` and ``fd_outlier_fraction``; with coverage
        ``coverage_min``, ``coverage_median``, ``covered_fraction``, ``parcels_low_coverage`` and
        ``parcels_absent``; ``excluded_reason`` where a limit of `settings.exclude` is broken.

    Raises
    ------
    Unreadable
        If there is no signal, or the confounds do not fit it or the strategy.
    """
    native = native_signal(recording)
    table = confounds_of(recording, volumes=len(native.values))
    coverage = recording.channels.quality.get("coverage")
    checked = check_channels(
        native.values,
        max_nan_fraction=common.max_nan_fraction,
        bad=None if coverage is None else coverage < settings.min_coverage,
    )
    drift = drift_only(len(native.values), highpass_hz=settings.highpass_hz, tr_s=1 / native.sampling_rate_hz)
    chosen = _chosen(recording, table, settings=settings, tr_s=1 / native.sampling_rate_hz) or drift
    # Volumes without numbers were filled in. They must not bear on what confounds explain in the others.
    kept = chosen.kept if chosen is drift else chosen.kept & checked.valid
    cleaned = _residuals(checked, chosen, kept)
    valid = checked.valid & kept
    tsnr = _tsnr(checked, kept)
    left = degrees_of_freedom_left(chosen.values, kept)
    quality: dict[str, JsonScalar] = {
        "tsnr_median": float(np.nanmedian(tsnr)) if np.isfinite(tsnr).any() else None,
        "usable_minutes": float(valid.sum() / native.sampling_rate_hz / 60),
        **_dvars(cleaned, usable=checked.usable, valid=valid),
        "regressors": chosen.values.shape[1],
        "dof_lost": len(kept) - left,
        "dof_left": left,
        **({} if table is None else motion_quality(table, fd_threshold_mm=settings.scrub.fd_threshold_mm)),
        **({} if coverage is None else _coverage(coverage, min_coverage=settings.min_coverage)),
    }
    return finish(
        recording,
        signal=_like(native, cleaned),
        valid=valid,
        usable=checked.usable,
        steps=(_step(chosen, table, settings=settings, run_s=len(cleaned) / native.sampling_rate_hz),),
        common=common,
        channel_quality={"tsnr": tsnr},
        quality=quality,
        kept_signals={} if chosen is drift else {"uncleaned": _like(native, _residuals(checked, drift, drift.kept))},
        noise={} if table is None else noise_series(table, time_s=native.time_s),
        excluded_reason=exclusion_reason(quality, exclude=settings.exclude),
    )


def _chosen(
    recording: Recording, table: Confounds | None, *, settings: ModalitySettings, tr_s: float
) -> Regressors | None:
    """Return what the strategy regresses out, or None where it is ``none`` or there is nothing to go by."""
    # A single volume has no regression.
    if settings.strategy == "none" or table is None or len(table.values) < 2:
        return None
    return strategy_regressors(
        recording,
        table,
        strategy=settings.strategy,
        motion=settings.motion,
        global_signal=settings.global_signal,
        scrub=settings.scrub,
        highpass_hz=settings.highpass_hz,
        tr_s=tr_s,
    )


def _residuals(checked: Checked, chosen: Regressors, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    values = np.zeros_like(checked.values)
    values[:, checked.usable] = residuals(checked.values[:, checked.usable], regressors=chosen.values, kept=kept)
    return values


def _like(native: Signal, values: npt.NDArray[np.float64]) -> Signal:
    return Signal(
        values=values.astype(np.float32),
        sampling_rate_hz=native.sampling_rate_hz,
        units=native.units,
        start_s=native.start_s,
    )


def _step(chosen: Regressors, table: Confounds | None, *, settings: ModalitySettings, run_s: float) -> Step:
    """Return the step with every setting, those of sections as ``scrub.fd_threshold_mm``, and what came of them."""
    params: dict[str, JsonScalar] = {}
    for name, value in settings.model_dump(mode="json").items():
        params |= {f"{name}.{inner}": one for inner, one in value.items()} if isinstance(value, dict) else {name: value}
    if chosen.strategy == "none" and settings.strategy != "none" and table is None:
        params["strategy"] = "none, no confounds table"
    params["high_pass"] = chosen.high_pass
    name = "detrend_high_pass" if chosen.strategy == "none" else "regress_confounds"
    return Step(name=name, version=VERSION, params=params, support_s=run_s)


def _coverage(coverage: npt.NDArray[np.floating], *, min_coverage: float) -> dict[str, JsonScalar]:
    """Return how much of the atlas a run has; parcels of unknown coverage (NaN) do not count."""
    known = coverage[np.isfinite(coverage)]
    if len(known) == 0:
        return {}
    return {
        "coverage_min": float(known.min()),
        "coverage_median": float(np.median(known)),
        "covered_fraction": float(np.mean(known >= min_coverage)),
        "parcels_low_coverage": int(((known > 0) & (known < min_coverage)).sum()),
        "parcels_absent": int((known == 0).sum()),
    }


def _tsnr(checked: Checked, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return [parcel] temporal signal-to-noise ratio over the volumes kept, NaN where the mean says nothing."""
    if not kept.any():
        return np.full(checked.values.shape[1], np.nan)
    values = checked.values if kept.all() else checked.values[kept]
    mean, sd = values.mean(axis=0), values.std(axis=0)
    # BOLD in scanner units lies far above zero; a mean within one SD of zero was taken off by someone.
    meaningful = checked.usable & (np.abs(mean) > sd)
    return np.where(meaningful, np.abs(mean) / np.where(sd > 0, sd, 1), np.nan)


def _dvars(
    values: npt.NDArray[np.float64], *, usable: npt.NDArray[np.bool_], valid: npt.NDArray[np.bool_]
) -> dict[str, JsonScalar]:
    """Return how much the image changes from volume to volume, relative to the parcels' standard deviation.

    DVARS (Power 2012, 10.1016/j.neuroimage.2011.10.018) over parcels: the root mean square of the difference
    between successive volumes, each parcel divided by its SD. White noise gives 1.41, slow BOLD less.
    """
    good = values[:, usable]
    pair_valid = valid[1:] & valid[:-1]
    if good.shape[1] == 0 or not pair_valid.any():
        return {"dvars_median": None, "dvars_outlier_fraction": None}
    sd = good[valid].std(axis=0)  # the others are drawn between their neighbours, which makes it smaller
    change = np.diff(good / np.where(sd > 0, sd, 1), axis=0)[pair_valid]
    dvars = np.sqrt((change**2).mean(axis=1))
    middle = float(np.median(dvars))
    spread = _MAD_TO_SD * float(np.median(np.abs(dvars - middle)))
    return {
        "dvars_median": middle,
        "dvars_outlier_fraction": float(np.mean(dvars > middle + _OUTLIER_SDS * spread)),
    }
