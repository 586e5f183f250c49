"""Which fMRI recordings are drawn volume by volume, and their carpets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurofm.connectivity.group import FD
from neurofm.connectivity.matrices import UNCLEANED
from neurofm.recording import Step
from neurofm.report.figures.motion import Carpet, draw_carpets
from neurofm.report.figures.style import drawing, svg
from neurofm.report.incoming import Panel
from neurofm.report.motion import fd_mm
from neurofm.report.recordings import ReportRecording
from neurofm.report.words import number
from neurofm.shards import Shard, read_shard

_SHOWN = 3


def carpet_panels(dataset: str, moved: Sequence[ReportRecording], *, shards: Path) -> tuple[Panel, ...]:
    """Draw the recordings with the lowest, the median and the highest mean displacement; without it the first ones."""
    panels = []
    for why, one in chosen(moved, shards=shards):
        shard = read_shard(shard_of(one.recording, shards=shards), extra=True)
        if not shard.usable.any():
            continue
        caption = _caption(why, one, shard)
        with drawing(f"carpet-{dataset}-{one.recording}"):
            figure = draw_carpets(_carpet(shard))
            panels.append(Panel(drawing=svg(figure, alt=f"{dataset}. {caption}"), caption=caption))
    return tuple(panels)


def shard_of(recording: str, *, shards: Path) -> Path:
    """Return where a recording's shard lies."""
    return shards / f"{recording}.zarr.zip"


def chosen(moved: Sequence[ReportRecording], *, shards: Path) -> list[tuple[str, ReportRecording]]:
    """Choose at most three recordings that have a shard, each with what makes it the one."""
    here = [one for one in moved if shard_of(one.recording, shards=shards).is_file()]
    ordered = sorted((one for one in here if np.isfinite(fd_mm(one))), key=lambda one: (fd_mm(one), one.recording))
    if not ordered:
        first = sorted(here, key=lambda one: (bool(one.reason), one.recording))
        return [("One of the first recordings", one) for one in first[:_SHOWN]]
    if len(ordered) == 1:
        return [("The only recording with motion measured", ordered[0])]
    places = {0: "Lowest motion", len(ordered) - 1: "Highest motion"}
    places.setdefault((len(ordered) - 1) // 2, "Median motion")
    return [(places[place], ordered[place]) for place in sorted(places)]


def limits_mm(steps: Sequence[Step]) -> dict[str, float]:
    """Return the limits of framewise displacement that a recording's steps name: of a volume, and of the mean.

    They are settings in mm with ``fd`` in their name (``scrub.fd_threshold_mm``); that of a recording's mean has
    ``mean`` in it too (``exclude.max_mean_fd_mm``).
    """
    named: dict[str, float] = {}
    for step in steps:
        for name, value in sorted(step.params.items()):
            words = re.split(r"[._]", name)
            if "fd" in words and words[-1] == "mm" and isinstance(value, int | float):
                named.setdefault("limit of the mean" if "mean" in words else "limit of a volume", float(value))
    return named


def _carpet(shard: Shard) -> Carpet:
    recording = shard.recording
    signals = {"signal": shard.values()[:, shard.usable]}
    if UNCLEANED in recording.extra_signals:
        before = np.asarray(recording.extra_signals[UNCLEANED].values, dtype=np.float32)
        signals = {"before": before[:, shard.usable], "after": signals["signal"]}
    return Carpet(
        time_s=shard.time_s,
        signals=signals,
        valid=shard.valid,
        fd_mm=recording.noise[FD].values[:, 0].astype(np.float64) if FD in recording.noise else None,
        limit_mm=limits_mm(recording.steps).get("limit of a volume"),
    )


def _caption(why: str, one: ReportRecording, shard: Shard) -> str:
    recording = shard.recording
    out, volumes = int((~shard.valid).sum()), len(shard.valid)
    moved = f", mean FD {number(fd_mm(one))} mm" if np.isfinite(fd_mm(one)) else ""
    marked = f"{out} of {volumes} volumes left out (marked)" if out else f"{volumes} volumes, none left out"
    rows = f"{int(shard.usable.sum())} usable parcels"
    carpet = (
        f"{rows} before and after cleaning, both in the SDs that each has before"
        if UNCLEANED in recording.extra_signals
        else f"{rows}, in SDs from each one's mean"
    )
    left = f" Takes no part: {one.reason}." if one.reason else ""
    return f"{why}: {one.recording}{moved}; {marked}. Carpet: {carpet}.{left}"
