"""neurofm's store on the benchmark's shards: the windows of a case, what a pool costs beside them, and its stalls."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loader_windows import BATCH, Array, Case, Corpus, Row, Windows, row
from neurofm.recording import Modality
from neurofm.shards.packed import PackedArray, PackedShard
from neurofm.splits import Segment
from neurofm.windows.policy import Policy, StoreSite
from neurofm.windows.samples import Samples
from neurofm.windows.sampling import Episode, Source
from neurofm.windows.schedule import Drawing, PoolSettings, Schedule
from neurofm.windows.signal import StoredSignal
from neurofm.windows.store import Store


def schedule_of(case: Case) -> Schedule:
    """Draw as training would, with a pool of the case's size."""
    corpus = case.corpus
    whole = Episode(targets=(Segment(start=0, stop=corpus.rows),), calibration=())
    sources = [
        Source(
            dataset="bench",
            name=f"bench/{number}",
            modality=Modality.SPIKES,
            train_samples=corpus.rows,
            window_samples=corpus.window_rows,
            usable=np.arange(corpus.channels),
            episodes=(whole,),
        )
        for number in range(corpus.sessions)
    ]
    return Schedule(
        sources,
        row_bytes=[corpus.session_bytes // corpus.rows] * corpus.sessions,
        drawing=Drawing(seed=1, shares={Modality.SPIKES: 1.0}, windows=BATCH, hidden_fraction=(0.15, 0.5)),
        pool=PoolSettings(megabytes=pool_mb(corpus), uses=case.uses),
    )


def pool_mb(corpus: Corpus) -> float:
    """Size of the pool, 1e6 bytes."""
    return corpus.resident * corpus.session_bytes / 1e6


def store_of(case: Case, folder: Path, *, decoders: int = 0) -> Store:
    """Open all shards, decode none."""
    corpus = case.corpus
    ones = np.ones(corpus.channels, dtype=np.float32)
    signals = []
    for number in range(corpus.sessions):
        valid = np.ones(corpus.rows, dtype=np.bool_)
        samples = Samples(array=_signal(corpus.shard(folder, number)), valid=valid)
        signals.append(StoredSignal(samples=samples, valid=valid, gain=ones, bias=ones - 1))
    return Store(signals, schedule_of(case), site=StoreSite(policy=Policy.HOST_POOL, decoders=decoders))


def write_windows(case: Case, *, rounds: int) -> None:
    """Write down which windows are drawn, for every reader of the case."""
    schedule = schedule_of(case)
    for round_ in range(rounds if case.fresh else 1):
        drawn = [schedule.at(step) for step in case.steps(round_)]
        windows = [np.column_stack([np.full(BATCH, one.source), one.starts]) for one in drawn]
        path = case.listed(round_)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.concatenate(windows).astype(np.int64))


class PoolServe:
    """The store as the benchmark's readers are; all that it does is in this process, and on its clock."""

    def __init__(self, case: Case, folder: Path) -> None:
        """Open it; nothing is decoded."""
        self._case = case
        self._first = 0
        self.store = store_of(case, folder)
        self._out = case.corpus.batch()

    def ready(self, round_: int) -> None:
        """Decode what is resident when a round begins: outside the clock, where the round is warm."""
        self._first = self._case.steps(round_).start
        self.store.stored_at(self._first, out=self._out)

    def __call__(self, windows: Windows, out: Array) -> None:
        """Serve a round, drawing included."""
        for step in range(self._first, self._first + len(windows) // BATCH):
            self.store.stored_at(step, out=out)


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
    """Return where the time goes: decoding, copying with the cast, drawing."""
    corpus = case.corpus
    count = min(corpus.resident, 8)
    arrays = [_signal(corpus.shard(folder, number)) for number in range(count)]
    values = np.zeros((count, corpus.rows, corpus.channels), dtype=corpus.dtype)
    windows = case.windows(0)[: BATCH * 100] % [count, corpus.rows]
    out, length, chosen = corpus.batch(), corpus.window_rows, windows.tolist()

    def decode() -> None:
        for number, array in enumerate(arrays):
            array.read(0, corpus.rows, out=values[number])

    def copy() -> None:
        for number, (place, first) in enumerate(chosen):
            out[number % BATCH] = values[place, first : first + length]

    def draw() -> None:
        schedule = schedule_of(case)
        for step in range(100):
            schedule.at(step)

    took = {work.__name__: _median_cpu_s(work, rounds) for work in (decode, copy, draw)}
    name = f"{corpus.name}, parts"
    return [
        row(name, "decode into memory", values.nbytes / took["decode"] / 1e9, "GB/CPU-s"),
        row(name, "copy of windows", len(windows) * corpus.window_bytes / took["copy"] / 1e9, "GB/CPU-s"),
        row(name, "drawing a step of 64 windows", took["draw"] / 100 * 1e6, "us", higher_is_better=False),
    ]


def resident_set(case: Case, folder: Path) -> list[Row]:
    """Return the memory gained by a pool that has served a round, and the pool's size."""
    out, windows = case.corpus.batch(), case.windows(0)
    out[...] = 1
    before = _memory_mb()
    opened = PoolServe(case, folder)
    opened.ready(0)
    opened(windows, out)
    name = f"{case.corpus.name}, resident set"
    return [
        row(name, "neurofm", _memory_mb() - before, "MB", higher_is_better=False),
        row(name, "the pool of params.yaml", pool_mb(case.corpus), "MB", higher_is_better=False),
    ]


def longest_stall(case: Case, folder: Path, *, seconds: float, per_second: int = 5_000) -> list[Row]:
    """Return how long a consumer of so many windows a second waited at most for a batch, and what of it was work.

    Where other work has the cores, a consumer waits for the scheduler, which no loader can help.
    """
    out = case.corpus.batch()
    waits, works = [], []
    with store_of(case, folder, decoders=1) as store:
        store.stored_at(0, out=out)
        time.sleep(2.0)  # its processes start while a model compiles
        step, due = 1, time.perf_counter()
        stop = due + seconds
        while due < stop:
            time.sleep(max(0.0, due - time.perf_counter()))
            began, worked = time.perf_counter(), time.thread_time()
            store.stored_at(step, out=out)
            waits.append(time.perf_counter() - began)
            works.append(time.thread_time() - worked)
            step += 1
            due += BATCH / per_second
    ordered = sorted(waits)
    name = f"{case.corpus.name}, {per_second} windows/s for {seconds:g} s"
    return [
        row(name, "longest wait for a batch", ordered[-1] * 1e3, "ms", higher_is_better=False),
        row(name, "99.9 % of waits below", ordered[int(len(ordered) * 0.999)] * 1e3, "ms", higher_is_better=False),
        row(name, "median wait", statistics.median(ordered) * 1e3, "ms", higher_is_better=False),
        row(name, "most CPU time for a batch", max(works) * 1e3, "CPU-ms", higher_is_better=False),
    ]


def _signal(path: Path) -> PackedArray:
    return PackedShard(path).array("signal")


def _median_cpu_s(work: Any, rounds: int) -> float:
    work()  # checksums are computed once
    times = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return statistics.median(times)


def _memory_mb() -> float:
    """Memory of this process that no file gives back: its own and what it shares with decoders."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kinds = ("RssAnon", "RssShmem")
    return sum(int(line.split()[1]) for line in lines if line.startswith(kinds)) * 1024 / 1e6
