"""Real recordings for the training benchmark, at the sizes that the published networks have.

``fmri`` is 424 parcels x 1200 TR, BrainLM's number of parcels: resting BOLD of HCP subjects (`hcp-rest`, up to 94
regions each), side by side. ``spikes`` is 300 units of one session of Steinmetz et al. 2019
(10.1038/s41586-019-1787-x) in 20 ms bins, as the loader benchmark lays them out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks import loader_data
from benchmarks.loader_windows import corpora
from benchmarks.train_windows import Corpus, saved

_PARCELS = 424
_BINS = 6000


def make(folder: Path, *, shards: Path) -> None:
    """Write both corpora where they are not there yet."""
    saved(folder, "fmri", lambda: _fmri(shards / "hcp-rest"))
    saved(folder, "spikes", lambda: _spikes(folder))


def _fmri(shards: Path) -> Corpus:
    from neurofm.shards import read_shard  # noqa: PLC0415

    paths = sorted(shards.glob("*.zarr.zip"))
    if not paths:
        raise SystemExit(f"error: there is no recording in {shards}. Mend: run `make repro`, or give --shards")
    values, position = [], []
    for path in paths:
        shard = read_shard(path)
        series = shard.values()[:, shard.usable]
        values.append((series - series.mean(axis=0)) / series.std(axis=0))
        position.append(shard.recording.channels.position[shard.usable])
    rows = min(len(part) for part in values)
    placed = np.nan_to_num(np.concatenate(position)[:_PARCELS]).astype(np.float32)
    joined = np.concatenate([part[:rows] for part in values], axis=1)[:, :_PARCELS]
    if joined.shape[1] < _PARCELS:
        raise SystemExit(
            f"error: {shards} has {joined.shape[1]} regions in all, not {_PARCELS}. Mend: run `make repro`"
        )
    rate = shard.sampling_rate_hz
    return Corpus(modality="fmri", values=joined.astype(np.float32), position=placed, sampling_rate_hz=rate)


def _spikes(folder: Path) -> Corpus:
    session, _ = corpora(sessions=1, eeg_sessions=1)
    if not loader_data.made(session, folder):
        loader_data.make(session, folder)
    counts = np.memmap(session.raw(folder), dtype=session.dtype, mode="r", shape=(session.rows, session.channels))
    return Corpus(
        modality="spikes",
        values=counts[:_BINS].astype(np.float32),
        position=np.zeros((session.channels, 3), dtype=np.float32),
        sampling_rate_hz=50.0,
    )
