"""Hidden channels beside what was reconstructed in their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from neurofm.report.figures.style import BASELINE, INK, MUTED, OURS, short, thin


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """One window of a dataset's held-out data in which a group of channels was hidden."""

    dataset: str
    recording: str
    modality: str
    sampling_rate_hz: float
    channels: tuple[str, ...]
    """[hidden]"""
    truth: npt.NDArray[np.float64]
    """[time, hidden] in `unit`"""
    ours: npt.NDArray[np.float64]
    """[time, hidden]"""
    ours_name: str
    baseline: npt.NDArray[np.float64]
    """[time, hidden]"""
    baseline_name: str
    unit: str


def draw_reconstruction(figure: Figure, *, example: Reconstruction, channels: Sequence[int]) -> None:
    """Draw truth, ours and the baseline for the hidden channels `channels`, one above the other."""
    grid = figure.subplots(len(channels), 1, sharex=True, squeeze=False)[:, 0]
    time_s = np.arange(len(example.truth)) / example.sampling_rate_hz
    for axes, channel in zip(grid, channels, strict=True):
        for values, colour, width, name in (
            (example.truth, MUTED, 0.9, "recorded"),
            (example.baseline, BASELINE, 1.0, example.baseline_name),
            (example.ours, OURS, 1.0, example.ours_name),
        ):
            x, y = thin(time_s, values[:, channel])
            axes.plot(x, y, color=colour, linewidth=width, label=short(name))
        axes.set_title(short(example.channels[channel]), fontsize=7.5, pad=2, color=INK)
        axes.set_ylabel(short(example.unit, limit=14))
        axes.locator_params(axis="y", nbins=3)
    grid[-1].set_xlabel("time in the window (s)")
    grid[-1].set_xlim(time_s[0], time_s[-1])
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=3, fontsize=7.5, loc="outside upper left", borderpad=0)
