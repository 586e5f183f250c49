"""Ours and the limits, in turns in one process: ``python -m benchmarks.loader_ours SETTINGS`` prints JSON rows.

Peers that need environments of their own are in `benchmarks.loader_peers`.
"""

from __future__ import annotations

import json
import mmap
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loader_pool import PoolServe, unpooled
from benchmarks.loader_windows import (
    BATCH,
    COLD_ROUNDS,
    ROUNDS,
    Array,
    Case,
    Corpus,
    Row,
    Serve,
    Timing,
    Windows,
    affordable,
    cases,
    corpora,
    forget,
    one_by_one,
    printed,
    time_round,
)


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to read a case's windows."""

    who: str
    open: Callable[[Case, Path], Any]
    """Returns a `Serve`; one with an attribute ``ready`` has it called with the round, outside the clock if warm."""


def populated(case: Case, folder: Path) -> Serve:
    """Map every page at the start: what memory allows."""
    whole, length = _mapped(case.corpus, folder), case.corpus.window_rows

    def serve(windows: Windows, out: Array) -> None:
        places = list(out)
        for number, (session, first) in enumerate(windows.tolist()):
            places[number % BATCH][...] = whole[session, first : first + length]

    return serve


def lazy(case: Case, folder: Path) -> Serve:
    """Slice `numpy.memmap` as one writes it."""
    corpus = case.corpus
    shape = (corpus.sessions, corpus.rows, corpus.channels)
    whole = np.memmap(corpus.raw(folder), dtype=corpus.dtype, mode="r", shape=shape)

    def read(session: int, first: int, out: Array) -> None:
        out[...] = whole[session, first : first + corpus.window_rows]

    return one_by_one(read)


WAYS = (
    Way(who="memmap populated", open=populated),
    Way(who="memmap lazy", open=lazy),
    Way(who="neurofm", open=PoolServe),
    Way(who="neurofm, no pool", open=lambda case, folder: one_by_one(unpooled(case.corpus, folder))),
)


def measure(case: Case, folder: Path, *, ways: tuple[Way, ...] = WAYS) -> list[Row]:
    """Return the rows of a case, all ways in turns."""
    out = case.corpus.batch()
    timings = {way.who: Timing(per_cpu_s=[], per_wall_s=[]) for way in ways}
    if case.cold:
        for round_ in range(COLD_ROUNDS):
            for way in ways:
                _cold_round(way, case, folder, out, round_=round_, timing=timings[way.who])
    else:
        opened = {way.who: way.open(case, folder) for way in ways}
        counts = {who: _checked(serve, case, folder, out) for who, serve in opened.items()}
        for round_ in range(ROUNDS):
            windows = case.windows(round_)
            for way in ways:
                if case.fresh and way.open is lazy:
                    opened[way.who] = way.open(case, folder)
                serve = opened[way.who]
                getattr(serve, "ready", lambda _: None)(round_)
                time_round(serve, windows[: counts[way.who]], out, timings[way.who])
    return [one for who, timing in timings.items() for one in timing.rows(case, who)]


def _cold_round(way: Way, case: Case, folder: Path, out: Array, *, round_: int, timing: Timing) -> None:
    """Everything from nothing, a pool's filling and a mapping's populating among it."""
    windows = case.windows(round_)
    if way.who == "neurofm, no pool":
        windows = windows[: 20 * BATCH]
    forget(case.corpus.raw(folder))
    forget(folder / case.corpus.name)

    def serve(windows: Windows, out: Array) -> None:
        opened = way.open(case, folder)
        getattr(opened, "ready", lambda _: None)(round_)
        opened(windows, out)

    time_round(serve, windows, out, timing)


def _checked(serve: Any, case: Case, folder: Path, out: Array) -> int:
    """Return how many windows fit into a round, after some have been seen to be what the raw file holds."""
    windows = case.windows(0)
    getattr(serve, "ready", lambda _: None)(0)
    expected = case.corpus.batch()
    for begin in range(0, min(len(windows), 4 * BATCH), BATCH):
        serve(windows[: begin + BATCH], out)
        getattr(serve, "ready", lambda _: None)(0)
        populated(case, folder)(windows[begin : begin + BATCH], expected)
        np.testing.assert_array_equal(out, expected)
    if hasattr(serve, "ready"):
        return len(windows)
    return affordable(serve, windows, out)


def _mapped(corpus: Corpus, folder: Path) -> Array:
    """Return [session, row, channel]."""
    with corpus.raw(folder).open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ)
    return np.frombuffer(content, dtype=corpus.dtype).reshape(corpus.sessions, corpus.rows, corpus.channels)


def main(settings: dict[str, Any]) -> list[Row]:
    """Return the rows of all cases."""
    folder = Path(settings["folder"])
    spikes, eeg = corpora(sessions=settings["sessions"], eeg_sessions=settings["eeg_sessions"])
    rows: list[Row] = []
    for case in cases(spikes, eeg, folder=folder):
        rows += measure(case, folder)
        print(f"{case.name}: done", file=sys.stderr)
    return rows


if __name__ == "__main__":
    print(printed(main(json.loads(sys.argv[1]))))
