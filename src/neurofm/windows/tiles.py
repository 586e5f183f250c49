"""Tiles: evaluation windows that score every sample of a segment exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurofm.splits import Segment


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One window [start, stop) of which only [score_from, stop) counts."""

    start: int
    stop: int
    score_from: int


def tiles(segments: Sequence[Segment], *, window_samples: int) -> tuple[Tile, ...]:
    """Cut segments into windows side by side; the last one of a segment ends with it and overlaps the one before.

    Segments shorter than a window give none.
    """
    cut: list[Tile] = []
    for segment in segments:
        start = segment.start
        while start + window_samples <= segment.stop:
            cut.append(Tile(start=start, stop=start + window_samples, score_from=start))
            start += window_samples
        if segment.start < start < segment.stop:
            cut.append(Tile(start=segment.stop - window_samples, stop=segment.stop, score_from=start))
    return tuple(cut)
