"""Training speed of neurofm's network beside BrainLM's and POYO's, at equal parameters: ``make bench-train``.

All learn from the same real windows (`benchmarks.train_data`) with the same channels hidden, optimiser, precision and
number of windows in a step; what a row means, and this machine's figures, is in ``docs/training-speed.md``. Writes
``benchmarks/train.json``.

    python -m benchmarks.train [--device cpu|cuda] [--size tiny] [--size 111M] [--seconds 10] [--windows 64] [--scaling]

Each network is a process of its own with one thread, POYO in an environment of its own. A network that cannot be
installed or fails is printed with its reason.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import train_data
from benchmarks.loader_environments import NoEnvironment, python_of
from benchmarks.loader_windows import Row, row
from benchmarks.train_windows import Settings

PROJECT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).with_name("train.json")
FOLDER = PROJECT / ".neurofm" / "bench-train"
WINDOWS = {("cpu", "tiny"): 4, ("cpu", "111M"): 1, ("cuda", "tiny"): 64, ("cuda", "111M"): 16}
"""In a step, the same for all networks; a single one of 111 M is half a minute's work of a core for BrainLM."""
SCALING = "train_scaling"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Failed(Exception):
    """A process of the benchmark ended badly; the text is the last line that it wrote."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One process of the benchmark."""

    who: str
    modality: str
    module: str = "train_ours"
    environment: str | None = None
    sizes: tuple[str, ...] = ("tiny", "111M")
    compiled: bool = False


ENTRIES = (
    Entry(who="neurofm", modality="fmri"),
    Entry(who="neurofm, all targets", modality="fmri", sizes=("tiny",)),
    Entry(who="brainlm", modality="fmri"),
    Entry(who="brainlm, as an image", modality="fmri"),
    Entry(who="neurofm", modality="spikes"),
    Entry(who="neurofm, 64 visible", modality="spikes", sizes=("tiny",)),
    Entry(who="POYO", modality="spikes", module="train_poyo", environment="torch_brain"),
    Entry(who="neurofm", modality="spikes", module=SCALING, sizes=("tiny",)),
    Entry(who="neurofm", modality="fmri", sizes=("tiny",), compiled=True),
)


def main() -> None:
    """Make the windows where they are not there, train, print the table and write it down."""
    options = _options()
    folder = options.folder.resolve()
    train_data.make(folder, shards=options.shards)
    rows: list[Row] = []
    found: list[Row] = []
    entries = [one for one in ENTRIES if one.module == SCALING or not options.scaling]
    written = json.loads(RESULT.read_text()) if options.scaling and RESULT.is_file() else []
    kept = [one for one in written if not one["case"].startswith("scaling")]
    for size in options.size or ["111M", "tiny"]:
        for entry in entries:
            if size not in entry.sizes:
                continue
            settings = {
                "who": entry.who,
                "modality": entry.modality,
                "size": size,
                "compiled": entry.compiled,
                "device": options.device,
                "seconds": options.seconds,
                "windows": options.windows or WINDOWS[options.device, size],
                "folder": str(folder),
            }
            began = time.perf_counter()
            try:
                rows += _run(entry, settings, environments=folder / "envs")
            except (NoEnvironment, Failed) as why:
                print(f"{entry.who}, {size}, {entry.modality}: left out, {why}", file=sys.stderr)
            print(f"{entry.who}, {size}, {entry.modality}: {time.perf_counter() - began:.0f} s", file=sys.stderr)
            # After each, since the whole takes minutes.
            found = [one | {"device": options.device} for one in rows + _ratios(rows)]
            found = sorted(kept + found, key=lambda one: one["case"])
            RESULT.write_text(json.dumps(found, indent=1) + "\n")
    for one in found:
        print(f"{one['case']:<68}{one['who']:<22}{one['value']:>12.4g} {one['unit']}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", choices=("tiny", "111M"), action="append", help="both unless given")
    parser.add_argument("--seconds", type=float, default=10.0, help="of steps per network; one step at least")
    parser.add_argument("--windows", type=int, help="in a step; more fill a GPU, until BrainLM needs too much memory")
    parser.add_argument("--scaling", action="store_true", help="measure that of processes alone; other rows stay")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where windows and environments are made")
    parser.add_argument("--shards", type=Path, default=PROJECT / "data" / "shards", help="real shards, read only")
    return parser.parse_args()


def _ratios(rows: list[Row]) -> list[Row]:
    """Return how many times more windows a second neurofm trains on than the other network of a case."""
    return [
        row(f"{ours['case']}, over {other['who']}", ours["who"], ours["value"] / other["value"], "times")
        for ours in rows
        for other in rows
        if ours["case"] == other["case"]
        and ours["case"].startswith("windows/s")
        and ours["who"].startswith("neurofm")
        and not other["who"].startswith("neurofm")
    ]


def _run(entry: Entry, settings: Settings, *, environments: Path) -> list[Row]:
    """Return the rows that a module prints last."""
    command = [str(python_of(entry.environment, folder=environments)), "-m", f"benchmarks.{entry.module}"]
    variables = os.environ | dict.fromkeys(_THREADS, "1") | {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'src'}"}
    # What was compiled in an earlier run would make compiling look cheap.
    with tempfile.TemporaryDirectory() as cache:
        variables |= {"TORCHINDUCTOR_CACHE_DIR": cache}
        done = subprocess.run(
            [*command, json.dumps(settings)], check=False, capture_output=True, text=True, env=variables, cwd=PROJECT
        )
    if done.returncode:
        raise Failed((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    sys.stderr.write(done.stderr)
    rows: list[Row] = json.loads(done.stdout.splitlines()[-1])
    return rows


if __name__ == "__main__":
    main()
