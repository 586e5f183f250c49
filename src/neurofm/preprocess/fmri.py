"""Parcellated BOLD: slow drifts removed."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.preprocess.common import Checked, Common, check_channels, finish, native_signal
from neurofm.recording import Recording, Signal, Step
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("nilearn", "numpy", "scipy")

_OUTLIER_SDS = 3.0
_MAD_TO_SD = 1.4826


class ModalitySettings(Settings):
    """The section ``preprocess.fmri`` of params.yaml."""

    highpass_hz: float = Field(gt=0)
    """Slower changes than this are removed (scanner drift)."""


def preprocess(recording: Recording, *, settings: ModalitySettings, common: Common) -> Recording:
    """Remove the mean, the linear trend and slow drifts of each parcel.

    Drifts are removed by regression on cosines (``nilearn.signal.clean`` with ``filter="cosine"``: the filter
    of SPM and fMRIPrep), which has no edge effects and works on runs of any length. Each output volume
    depends on the whole run: the step's `support_s` is the run's length.

    Parameters
    ----------
    recording
        With `signal` [volume, parcel] at 1 / TR.
    settings, common
        Cut-off; limits of missing data.

    Returns
    -------
    Recording
        `signal` [volume, parcel] float32, mean 0, in the unit it came in. Channel quality ``tsnr`` (mean over
        standard deviation before cleaning; NaN for parcels that were centred before they came). Quality
        ``tsnr_median``, ``dvars_median`` and ``dvars_outlier_fraction``, ``usable_minutes``.

    Raises
    ------
    Unreadable
        If there is no signal.
    """
    native = native_signal(recording)
    checked = check_channels(native.values, max_nan_fraction=common.max_nan_fraction)
    tsnr = _tsnr(checked)
    values = _clean(checked, highpass_hz=settings.highpass_hz, tr_s=1 / native.sampling_rate_hz)
    run_s = len(values) / native.sampling_rate_hz
    return finish(
        recording,
        signal=Signal(
            values=values.astype(np.float32),
            sampling_rate_hz=native.sampling_rate_hz,
            units=native.units,
            start_s=native.start_s,
        ),
        valid=checked.valid,
        usable=checked.usable,
        steps=(Step(name="detrend_high_pass", version=VERSION, params=settings.model_dump(), support_s=run_s),),
        common=common,
        channel_quality={"tsnr": tsnr},
        quality={
            "tsnr_median": float(np.nanmedian(tsnr)) if np.isfinite(tsnr).any() else None,
            "usable_minutes": float(checked.valid.sum() / native.sampling_rate_hz / 60),
            **_dvars(values, checked),
        },
    )


def _clean(checked: Checked, *, highpass_hz: float, tr_s: float) -> npt.NDArray[np.float64]:
    # Here, because every command reads this module's settings and nilearn takes seconds to import.
    from nilearn.signal import clean  # noqa: PLC0415

    values = np.zeros_like(checked.values)
    # One volume has no trend; nilearn refuses it.
    if not checked.usable.any() or len(values) < 2:
        return values
    with warnings.catch_warnings():
        # Runs shorter than a cosine's period get no cosine, of which nilearn warns; detrending remains.
        warnings.simplefilter("ignore")
        values[:, checked.usable] = clean(
            checked.values[:, checked.usable],
            detrend=True,
            standardize=None,
            filter="cosine",
            high_pass=highpass_hz,
            t_r=tr_s,
        )
    return values


def _tsnr(checked: Checked) -> npt.NDArray[np.float64]:
    """Return [parcel] temporal signal-to-noise ratio, NaN where the mean says nothing."""
    mean, sd = checked.values.mean(axis=0), checked.values.std(axis=0)
    # BOLD in scanner units lies far above zero; a mean within one SD of zero was taken off by someone.
    meaningful = checked.usable & (np.abs(mean) > sd)
    return np.where(meaningful, np.abs(mean) / np.where(sd > 0, sd, 1), np.nan)


def _dvars(values: npt.NDArray[np.float64], checked: Checked) -> dict[str, JsonScalar]:
    """Return how much the image changes from volume to volume, relative to the parcels' standard deviation.

    DVARS (Power 2012, 10.1016/j.neuroimage.2011.10.018) over parcels: the root mean square of the difference
    between successive volumes, each parcel divided by its SD. White noise gives 1.41, slow BOLD less.
    """
    good = values[:, checked.usable]
    sd = good.std(axis=0)
    pair_valid = checked.valid[1:] & checked.valid[:-1]
    if good.shape[1] == 0 or not pair_valid.any():
        return {"dvars_median": None, "dvars_outlier_fraction": None}
    change = np.diff(good / np.where(sd > 0, sd, 1), axis=0)[pair_valid]
    dvars = np.sqrt((change**2).mean(axis=1))
    middle = float(np.median(dvars))
    spread = _MAD_TO_SD * float(np.median(np.abs(dvars - middle)))
    return {
        "dvars_median": middle,
        "dvars_outlier_fraction": float(np.mean(dvars > middle + _OUTLIER_SDS * spread)),
    }
