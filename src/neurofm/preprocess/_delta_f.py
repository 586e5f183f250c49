"""Relative change of fluorescence, dF/F: a cell's fluorescence above its baseline, divided by it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydantic import Field

from neurofm.preprocess.common import Checked
from neurofm.recording import Step
from neurofm.recording.recording import JsonScalar
from neurofm.settings import Settings

UNIT = "dF/F"
_RELATIVE = ("df/f", "df/f0", "dff", "dfof", "deltaf/f", "delta f/f", "δf/f", "δf/f0", "∆f/f", "∆f/f0")
_PERCENT = ("%", "percent", *(f"%{name}" for name in _RELATIVE), *(f"{name}(%)" for name in _RELATIVE))
_GAUSSIAN_REACH = 4.0
"""Standard deviations at which `scipy.ndimage.gaussian_filter1d` is cut off."""

_Floats = npt.NDArray[np.float64]


class Baseline(Settings):
    """The baseline that fluorescence is related to: a running minimum of the smoothed trace, and its running maximum.

    Suite2p's ``maximin`` (Pachitariu 2017, 10.1101/061507), close to that of Jia 2011 (10.1038/nprot.2010.169): it
    follows bleaching and drift of focus, and passes below transients that are shorter than the window.
    """

    smooth_s: float = Field(default=1.0, gt=0)
    """Standard deviation of the smoothing. Suite2p has 10 frames, of 10 Hz."""
    window_s: float = Field(default=60.0, gt=0)
    """Window of minimum and maximum, Suite2p's."""
    min_positive_fraction: float = Field(default=0.9, ge=0, le=1)
    """dF/F is taken only where this share of the cells has a baseline above zero throughout. Traces that were
    centred, or had their background subtracted, have none, and a quotient by it would say nothing."""


@dataclass(frozen=True, kw_only=True)
class Relative:
    """A recording's fluorescence, relative where that could be."""

    checked: Checked
    units: str
    steps: tuple[Step, ...] = ()
    quality: dict[str, JsonScalar]


def percent_per_unit(units: str) -> float | None:
    """Return how many percent of dF/F one unit of a signal is; None where it is no dF/F."""
    plain = units.lower().replace(" ", "").replace("_", "/")
    relative = {name.replace(" ", "") for name in _RELATIVE}
    return 100.0 if plain in relative else 1.0 if plain in _PERCENT else None


def delta_f_over_f(
    checked: Checked, *, units: str, rate_hz: float, settings: Baseline | None, version: str
) -> Relative:
    """Relate fluorescence to its baseline, where it is not so already and the baseline bears it.

    Parameters
    ----------
    checked
        [time, cell] without holes, neuropil taken off.
    units
        Of the file: a signal in dF/F, or in percent, stays.
    settings
        None leaves every signal as it is.

    Returns
    -------
    Relative
        Cells whose baseline is not above zero are not usable, if most others' is. Quality ``delta_f``: ``computed``,
        ``as recorded``, ``off`` or why it was not computed; ``cells_without_baseline`` where it was looked at.
    """
    if settings is None:
        return Relative(checked=checked, units=units, quality={"delta_f": "off"})
    if percent_per_unit(units) is not None:
        return Relative(checked=checked, units=units, quality={"delta_f": "as recorded"})
    cells = np.flatnonzero(checked.usable)
    baseline = _baseline(checked.values[:, cells], rate_hz=rate_hz, settings=settings)
    positive = (baseline > 0).all(axis=0)
    without = int((~positive).sum())
    quality: dict[str, JsonScalar] = {"cells_without_baseline": without}
    if len(cells) == 0 or positive.mean() < settings.min_positive_fraction:
        said = f"not computed: {without} of {len(cells)} cells have no baseline above zero"
        return Relative(checked=checked, units=units, quality=quality | {"delta_f": said})
    values = np.zeros_like(checked.values)
    kept = cells[positive]
    values[:, kept] = checked.values[:, kept] / baseline[:, positive] - 1
    usable = np.zeros_like(checked.usable)
    usable[kept] = True
    support_s = 2 * (_GAUSSIAN_REACH * settings.smooth_s + settings.window_s)
    return Relative(
        checked=replace(checked, values=values, usable=usable),
        units=UNIT,
        steps=(Step(name="delta_f_over_f", version=version, params=settings.model_dump(), support_s=support_s),),
        quality=quality | {"delta_f": "computed"},
    )


def _baseline(values: _Floats, *, rate_hz: float, settings: Baseline) -> _Floats:
    # Here, because every command reads this module's settings and scipy.ndimage takes half a second to import.
    from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d  # noqa: PLC0415

    window = max(1, round(settings.window_s * rate_hz))
    smooth = gaussian_filter1d(values, settings.smooth_s * rate_hz, axis=0, truncate=_GAUSSIAN_REACH)
    low = minimum_filter1d(smooth, window, axis=0)
    return np.asarray(maximum_filter1d(low, window, axis=0), dtype=np.float64)
