"""What a pool costs beside its windows, opening many shards, and the project's own shards.

``python -m benchmarks.loader_extras SETTINGS`` prints JSON rows.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import ZipStore

from benchmarks.loader_pool import longest_stall, parts, resident_set
from benchmarks.loader_windows import BATCH, Array, Row, Windows, affordable, cases, corpora, one_by_one, printed, row
from neurofm.shards.packed import PackedArray, PackedShard

SHARDS, ROUNDS, WINDOWS = 10_000, 5, 6_400
WINDOW_ROWS = 100
_SMALL = "sub-NAP_001_task-rest.zarr.zip"


def opening(shards: Path) -> list[Row]:
    """Return what it takes to open many small shards and find their signal, and the memory that they hold."""
    found = sorted(shards.rglob(_SMALL))
    if not found:
        return []
    with tempfile.TemporaryDirectory(prefix="bench-loader-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        one = folder / "one.zarr.zip"
        shutil.copyfile(found[0], one)
        paths = [folder / f"{number:05d}.zarr.zip" for number in range(SHARDS)]
        for path in paths:
            path.hardlink_to(one)
        before, began, cpu_began = _memory_mb(), time.perf_counter(), time.process_time()
        opened = [PackedShard(path).array("signal") for path in paths]
        wall, cpu, grown = time.perf_counter() - began, time.process_time() - cpu_began, _memory_mb() - before
        assert len(opened) == SHARDS
    case = f"opening {SHARDS:,} shards".replace(",", " ")
    return [
        row(case, "neurofm", wall, "s", higher_is_better=False),
        row(f"{case}, CPU", "neurofm", cpu, "s", higher_is_better=False),
        row(f"{case}, memory", "neurofm", grown, "MB", higher_is_better=False),
    ]


def sample(shards: Path) -> list[Row]:
    """Return windows of 100 rows, all channels, from the project's shards; decoded in memory is the limit."""
    arrays: list[PackedArray] = []
    values: list[Array] = []
    zarrs: list[Any] = []
    for path in sorted(shards.rglob("*.zarr.zip")):
        array = PackedShard(path).array("signal")
        if array.shape[0] > WINDOW_ROWS:
            arrays.append(array)
            values.append(array.read(0, array.shape[0]))
            zarrs.append(zarr.open_group(ZipStore(path, mode="r"), mode="r")["signal"])
    if not arrays:
        return []
    random = np.random.default_rng(0)
    rows = np.array([len(one) for one in values])
    chosen = random.choice(len(rows), size=WINDOWS, p=rows / rows.sum())
    windows = np.column_stack([chosen, random.integers(rows[chosen] - WINDOW_ROWS + 1)])
    # Recordings have their own numbers of channels and types: a batch is one buffer for each of them.
    batches = [np.zeros((WINDOW_ROWS, *one.shape[1:]), dtype=one.dtype) for one in values]

    def decoded(one: int, first: int) -> None:
        batches[one][...] = values[one][first : first + WINDOW_ROWS]

    def packed(one: int, first: int) -> None:
        arrays[one].read(first, first + WINDOW_ROWS, out=batches[one])

    def plain(one: int, first: int) -> None:
        batches[one][...] = zarrs[one][first : first + WINDOW_ROWS]

    found = []
    ways = {"decoded in memory": decoded, "neurofm, no pool": packed, "zarr": plain}
    for who, read in ways.items():
        for one, first in windows[:200].tolist():
            read(one, first)
            np.testing.assert_array_equal(batches[one], values[one][first : first + WINDOW_ROWS])
        value = _rate(read, windows)
        found.append(row("sample shards, windows of 100 rows", who, value, "windows/CPU-s"))
    return found


def _rate(read: Callable[[int, int], None], windows: Windows) -> float:
    """Windows per CPU-second."""

    def read_into(one: int, first: int, _: Array) -> None:
        read(one, first)

    serve, places = one_by_one(read_into), np.zeros((BATCH, 1))
    count = affordable(serve, windows, places)
    rates = []
    for _ in range(ROUNDS):
        began = time.process_time()
        serve(windows[:count], places)
        rates.append(count / (time.process_time() - began))
    return statistics.median(rates)


def _memory_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024 / 1e6


def main(settings: dict[str, Any]) -> list[Row]:
    """Return all rows."""
    folder, shards = Path(settings["folder"]), Path(settings["shards"])
    both = corpora(sessions=settings["sessions"], eeg_sessions=settings["eeg_sessions"])
    every = cases(*both, folder=folder)
    warm = {case.corpus.name: case for case in reversed(every) if not case.cold and not case.fresh}
    rows = opening(shards) + sample(shards)
    for case in warm.values():
        rows += resident_set(case, folder) + parts(case, folder, rounds=ROUNDS)
    return rows + longest_stall(warm["spikes"], folder, seconds=settings["stall_seconds"])


if __name__ == "__main__":
    print(printed(main(json.loads(sys.argv[1]))))
