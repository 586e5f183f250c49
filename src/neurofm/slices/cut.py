"""Cut: the beginning of a shard as a shard of its own, by the shards' own writer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from neurofm.recording import Recording, Signal, Spikes, Stimulus, Target
from neurofm.shards import Provenance, Shard, read_shard, write_shard


def cut_shard(source: Path, *, samples: int, path: Path) -> None:
    """Write the first `samples` samples of a shard, with what belongs to them, to `path`.

    Raises
    ------
    Unreadable
        If `source` is no whole shard.
    """
    shard = read_shard(source, extra=True)
    write_shard(_first(shard, samples=samples), provenance=_provenance(shard), path=path)


def _first(shard: Shard, *, samples: int) -> Recording:
    whole = shard.recording
    values = shard.values(0, samples)
    stop_s = shard.start_s + len(values) / shard.sampling_rate_hz
    time_s = shard.time_s[: len(values)]

    def begun(series: Mapping[str, Target]) -> dict[str, Target]:
        return {name: replace(one, values=one.values[: len(values)], time_s=time_s) for name, one in series.items()}

    return replace(
        whole,
        signal=Signal(values=values, sampling_rate_hz=shard.sampling_rate_hz, units=shard.units, start_s=shard.start_s),
        valid=shard.valid[: len(values)],
        spikes=None if whole.spikes is None else _spikes(whole.spikes, stop_s=stop_s),
        events=None if whole.events is None else whole.events.where(whole.events.onset_s < stop_s),
        targets=begun(whole.targets),
        noise=begun(whole.noise),
        stimulus=None if whole.stimulus is None else _stimulus(whole.stimulus, samples=len(values)),
        extra_signals={
            name: replace(one, values=one.values[: len(values)]) for name, one in whole.extra_signals.items()
        },
    )


def _spikes(spikes: Spikes, *, stop_s: float) -> Spikes:
    kept = spikes.time_s < stop_s
    return Spikes(
        time_s=spikes.time_s[kept],
        channel=spikes.channel[kept],
        start_s=spikes.start_s,
        stop_s=min(spikes.stop_s, stop_s),
    )


def _stimulus(stimulus: Stimulus, *, samples: int) -> Stimulus:
    """Keep the frames that were shown until then, and no others."""
    shown = stimulus.shown[:samples]
    kept = np.unique(shown[shown >= 0])
    renumbered = np.where(shown >= 0, np.searchsorted(kept, shown), -1).astype(np.int32)
    return Stimulus(frames=stimulus.frames[kept], shown=renumbered, time_s=stimulus.time_s[:samples])


def _provenance(shard: Shard) -> Provenance:
    source, pipeline = shard.attrs["source"], shard.attrs["pipeline"]
    return Provenance(
        archive=source["archive"],
        source_id=source["id"],
        version=source["version"],
        files=tuple((file["path"], file["digest"]) for file in source["files"]),
        licence=shard.attrs["licence"],
        citation=shard.attrs["citation"],
        libraries=pipeline["libraries"],
        container_digest=pipeline["container_digest"],
    )
