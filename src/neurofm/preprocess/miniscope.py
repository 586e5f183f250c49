"""One-photon miniscope imaging: frames that jitter or were lost, put on a regular grid."""

from __future__ import annotations

from neurofm.preprocess._fluorescence import ImagingSettings, finish_fluorescence, read_frames
from neurofm.preprocess.common import Common
from neurofm.recording import Recording

VERSION = "2"
LIBRARIES = ("numpy", "scipy")


class ModalitySettings(ImagingSettings):
    """The section ``preprocess.miniscope`` of params.yaml."""


def preprocess(recording: Recording, *, settings: ModalitySettings, common: Common) -> Recording:
    """Put frames on a regular grid, mark the lost ones and those with motion, and resample.

    No dF/F is taken: what lies under a cell in one-photon imaging is mostly light from elsewhere, and CNMF-E, whose
    traces these are, has taken it off already (Zhou 2018, 10.7554/eLife.28728), so that no baseline is left.

    Parameters
    ----------
    recording
        With `signal`; `sample_time_s` where the frames were stamped, ``deconvolved`` among `extra_signals` and the
        noise ``motion_px`` where there are such.
    settings, common
        The rate; limits of missing data and of recordings.

    Returns
    -------
    Recording
        `signal` [time, cell] float32 in the unit it came in, not normalised. Lost frames are filled by
        linear interpolation and not valid. Channel quality ``robust_centre``, ``robust_scale`` and
        `neurofm.preprocess._fluorescence.noise_columns`.

    Raises
    ------
    Unreadable
        If there is no signal, or timestamps are impossible.
    """
    frames = read_frames(recording, settings=settings, common=common, version=VERSION)
    return finish_fluorescence(
        recording,
        checked=frames.cells,
        native=frames.native,
        units=frames.native.units,
        steps=frames.steps,
        version=VERSION,
        settings=settings,
        common=common,
        quality={"signal": settings.signal, **frames.quality},
    )
