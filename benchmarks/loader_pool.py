"""A sketch of a resident pool of decoded recordings, and the other ways to read neurofm's shards.

The pool holds some recordings decoded in one buffer. While it serves windows from them it decodes the next recording
chunk by chunk into a spare place, so that no batch waits for a whole one; after K uses of a recording's bytes the new
one is there and the oldest place is the spare one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import numpy as np

from benchmarks.loader_windows import BATCH, Array, Case, Corpus, Row, Windows, row
from neurofm.shards.packed import PackedArray, PackedShard


class Pool:
    """Recordings decoded in memory, the oldest replaced as windows are served."""

    def __init__(self, corpus: Corpus, folder: Path, *, compiled: bool) -> None:
        """Open all shards, decode none."""
        self._corpus = corpus
        self._arrays = [_signal(corpus.shard(folder, number)) for number in range(corpus.sessions)]
        self._chunks = self._arrays[0].chunks
        # Written to at once: pages of 2 MB that the system first clears when a batch needs them cost 6 ms each.
        self.buffer = np.full((corpus.resident + 1, corpus.rows, corpus.channels), 0, dtype=corpus.dtype)
        self._place = np.zeros(corpus.sessions, dtype=np.int64)
        self._compiled = compiled
        self._first = self._done = 0

    def fill(self, first: int) -> None:
        """Decode the resident recordings, from `first` on, and count from there."""
        self._first, self._done = first, -self._corpus.resident * self._chunks
        self._advance(0)

    def batches(self, windows: Windows, out: Array, *, per_rotation: int) -> Iterator[None]:
        """Fill `out` with batch after batch; a recording is replaced every `per_rotation` windows."""
        copy = self._gather if self._compiled else self._copy
        for begin in range(0, len(windows), BATCH):
            last = begin + BATCH - 1
            # So much of the next recording as windows were served, all of it where a window of this batch wants it.
            self._advance(max(begin * self._chunks // per_rotation, last // per_rotation * self._chunks))
            copy(windows[begin : begin + BATCH], out)
            yield

    def _advance(self, due: int) -> None:
        """Decode chunks, recording after recording, until `due` are there beyond those of `fill`."""
        while self._done < due:
            number, chunk = divmod(self._done, self._chunks)
            number += self._first + self._corpus.resident
            session, place = number % self._corpus.sessions, number % len(self.buffer)
            self._place[session] = place
            array, start = self._arrays[session], chunk * self._arrays[session].chunk_rows
            stop = min(start + array.chunk_rows, self._corpus.rows)
            array.read(start, stop, out=self.buffer[place, start:stop])
            self._done += 1

    def _copy(self, windows: Windows, out: Array) -> None:
        length, buffer = self._corpus.window_rows, self.buffer
        places, firsts = self._place[windows[:, 0]].tolist(), windows[:, 1].tolist()
        for number, (place, first) in enumerate(zip(places, firsts, strict=True)):
            out[number] = buffer[place, first : first + length]

    def _gather(self, windows: Windows, out: Array) -> None:
        gather(self.buffer, self._place[windows[:, 0]], windows[:, 1], out)


def gather(buffer: Array, places: Array, firsts: Array, out: Array) -> None:
    """Copy windows of `buffer` [place, row, channel] into `out` [window, row, channel], cast to its type."""
    channels = buffer.shape[2]
    _gather(buffer.reshape(len(buffer), -1), places, firsts * channels, out.reshape(len(out), -1))


@numba.njit(nogil=True)
def _gather(buffer: Any, places: Any, firsts: Any, out: Any) -> None:
    # Sample by sample, which becomes wide instructions; numba's assignment of slices is four times slower.
    for window in range(len(places)):
        source = buffer[places[window], firsts[window] : firsts[window] + out.shape[1]]
        into = out[window]
        for sample in range(out.shape[1]):
            into[sample] = source[sample]


class PoolServe:
    """A pool as the benchmark's readers are."""

    def __init__(self, case: Case, folder: Path, *, compiled: bool) -> None:
        """Open it; nothing is decoded."""
        self._case = case
        self.pool = Pool(case.corpus, folder, compiled=compiled)

    def ready(self, round_: int) -> None:
        """Bring the pool to where it stands at the beginning of a round."""
        self.pool.fill(self._case.first(round_))

    def __call__(self, windows: Windows, out: Array) -> None:
        """Serve a round."""
        for _ in self.pool.batches(windows, out, per_rotation=self._case.windows_per_rotation):
            pass


def pool_windows(case: Case, folder: Path, *, compiled: bool) -> PoolServe:
    """Return what serves a case's windows from a pool: put neurofm's own pool in here.

    ``ready(round)`` fills it outside the clock, so that a warm round measures rotation and copies; calling it serves
    the windows of the round.
    """
    return PoolServe(case, folder, compiled=compiled)


def unpooled(corpus: Corpus, folder: Path) -> Any:
    """Return a reader of one window that decodes the window's chunks each time."""
    arrays = [_signal(corpus.shard(folder, number)) for number in range(corpus.sessions)]
    length = corpus.window_rows

    def read(session: int, first: int, out: Array) -> None:
        if corpus.cast:
            out[...] = arrays[session].read(first, first + length)
        else:
            arrays[session].read(first, first + length, out=out)

    return read


def parts(case: Case, folder: Path, *, rounds: int) -> list[Row]:
    """Return where the pool's time goes: decoding, copying, and what Python adds per window."""
    corpus = case.corpus
    pool = Pool(corpus, folder, compiled=False)
    pool.fill(0)
    windows = case.windows(0)[: BATCH * 100] % [corpus.resident, corpus.rows]
    places, firsts = (np.ascontiguousarray(column) for column in windows.T)
    out, length = corpus.batch(), corpus.window_rows
    buffer, chosen = pool.buffer, windows.tolist()
    gather(buffer, places[:BATCH], firsts[:BATCH], out)

    def decode() -> None:
        pool.fill(0)

    def looped() -> None:
        for number, (place, first) in enumerate(chosen):
            out[number % BATCH] = buffer[place, first : first + length]

    def gathered() -> None:
        for begin in range(0, len(windows), BATCH):
            gather(buffer, places[begin : begin + BATCH], firsts[begin : begin + BATCH], out)

    def empty() -> None:
        for number, (place, first) in enumerate(chosen):
            out[number % BATCH, :1] = buffer[place, first : first + 1]

    took = {work.__name__: _median_cpu_s(work, rounds) for work in (decode, looped, gathered, empty)}
    copied = len(windows) * corpus.window_bytes
    name = f"{corpus.name}, parts"
    return [
        row(name, "decode into the pool", corpus.resident * corpus.session_bytes / took["decode"] / 1e9, "GB/CPU-s"),
        row(name, "copy, a loop of numpy", copied / took["looped"] / 1e9, "GB/CPU-s"),
        row(name, "copy, compiled", copied / took["gathered"] / 1e9, "GB/CPU-s"),
        row(name, "a window of one row", took["empty"] / len(windows) * 1e6, "us", higher_is_better=False),
    ]


def resident_set(case: Case, folder: Path) -> list[Row]:
    """Return this process's anonymous memory gained by a pool that has served a round, and the pool's size."""
    out, windows = case.corpus.batch(), case.windows(0)
    out[...] = 1
    before = _anonymous_mb()
    serve = PoolServe(case, folder, compiled=False)
    serve.ready(0)
    serve(windows, out)
    name = f"{case.corpus.name}, resident set"
    return [
        row(name, "gained by the pool", _anonymous_mb() - before, "MB", higher_is_better=False),
        row(name, "the pool's buffer", serve.pool.buffer.nbytes / 1e6, "MB", higher_is_better=False),
    ]


def longest_stall(case: Case, folder: Path, *, seconds: float, per_second: int = 5_000) -> list[Row]:
    """Return how long a consumer of so many windows a second waited at most for a batch."""
    out = case.corpus.batch()
    serve = PoolServe(case, folder, compiled=True)
    serve.ready(0)
    # The list of a round again and again would not match the pool; one list as long as needed does.
    rotations = int(seconds * per_second) // case.windows_per_rotation + 2
    windows = replace(case, rotations=rotations).windows(0)
    stream = serve.pool.batches(windows, out, per_rotation=case.windows_per_rotation)
    waits, worked = [], []
    due = time.perf_counter()
    stop = due + seconds
    while due < stop:
        time.sleep(max(0.0, due - time.perf_counter()))
        began, cpu_began = time.perf_counter(), time.process_time()
        next(stream)
        worked.append(time.process_time() - cpu_began)
        waits.append(time.perf_counter() - began)
        due += BATCH / per_second
    ordered = sorted(waits)
    name = f"{case.corpus.name}, {per_second} windows/s for {seconds:g} s"
    return [
        row(name, "longest wait for a batch", ordered[-1] * 1e3, "ms", higher_is_better=False),
        row(name, "longest work for a batch, CPU", max(worked) * 1e3, "ms", higher_is_better=False),
        row(name, "99.9 % of waits below", ordered[int(len(ordered) * 0.999)] * 1e3, "ms", higher_is_better=False),
    ]


def _signal(path: Path) -> PackedArray:
    return PackedShard(path).array("signal")


def _median_cpu_s(work: Any, rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return statistics.median(times)


def _anonymous_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e6
