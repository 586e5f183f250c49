"""What the loader benchmark reads: which recordings, which windows in which order, and how a reader is timed.

Only numpy and the standard library are imported here, because peers import it in environments of their own.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BATCH = 64
ROUNDS, COLD_ROUNDS = 7, 3
SLOW_ROUND_S = 0.7
"""CPU-seconds that a round may take; a slow reader reads the first windows of the list only."""
Row = dict[str, Any]
Array = npt.NDArray[Any]
Windows = npt.NDArray[np.int64]
"""[window, 2] recording and first row."""
Serve = Callable[[Windows, Array], None]
"""Fill a batch again and again with the windows of a list."""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Recordings of one size."""

    name: str
    sessions: int
    rows: int
    channels: int
    dtype: str
    window_rows: int
    resident: int
    """Recordings that a pool holds decoded."""
    cast: bool
    """Whether batches are float32."""

    @property
    def window_bytes(self) -> int:
        """Bytes of a stored window."""
        return self.window_rows * self.channels * np.dtype(self.dtype).itemsize

    @property
    def session_bytes(self) -> int:
        """Bytes of a decoded recording."""
        return self.rows * self.channels * np.dtype(self.dtype).itemsize

    def batch(self) -> Array:
        """[window, row, channel] to be filled."""
        return np.zeros(
            (BATCH, self.window_rows, self.channels), dtype=np.float32 if self.cast else np.dtype(self.dtype)
        )

    def raw(self, folder: Path) -> Path:
        """[session, row, channel] uncompressed."""
        return folder / f"{self.name}.raw"

    def shard(self, folder: Path, session: int) -> Path:
        """Where neurofm's own shard of a session lies."""
        return folder / self.name / f"s{session:03d}.zarr.zip"


@dataclass(frozen=True, kw_only=True)
class Case:
    """Windows as a pool hands them out, given to every reader as the same list."""

    name: str
    corpus: Corpus
    uses: int
    """K: how often a decoded byte is served on average before its recording is replaced."""
    rotations: int
    """Recordings that are replaced in a round."""
    lists: Path
    """Folder of the lists of windows."""
    fresh: bool = False
    """Whether each round has windows of its own."""
    cold: bool = False
    """Whether the page cache is emptied and everything opened anew before each round."""

    def steps(self, round_: int) -> range:
        """Which steps of training a round stands for: so many that `rotations` recordings are replaced."""
        count = self.rotations * self.uses * self.corpus.rows // self.corpus.window_rows // BATCH
        first = round_ * count if self.fresh else 0
        return range(first, first + count)

    def listed(self, round_: int) -> Path:
        """Where the windows of a round are written down, for processes without neurofm."""
        number = round_ if self.fresh else 0
        return self.lists / f"{self.corpus.name}-{self.corpus.sessions}-{self.uses}-{self.rotations}-{number}.npy"

    def windows(self, round_: int) -> Windows:
        """(session, first row) of every window, unaligned, as neurofm draws them."""
        windows: Windows = np.load(self.listed(round_))
        return windows


def corpora(*, sessions: int, eeg_sessions: int) -> tuple[Corpus, Corpus]:
    """Return the sizes of the benchmark: spike counts of 20 ms for 600 s, EEG at 200 Hz for 600 s."""
    spikes = Corpus(
        name="spikes",
        sessions=sessions,
        rows=30_000,
        channels=300,
        dtype="uint8",
        window_rows=100,
        resident=max(1, min(24, sessions // 2)),
        cast=False,
    )
    eeg = Corpus(
        name="eeg",
        sessions=eeg_sessions,
        rows=120_000,
        channels=128,
        dtype="int16",
        window_rows=400,
        resident=max(1, min(8, eeg_sessions // 2)),
        cast=True,
    )
    return spikes, eeg


def cases(spikes: Corpus, eeg: Corpus, *, folder: Path) -> tuple[Case, ...]:
    """Return all cases, in the order of the table."""
    lists = folder / "windows"
    return (
        Case(name="spikes K=8 warm", corpus=spikes, uses=8, rotations=20, lists=lists),
        Case(name="spikes K=8 fresh random windows", corpus=spikes, uses=8, rotations=20, fresh=True, lists=lists),
        Case(name="spikes K=1 fresh random windows", corpus=spikes, uses=1, rotations=40, fresh=True, lists=lists),
        Case(name="EEG K=4 warm, cast", corpus=eeg, uses=4, rotations=6, lists=lists),
        Case(name="spikes K=8 cold", corpus=spikes, uses=8, rotations=20, cold=True, lists=lists),
        Case(name="EEG K=4 cold, cast", corpus=eeg, uses=4, rotations=6, cold=True, lists=lists),
    )


@dataclass
class Timing:
    """Windows per second of some rounds."""

    per_cpu_s: list[float]
    per_wall_s: list[float]

    def rows(self, case: Case, who: str) -> list[Row]:
        """Return the medians; the wall's only where disks matter."""
        found = [row(case.name, who, statistics.median(self.per_cpu_s), "windows/CPU-s")]
        if case.cold:
            found.append(row(f"{case.name}, wall", who, statistics.median(self.per_wall_s), "windows/s"))
        return found


def time_round(serve: Serve, windows: Windows, out: Array, timing: Timing) -> None:
    """Serve a list once and keep what it took."""
    began, cpu_began = time.perf_counter(), time.process_time()
    serve(windows, out)
    timing.per_wall_s.append(len(windows) / (time.perf_counter() - began))
    timing.per_cpu_s.append(len(windows) / (time.process_time() - cpu_began))


def affordable(serve: Serve, windows: Windows, out: Array, *, probe: int = BATCH) -> int:
    """Return how many windows fit into a round, whole batches; it has then read a few."""
    serve(windows[:probe], out)
    cpu_began = time.process_time()
    serve(windows[probe : 2 * probe], out)
    each = max((time.process_time() - cpu_began) / probe, 1e-7)
    return min(len(windows), max(BATCH, int(SLOW_ROUND_S / each) // BATCH * BATCH))


def one_by_one(read: Callable[[int, int, Array], None]) -> Serve:
    """Return a `Serve` that reads each window into its place in the batch."""

    def serve(windows: Windows, out: Array) -> None:
        places = list(out)
        for number, (session, first) in enumerate(windows.tolist()):
            read(session, first, places[number % BATCH])

    return serve


def forget(folder: Path) -> None:
    """Drop the page cache of every file in `folder`, after its dirty pages are written."""
    for path in _files(folder):
        with suppress(OSError):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file()) if folder.is_dir() else iter([folder])


def row(case: str, who: str, value: float, unit: str, *, higher_is_better: bool = True) -> Row:
    """Return a row of the table."""
    return {
        "case": case,
        "who": who,
        "value": float(f"{value:.4g}"),
        "unit": unit,
        "higher_is_better": higher_is_better,
    }


def printed(rows: list[Row]) -> str:
    """Return what a process of the benchmark prints last."""
    return json.dumps(rows)
