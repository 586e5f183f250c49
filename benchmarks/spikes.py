"""Counting spikes in bins: 3 million spikes of 300 units into 30 000 bins of 20 ms, beside what a user would write.

`make bench-spikes` writes ``benchmarks/spikes.json``. The trains are those of the real session A2929 (15 units): each
of the 300 units is one of them, shifted by its own whole number of bins and laid over itself within 600 s, until there
are 3 million spikes. Who is compared:

* ``neurofm``: `neurofm.preprocess.spikes.bin_counts`, which also says which counts passed 255;
* ``np.histogram``: per unit, on trains already parted by unit, to edges of the bins, which favours it;
* ``np.bincount``: one call on bin times unit, what stood here before, to 8 bits;
* ``numba``: one compiled loop over the spikes that adds to 8 bits and stops at 255; its compilation is not counted.

All but np.histogram round to nanoseconds, so their counts are equal, which is checked; np.histogram misplaces spikes on
an edge, how many is its own row. One thread, in turns, medians of the rounds, wall and CPU seconds. The measures of
units (rate, violations, contamination, presence, drift) have a row of their own.

Rows of ``benchmarks/nwb_ranges.py`` (reading units of a large NWB over HTTP) are added where it is there.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numba
import numpy as np
import numpy.typing as npt

from neurofm.preprocess._units import measure_units
from neurofm.preprocess.spikes import bin_counts
from neurofm.recording import Spikes

PROJECT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).with_name("spikes.json")
SHARED = Path(os.environ.get("NEUROFM_TEST_DATA", PROJECT.parent / "shared" / "data"))
SESSION = SHARED / "ephys" / "neurosuite_A2929-200711" / "A2929-200711.nwb"
SPIKES, UNITS, BINS, BIN_MS, SECONDS, ROUNDS = 3_000_000, 300, 30_000, 20, 600.0, 11
CASE = "bin 3M spikes"
RANGES = "benchmarks.nwb_ranges"
Row = dict[str, Any]
Counts = npt.NDArray[Any]


def main() -> None:
    """Run the case in a process of one thread, print the rows and write them down."""
    if not SESSION.is_file():
        raise SystemExit(f"error: there is no {SESSION}. Mend: set NEUROFM_TEST_DATA to the shared recordings")
    command = [sys.executable, "-m", "benchmarks.spikes", "measure"]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=variables)
    rows: list[Row] = json.loads(done.stdout.splitlines()[-1])
    if importlib.util.find_spec(RANGES) is not None:
        rows += importlib.import_module(RANGES).rows()
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['case']:<36}{row['who']:<42}{row['value']:>10.4g} {row['unit']}")


def measure() -> list[Row]:
    """Return the rows of counting, after all have been seen to agree."""
    spikes = _spikes()
    trains = [spikes.time_s[spikes.channel == unit] for unit in range(UNITS)]
    edges = np.arange(BINS + 1) * (BIN_MS / 1000)
    ways: dict[str, Callable[[], Counts]] = {
        "neurofm": lambda: bin_counts(spikes, n_units=UNITS, bin_ms=BIN_MS)[0],
        "np.histogram": lambda: np.stack([np.histogram(train, bins=edges)[0] for train in trains], axis=1),
        "np.bincount": lambda: _bincount(spikes),
        "numba": lambda: _numba(spikes),
    }
    counted = {who: way() for who, way in ways.items()}
    for who in ("np.bincount", "numba"):
        np.testing.assert_array_equal(counted[who], counted["neurofm"])
    misplaced = int(np.maximum(counted["np.histogram"] - counted["neurofm"].astype(np.int64), 0).sum())
    ways["neurofm, measures of units"] = lambda: np.array(list(_measures(spikes).values()))
    ways["neurofm, measures of units"]()
    wall: dict[str, list[float]] = {who: [] for who in ways}
    cpu: dict[str, list[float]] = {who: [] for who in ways}
    for _ in range(ROUNDS):
        for who, way in ways.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            way()
            wall[who].append(time.perf_counter() - began)
            cpu[who].append(time.process_time() - cpu_began)
    rows = [_row(CASE, who, statistics.median(times), "s") for who, times in wall.items()]
    rows += [_row(f"{CASE}, CPU", who, statistics.median(times), "s") for who, times in cpu.items()]
    return [*rows, _row(f"{CASE}, spikes misplaced", "np.histogram", misplaced, "spikes")]


def _spikes() -> Spikes:
    with h5py.File(SESSION) as file:
        times, last = file["units/spike_times"][:], file["units/spike_times_index"][:]
    # Whole microseconds, in which shifts and laps are exact. Sleep and wake, 600 s each, lie over each other.
    trains = [np.rint(train * 1e6).astype(np.int64) for train in np.split(times, last[:-1])]
    lap_us, bin_us = round(SECONDS * 1e6), BIN_MS * 1000
    parts, left, layer = [], SPIKES, 0
    while left > 0:
        for unit in range(UNITS):
            train = trains[unit % len(trains)]
            shifted = (train + (unit * 97 + layer * 7919) * bin_us) % lap_us
            parts.append(np.column_stack([shifted, np.full(len(train), unit)])[:left])
            left -= len(parts[-1])
        layer += 1
    both = np.concatenate(parts)
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    return Spikes(time_s=both[:, 0] / 1e6, channel=np.ascontiguousarray(both[:, 1]), start_s=0.0, stop_s=SECONDS)


def _measures(spikes: Spikes) -> dict[str, npt.NDArray[np.float64]]:
    return measure_units(spikes, n_units=UNITS, isi_violation_ms=1.5, presence_block_s=60.0)


def _bincount(spikes: Spikes) -> Counts:
    index = np.rint(spikes.time_s * 1e9).astype(np.int64) // (BIN_MS * 1_000_000)
    inside = (index >= 0) & (index < BINS)
    flat = np.bincount(index[inside] * UNITS + spikes.channel[inside], minlength=BINS * UNITS)
    return np.minimum(flat.reshape(BINS, UNITS), 255).astype(np.uint8)


def _numba(spikes: Spikes) -> Counts:
    counts = np.zeros((BINS, UNITS), dtype=np.uint8)
    _add(spikes.time_s, spikes.channel, counts, BIN_MS * 1_000_000)
    return counts


@numba.njit
def _add(time_s: Any, unit: Any, counts: Any, bin_ns: int) -> None:
    for spike in range(len(time_s)):
        row = np.int64(np.rint(time_s[spike] * 1e9)) // bin_ns
        if 0 <= row < len(counts) and counts[row, unit[spike]] < 255:
            counts[row, unit[spike]] += 1


def _row(case: str, who: str, value: float, unit: str) -> Row:
    return {"case": case, "who": who, "value": float(f"{value:.4g}"), "unit": unit, "higher_is_better": False}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure()))
    else:
        main()
