"""Which recording stands for a dataset in the report, and which stretch of it is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.recording import Target
from neurofm.shards import Shard, read_shard


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """Samples [start, stop) of one recording."""

    recording: str
    shard: Shard
    start: int
    stop: int
    target: str
    """The measured variable drawn beneath the signal; empty where there is none."""

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """[time, channel] in physical units."""
        return self.shard.values(self.start, self.stop)

    @property
    def time_s(self) -> npt.NDArray[np.float64]:
        """[time] seconds on the recording's clock."""
        return self.shard.time_s[self.start : self.stop]


def choose_excerpt(folder: Path, *, preferred: frozenset[str], seconds: float) -> Excerpt | None:
    """Take the first recording of a dataset that is used (or, where none is, the first that was read).

    Parameters
    ----------
    folder
        ``data/shards/<dataset>``.
    preferred
        Recordings that take part.
    seconds
        Length of the excerpt; a shorter recording is shown whole.

    Returns
    -------
    None where the dataset has no shard.
    """
    names = sorted(path.name.removesuffix(".zarr.zip") for path in folder.glob("*.zarr.zip"))
    if not names:
        return None
    recording = next((name for name in names if name in preferred), names[0])
    shard = read_shard(folder / f"{recording}.zarr.zip")
    length = min(len(shard.stored), max(2, round(seconds * shard.sampling_rate_hz)))
    target = _target(shard)
    start = _most_complete(shard, target=target, length=length)
    return Excerpt(recording=recording, shard=shard, start=start, stop=start + length, target=target)


def is_angle(target: Target) -> bool:
    """Whether a target's columns are cosine and sine of one angle."""
    return target.columns == ("cos", "sin")


def _target(shard: Shard) -> str:
    """Choose an angle if one was measured, else the first variable by name."""
    names = sorted(shard.recording.targets, key=lambda name: (not is_angle(shard.recording.targets[name]), name))
    return names[0] if names else ""


def _most_complete(shard: Shard, *, target: str, length: int) -> int:
    """Return the start of the first stretch with the most valid samples in which the target was measured."""
    good = shard.valid.astype(np.float64)
    if target:
        good += np.isfinite(shard.recording.targets[target].values).all(axis=1)
    total = np.concatenate([[0.0], np.cumsum(good)])
    return int(np.argmax(total[length:] - total[:-length]))


def evenly(usable: npt.NDArray[np.bool_], *, most: int) -> npt.NDArray[np.int64]:
    """Take at most `most` usable channels, evenly through the table, so that none is picked for its looks."""
    found = np.flatnonzero(usable).astype(np.int64)
    if len(found) <= most:
        return found
    return found[np.linspace(0, len(found) - 1, most).round().astype(np.int64)]


def names_of(shard: Shard, channels: Sequence[int] | npt.NDArray[np.int64]) -> list[str]:
    """Return the ids of `channels`."""
    return [shard.recording.channels.id[channel] for channel in channels]
