"""Hidden channels beside what was reconstructed in their place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from neurofm.evaluation.examples import Example
from neurofm.evaluation.row import OURS as OUR_NAME
from neurofm.report.figures.style import BASELINE, INK, MUTED, OURS, short, thin


def draw_reconstruction(figure: Figure, *, example: Example, channels: Sequence[int]) -> None:
    """Draw what was recorded and what each model made of it, one hidden channel above the other.

    Parameters
    ----------
    figure
        Empty.
    example
        One window of held-out data.
    channels
        Which of its hidden channels.
    """
    grid = figure.subplots(len(channels), 1, sharex=True, squeeze=False)[:, 0]
    time_s = example.start_s + np.arange(len(example.truth)) / example.sampling_rate_hz
    # Ours last, so that it lies on top.
    models = sorted(example.reconstructions, key=lambda model: model.startswith(OUR_NAME))
    drawn = [("recorded", example.truth, MUTED)]
    for model in models:
        colour = OURS if model.startswith(OUR_NAME) else BASELINE
        drawn.append((model, example.reconstructions[model], colour))
    for axes, channel in zip(grid, channels, strict=True):
        for name, values, colour in drawn:
            x, y = thin(time_s, values[:, channel])
            axes.plot(x, y, color=colour, label=short(name))
        axes.set_title(short(example.channels[channel]), fontsize=7.5, pad=2, color=INK)
        axes.locator_params(axis="y", nbins=3)
    figure.supylabel(short(example.unit), fontsize=8.5)
    grid[-1].set_xlabel("time from the recording's start (s)")
    grid[-1].set_xlim(time_s[0], time_s[-1])
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, ncols=3, fontsize=7.5, loc="outside upper left", borderpad=0)
