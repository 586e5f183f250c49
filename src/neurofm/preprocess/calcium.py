"""Two-photon calcium imaging: fluorescence without neuropil, relative to its baseline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from neurofm.preprocess._delta_f import Baseline, delta_f_over_f
from neurofm.preprocess._fluorescence import ImagingSettings, finish_fluorescence, read_frames
from neurofm.preprocess.common import Checked, Common
from neurofm.recording import Recording, Step

VERSION = "2"
LIBRARIES = ("numpy", "scipy")


class ModalitySettings(ImagingSettings):
    """The section ``preprocess.calcium`` of params.yaml."""

    neuropil_coefficient: float = Field(ge=0, le=1)
    """How much of the surrounding neuropil's fluorescence is taken off a cell's."""
    delta_f: Baseline | None = Baseline()
    """How raw fluorescence becomes dF/F; None leaves it raw."""


def preprocess(recording: Recording, *, settings: ModalitySettings, common: Common) -> Recording:
    """Put frames on a regular grid, subtract the neuropil where it was measured, take dF/F of raw fluorescence.

    Parameters
    ----------
    recording
        With `signal`; ``neuropil`` and ``deconvolved`` among `extra_signals`, `sample_time_s` and the noise
        ``motion_px`` where there are such.
    settings, common
        The coefficient (0.7 is Suite2p's default: Pachitariu 2017, 10.1101/061507), the baseline, the rate, limits.

    Returns
    -------
    Recording
        `signal` [time, ROI] float32, in dF/F where that could be taken and else in the unit it came in, not
        normalised. Channel quality ``robust_centre``, ``robust_scale`` and
        `neurofm.preprocess._fluorescence.noise_columns`; ROIs of constant fluorescence are not usable.

    Raises
    ------
    Unreadable
        If there is no signal, or timestamps are impossible.
    """
    frames = read_frames(recording, settings=settings, common=common, version=VERSION)
    checked, steps = frames.cells, frames.steps
    if frames.neuropil is not None:
        # Dead ROIs were looked for before the subtraction, which would lend them the neuropil's changes.
        checked = _subtract(checked, frames.neuropil, settings.neuropil_coefficient)
        params = {"coefficient": settings.neuropil_coefficient}
        steps = (*steps, Step(name="subtract_neuropil", version=VERSION, params=params))
    relative = delta_f_over_f(
        checked,
        units=frames.native.units,
        rate_hz=frames.native.sampling_rate_hz,
        settings=settings.delta_f if settings.signal == "fluorescence" else None,
        version=VERSION,
    )
    return finish_fluorescence(
        recording,
        checked=relative.checked,
        native=frames.native,
        units=relative.units,
        steps=(*steps, *relative.steps),
        version=VERSION,
        settings=settings,
        common=common,
        quality={
            "signal": settings.signal,
            "neuropil_subtracted": frames.neuropil is not None,
            **relative.quality,
            **frames.quality,
        },
    )


def _subtract(cells: Checked, neuropil: Checked, coefficient: float) -> Checked:
    values = cells.values - coefficient * neuropil.values
    return replace(cells, values=np.where(cells.usable, values, 0.0), valid=cells.valid & neuropil.valid)
