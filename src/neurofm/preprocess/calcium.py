"""Two-photon calcium imaging: fluorescence without neuropil."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import Field

from neurofm.preprocess._fluorescence import finish_fluorescence
from neurofm.preprocess.common import Checked, Common, check_channels, native_signal, recorded_samples
from neurofm.recording import Recording, Step
from neurofm.settings import Settings

VERSION = "1"
LIBRARIES = ("numpy", "scipy")


class ModalitySettings(Settings):
    """The section ``preprocess.calcium`` of params.yaml."""

    neuropil_coefficient: float = Field(ge=0, le=1)
    """How much of the surrounding neuropil's fluorescence is taken off a cell's."""
    rate_hz: float = Field(gt=0)
    """Recordings that are faster are resampled to this rate."""


def preprocess(recording: Recording, *, settings: ModalitySettings, common: Common) -> Recording:
    """Subtract the neuropil where it was measured, and resample.

    Parameters
    ----------
    recording
        With `signal`, and ``neuropil`` among `extra_signals` where there is one.
    settings, common
        The coefficient (0.7 is Suite2p's default: Pachitariu 2017, 10.1101/061507) and the rate.

    Returns
    -------
    Recording
        `signal` [time, ROI] float32 in the unit it came in, not normalised. Channel quality
        ``robust_centre`` and ``robust_scale``; ROIs of constant fluorescence are not usable.

    Raises
    ------
    Unreadable
        If there is no signal.
    """
    native = native_signal(recording)
    # Looked for before the subtraction, which would lend a dead ROI the neuropil's changes.
    between = ~recorded_samples(recording, native)
    checked = check_channels(native.values, max_nan_fraction=common.max_nan_fraction, lost=between)
    steps: tuple[Step, ...] = ()
    if "neuropil" in recording.extra_signals:
        surround = recording.extra_signals["neuropil"].values
        around = check_channels(surround, max_nan_fraction=common.max_nan_fraction, lost=between)
        checked = _subtract(checked, around, settings.neuropil_coefficient)
        params = {"coefficient": settings.neuropil_coefficient}
        steps = (Step(name="subtract_neuropil", version=VERSION, params=params),)
    return finish_fluorescence(
        recording,
        checked=checked,
        native=native,
        rate_hz=settings.rate_hz,
        steps=steps,
        version=VERSION,
        common=common,
        quality={"neuropil_subtracted": bool(steps)},
    )


def _subtract(cells: Checked, neuropil: Checked, coefficient: float) -> Checked:
    values = cells.values - coefficient * neuropil.values
    return replace(cells, values=np.where(cells.usable, values, 0.0), valid=cells.valid & neuropil.valid)
