"""Windows per CPU-second of everything that could feed training, side by side: ``make bench-loader``.

All read the same windows of the same recordings (`benchmarks.loader_data`: 200 sessions x 30 000 x 300 counts, 30
recordings x 120 000 x 128 of EEG, real statistics), in the order in which a resident pool that uses each decoded byte K
times would hand them out, into one batch of 64. What a row means, and this machine's figures, is in ``docs/loader.md``.
Writes ``benchmarks/loader.json``.

Each library is a process of its own with one thread, in an environment of its own where the project has not got it.
What it stores is removed after it was read. A library that cannot be installed or fails is printed with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import loader_data
from benchmarks.loader_environments import NoEnvironment, python_of
from benchmarks.loader_pool import write_windows
from benchmarks.loader_windows import ROUNDS, Corpus, Row, cases, corpora, row

PROJECT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).with_name("loader.json")
FOLDER = PROJECT / ".neurofm" / "bench-loader"
STORES: tuple[tuple[tuple[str, str | None], ...], ...] = (
    # The first of a line stores, all of it read.
    (("tensorstore", "tensorstore"), ("zarr", None), ("zarr+zarrs", "zarrs")),
    (("h5py, contiguous", None), ("h5py, lzf", None)),
    (("torch_brain (temporaldata)", "temporaldata"),),
    (("litdata, fixed windows", "litdata"),),
    (("MosaicML, fixed windows", "mosaicml"),),
    (("webdataset, fixed windows", "webdataset"),),
)
"""Peers (who, environment) by what they store."""
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")


class Failed(Exception):
    """A process of the benchmark ended badly; the text is the last line that it wrote."""


def main() -> None:
    """Make the data where it is not there, run all, print the table and write it down."""
    options = _options()
    options.folder = options.folder.resolve()
    spikes, eeg = corpora(sessions=options.sessions, eeg_sessions=options.eeg_sessions)
    for corpus in (spikes, eeg):
        _prepare(corpus, options.folder)
    settings = {
        "folder": str(options.folder),
        "sessions": options.sessions,
        "eeg_sessions": options.eeg_sessions,
        "shards": str(options.shards),
        "stall_seconds": options.stall_seconds,
    }
    rows = [
        row(f"{corpus.name}, compression", "neurofm's shards", loader_data.ratio(corpus, options.folder), "times")
        for corpus in (spikes, eeg)
    ]
    for case in cases(spikes, eeg, folder=options.folder):
        write_windows(case, rounds=ROUNDS)
    missing: list[str] = []
    for module in ("loader_ours", "loader_extras", *(["loader_codecs"] if options.codecs else [])):
        rows += _timed(module, lambda module=module: _run(Path(sys.executable), module, settings))
    if options.peers:
        for store in STORES:
            rows += _timed(store[0][0], lambda store=store: _peers(store, settings, options.folder, missing))
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    for one in rows:
        print(f"{one['case']:<40}{one['who']:<44}{one['value']:>10.4g} {one['unit']}")
    for line in missing:
        print(line)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where recordings and environments are made")
    parser.add_argument("--shards", type=Path, default=PROJECT / "data" / "shards", help="real shards, read only")
    parser.add_argument("--sessions", type=int, default=200, help="of spikes; 20 make a quick run")
    parser.add_argument("--eeg-sessions", type=int, default=30, help="of EEG; 4 make a quick run")
    parser.add_argument("--stall-seconds", type=float, default=60.0, help="how long 5 000 windows/s are served")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="ours and memmaps only")
    parser.add_argument("--no-codecs", dest="codecs", action="store_false", help="without the table of codecs")
    return parser.parse_args()


def _prepare(corpus: Corpus, folder: Path) -> None:
    if loader_data.made(corpus, folder):
        return
    size_gb = corpus.sessions * corpus.session_bytes / 1e9
    print(f"making {corpus.sessions} recordings of {corpus.name}: {size_gb:.1f} GB and their shards", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    free_gb = shutil.disk_usage(folder).free / 1e9
    # Its shards, and what one peer stores of it at a time.
    if free_gb < 4 * size_gb:
        raise SystemExit(
            f"error: {folder}: {free_gb:.1f} GB free of {4 * size_gb:.1f}. Mend: give --folder or --sessions"
        )
    loader_data.make(corpus, folder)


def _peers(
    store: tuple[tuple[str, str | None], ...], settings: dict[str, Any], folder: Path, missing: list[str]
) -> list[Row]:
    """Return the rows of the peers that read one store; each corpus is stored, read and removed."""
    rows: list[Row] = []
    for corpus in ("spikes", "eeg"):
        stored = folder / "stored"
        given = settings | {"corpus": corpus, "stored": str(stored)}
        for number, (who, environment) in enumerate(store):
            try:
                python = python_of(environment, folder=folder / "envs")
                if number == 0:
                    _run(python, "loader_peers", given | {"who": who, "make": True})
                rows += _run(python, "loader_peers", given | {"who": who, "make": False})
            except (NoEnvironment, Failed) as why:
                missing.append(f"{who}, {corpus}: left out, {why}")
                print(missing[-1], file=sys.stderr)
        shutil.rmtree(stored, ignore_errors=True)
    return rows


def _run(python: Path, module: str, settings: dict[str, Any]) -> list[Row]:
    """Return the rows that a module prints last."""
    command = [str(python), "-m", f"benchmarks.{module}", json.dumps(settings)]
    variables = os.environ | dict.fromkeys(_THREADS, "1") | {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'src'}"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=variables, cwd=PROJECT)
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    rows: list[Row] = json.loads(done.stdout.splitlines()[-1])
    return rows


def _timed(what: str, work: Any) -> list[Row]:
    began = time.perf_counter()
    rows: list[Row] = work()
    print(f"{what}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    return rows


if __name__ == "__main__":
    main()
