"""EEG: where the electrodes sit on the head, how often each was bad, spectra, and a recording at a glance."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from neurofm.report.figures.style import BASELINE, INK, MUTED, OURS, RULE

_CENTRE_M = (0.0, 0.0, 0.04)
"""Of the head in its own frame: between the ears, and above them."""


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


@dataclass(frozen=True, kw_only=True)
class Line:
    """A recording's spectrum."""

    frequency_hz: npt.NDArray[np.float64]
    power: npt.NDArray[np.float64]
    """[frequency] uV^2/Hz."""
    used: bool


def draw_spectra(axes: Axes, *, lines: Sequence[Line], range_hz: tuple[float, float]) -> None:
    """Draw the spectrum of each recording, and over them the median of those that are used.

    Parameters
    ----------
    lines
        One per recording; each is interpolated to quarters of a hertz for the median.
    range_hz
        What is drawn; below and above is what the filter left.
    """
    grid = np.arange(range_hz[0], range_hz[1] + 0.125, 0.25)
    used = [line for line in lines if line.used]
    for line in sorted(lines, key=lambda line: not line.used):
        db = 10 * np.log10(np.maximum(_at(line, grid), 1e-12))
        axes.plot(grid, db, color=BASELINE if line.used else OURS, linewidth=0.7, alpha=0.5 if len(lines) > 1 else 1.0)
    if len(used) > 1:
        median = np.median([_at(line, grid) for line in used], axis=0)
        axes.plot(grid, 10 * np.log10(np.maximum(median, 1e-12)), color=INK, linewidth=1.6)
    # Beyond the filter's band the power falls by tens of decibels, which would flatten all the rest.
    inside = grid[(grid >= max(1.0, range_hz[0])) & (grid <= 0.8 * range_hz[1])]
    drawn = np.array([10 * np.log10(np.maximum(_at(line, inside), 1e-12)) for line in lines])
    axes.set_ylim(float(drawn.min()) - 4, float(drawn.max()) + 4)
    axes.set_xscale("log")
    axes.set_xlim(*range_hz)
    ticks = [tick for tick in (0.5, 1, 2, 4, 8, 13, 20, 30, 50, 100) if range_hz[0] <= tick <= range_hz[1]]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.axvspan(8, 13, color=RULE, alpha=0.4, linewidth=0, zorder=0)
    axes.set_xlabel("frequency (Hz); shaded: alpha, 8 to 13 Hz")
    axes.set_ylabel("power (dB of 1 µV²/Hz)")


def _at(line: Line, grid: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.interp(grid, line.frequency_hz, line.power)


def draw_alpha(
    axes: Axes, *, peak_hz: npt.NDArray[np.float64], peak_db: npt.NDArray[np.float64], used: npt.NDArray[np.bool_]
) -> None:
    """Draw one dot per recording at its alpha peak and the peak's height over 1/f; those left out are hollow.

    Parameters
    ----------
    peak_hz, peak_db, used
        [recording] finite.
    """
    for chosen, face, colour in ((used, BASELINE, BASELINE), (~used, "none", OURS)):
        axes.scatter(peak_hz[chosen], peak_db[chosen], s=22, facecolors=face, edgecolors=colour, linewidths=1.0)
    axes.axvline(float(np.median(peak_hz)), color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.set_xlim(6.8, 13.2)
    axes.set_ylim(0, max(1.0, 1.15 * float(peak_db.max())))
    axes.set_xlabel("alpha peak (Hz); dashed: median")
    axes.set_ylabel("over 1/f (dB)")


def draw_badness(
    axes: Axes, *, position_m: npt.NDArray[np.float64], names: Sequence[str], share: npt.NDArray[np.float64]
) -> None:
    """Draw the head from above, nose up, with each electrode coloured by how often it was bad; hollow ones never.

    Electrodes lie at their angle from the crown (azimuthal equidistant about the centre of MNE's default sphere),
    so that those below the line of eyes and ears lie outside the head. The worst five are named.

    Parameters
    ----------
    position_m
        [channel, 3] metres in the head frame (x to the right ear, y to the nose), finite.
    names
        [channel]
    share
        [channel] 0 to 1.
    """
    at = position_m - _CENTRE_M
    flat = np.hypot(at[:, 0], at[:, 1])
    angle = np.arctan2(flat, at[:, 2]) / (np.pi / 2)
    xy = at[:, :2] / np.maximum(flat, 1e-9)[:, None] * angle[:, None]
    turn = np.linspace(0, 2 * np.pi, 120)
    axes.plot(np.cos(turn), np.sin(turn), color=MUTED, linewidth=0.9)
    axes.plot([-0.12, 0, 0.12], [0.993, 1.13, 0.993], color=MUTED, linewidth=0.9)
    never = share == 0
    axes.scatter(xy[never, 0], xy[never, 1], s=14, facecolors="none", edgecolors=MUTED, linewidths=0.7)
    if (~never).any():
        worst_last = np.argsort(share, kind="stable")[int(never.sum()) :]
        dots = axes.scatter(
            xy[worst_last, 0], xy[worst_last, 1], s=36, c=100 * share[worst_last], cmap="viridis_r", vmin=0
        )
        bar = axes.figure.colorbar(dots, ax=axes, shrink=0.7, pad=0.04)
        bar.outline.set_visible(False)
        bar.set_label("bad in % of the recordings")
        for i in worst_last[::-1][:5]:
            axes.annotate(names[i], xy[i], xytext=(4, 4), textcoords="offset points", fontsize=7, color=INK)
    axes.set_aspect("equal")
    axes.set_axis_off()


def draw_levels(axes: Axes, *, level_uv: npt.NDArray[np.float64], step_s: float, valid: npt.NDArray[np.bool_]) -> None:
    """Draw the spread of every channel in every stretch of a recording, and which stretches are not fit for use.

    Parameters
    ----------
    level_uv
        [stretch, channel] SDs.
    step_s
        Length of a stretch.
    valid
        [stretch]
    """
    stretches, channels = level_uv.shape
    shown = np.log10(np.maximum(level_uv, 1e-3))
    low, high = np.percentile(shown[level_uv > 0] if (level_uv > 0).any() else shown, (2, 99.5))
    end = stretches * step_s
    image = axes.imshow(
        shown.T,
        aspect="auto",
        cmap="viridis",
        vmin=low,
        vmax=max(high, low + 0.3),
        interpolation="nearest",
        extent=(0.0, end, channels + 0.5, 0.5),
    )
    for (first,) in np.argwhere(~valid):
        axes.plot([first * step_s, (first + 1) * step_s], [-0.02, -0.02], color=OURS, linewidth=3.0,
                  transform=axes.get_xaxis_transform(), clip_on=False, solid_capstyle="butt")  # fmt: skip
    axes.set_xlim(0, end)
    axes.set_xlabel("time (s)")
    axes.set_ylabel("channel, in the table's order")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    bar = axes.figure.colorbar(image, ax=axes, pad=0.02)
    bar.outline.set_visible(False)
    ticks = [
        tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= np.log10(tick) <= high
    ]
    bar.set_ticks([float(np.log10(tick)) for tick in ticks], labels=[f"{tick:g}" for tick in ticks])
    bar.set_label("SD (µV)")
