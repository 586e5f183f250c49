"""EEG: where the electrodes sit on the head."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes


def draw_montage(
    axes: Axes,
    *,
    position_m: npt.NDArray[np.floating],
    names: Sequence[str],
    shade: npt.NDArray[np.floating],
    label: str,
) -> None:
    """Draw the head from above, nose up, with every electrode and a value interpolated between them.

    Parameters
    ----------
    position_m
        [channel, 3] metres in the head frame (x to the right ear, y to the nose), finite.
    names
        [channel]
    shade
        [channel] drawn as colour.
    label
        What the colour says, with its unit.
    """
    import mne  # noqa: PLC0415  # two seconds, and only a dataset with EEG needs it

    info = mne.create_info(list(names), sfreq=1.0, ch_types="eeg", verbose="error")
    montage = mne.channels.make_dig_montage(
        dict(zip(names, np.asarray(position_m, dtype=np.float64), strict=True)), coord_frame="head"
    )
    info.set_montage(montage, verbose="error")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no fiducials: the sphere is MNE's default
        image, _ = mne.viz.plot_topomap(
            shade, info, axes=axes, show=False, contours=0, cmap="viridis", sensors=True, res=96, extrapolate="local"
        )
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.7, pad=0.04)
    bar.outline.set_visible(False)
    bar.set_label(label)
