"""What the training benchmark learns from: real windows, the same ones and the same channels hidden for every network.

Only numpy and the standard library are imported here, because POYO reads them in an environment of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.loader_windows import Array

HIDDEN_SHARE = {"fmri": 0.75, "spikes": 0.3}
"""Whole channels: 75 % is what BrainLM and ViT-MAE train with, 30 % of units what neurofm is scored on."""
WINDOW_SAMPLES = {"fmri": 200, "spikes": 100}
"""BrainLM's window of 200 TR, and neurofm's of 2 s."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """One recording and what is to be learned of it."""

    modality: str
    values: Array
    """[sample, channel] float32: z units of fMRI, counts per bin of spikes."""
    position: npt.NDArray[np.float32]
    """[channel, 3] mm"""
    sampling_rate_hz: float

    @property
    def window_samples(self) -> int:
        """Samples in a window."""
        return WINDOW_SAMPLES[self.modality]

    @property
    def hidden(self) -> npt.NDArray[np.bool_]:
        """Which channels are hidden, [channel]."""
        channels = self.values.shape[1]
        hidden = np.zeros(channels, dtype=np.bool_)
        hidden[np.random.default_rng(0).permutation(channels)[: round(HIDDEN_SHARE[self.modality] * channels)]] = True
        return hidden

    def starts(self, step: int, *, windows: int) -> npt.NDArray[np.int64]:
        """First samples of the windows of a step, the same for every network."""
        random = np.random.default_rng([1, step])
        starts: npt.NDArray[np.int64] = random.integers(len(self.values) - self.window_samples + 1, size=windows)
        return starts

    def windows(self, step: int, *, windows: int) -> Array:
        """[window, sample, channel] of a step."""
        cut = [self.values[start : start + self.window_samples] for start in self.starts(step, windows=windows)]
        return np.stack(cut)

    def save(self, folder: Path) -> None:
        """Write it down for processes without neurofm."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(_path(folder, self.modality), values=self.values, position=self.position, rate=self.sampling_rate_hz)

    @classmethod
    def load(cls, folder: Path, modality: str) -> Corpus:
        """Read what `save` wrote."""
        with np.load(_path(folder, modality)) as held:
            rate = float(held["rate"])
            return cls(modality=modality, values=held["values"], position=held["position"], sampling_rate_hz=rate)


def saved(folder: Path, modality: str, make: Callable[[], Corpus]) -> None:
    """Make a corpus where it is not there yet."""
    if not _path(folder, modality).is_file():
        make().save(folder)


def spike_times(counts: Array, *, sampling_rate_hz: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Turn counts per bin into spikes, spread evenly over their bin: times are not kept in shards of counts.

    Parameters
    ----------
    counts
        [bin, unit]
    sampling_rate_hz
        Bins per second.

    Returns
    -------
    Seconds from the start of the window, ascending, and unit of each spike.
    """
    bins, units = np.nonzero(counts)
    number = counts[bins, units].astype(np.int64)
    place = np.arange(number.sum()) - np.repeat(number.cumsum() - number, number)
    within = (place + 0.5) / np.repeat(number, number)
    times = (np.repeat(bins, number) + within) / sampling_rate_hz
    order = np.argsort(times, kind="stable")
    return times[order], np.repeat(units, number)[order]


def _path(folder: Path, modality: str) -> Path:
    return folder / f"{modality}.npz"


Settings = dict[str, Any]
"""What a process of the benchmark is told, as JSON."""
