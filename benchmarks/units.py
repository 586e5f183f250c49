"""What it costs to run units of work: ten thousand that do nothing, the sample's, and the same as stages of DVC.

`make bench-units` writes ``benchmarks/units.json``. Ten thousand units go through `run_units` in a process of its own,
so that its memory is theirs, on this machine's processes and on a real Slurm of two nodes that this starts (where there
is one); each leaves one empty output that is hashed for its receipt. The same in DVC is one stage per unit: 300 of a
matrix, whose command writes the same file. The sample's recordings are preprocessed by one worker and by two: once,
where importing libraries takes most of the time, and forty times over. Nothing is removed before the end: ext4 passes
slowly over inodes that have just been freed, which would slow down the next round.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurofm.recording import Modality
from neurofm.units import (
    ExecutorName,
    Outcome,
    ReceiptBook,
    Resources,
    SlurmSite,
    Unit,
    UnitsSite,
    open_executor,
    run_units,
    unit_key,
)
from tests.servers.slurm import SlurmCluster, missing_program

PROJECT = Path(__file__).resolve().parents[1]
RESULT = Path(__file__).with_name("units.json")
UNITS, STAGES, ROUNDS = 10_000, 300, 3
CORES = os.cpu_count() or 1
Row = dict[str, Any]


@dataclass(frozen=True)
class Nothing:
    """What a unit that does nothing is told."""

    output: Path


def do_nothing(task: Nothing) -> Outcome:
    """Leave an empty output."""
    task.output.touch()
    return Outcome()


def main() -> None:
    """Run all cases, print them and write them down."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-units-") as name:
        folder = Path(name)
        for executor in ExecutorName:
            if executor is ExecutorName.SLURM and (program := missing_program()):
                print(f"no cases on Slurm: there is no {program} (apt-get install slurm-wlm munge)", file=sys.stderr)
                continue
            where = "" if executor is ExecutorName.LOCAL else f" {executor}"
            for count in (UNITS, STAGES):
                case = f"{count} no-op units{where}"
                found = [_no_ops(folder / f"{case}-{number}", count, executor) for number in range(ROUNDS)]
                seconds, again, peak = (statistics.median(values) for values in zip(*found, strict=True))
                rows.append(_row(case, "neurofm", seconds, "s"))
                if count == UNITS:
                    rows.append(_row(f"{case}, memory", "neurofm", peak, "MB peak, all processes"))
                    rows.append(_row(f"{case}, each", "neurofm", 1000 * seconds / count, "ms"))
                    rows.append(_row(f"{case}, nothing left to do", "neurofm", again, "s"))
        rows.append(_row(f"{STAGES} no-op units", "dvc (matrix stages)", _dvc(folder / "dvc"), "s"))
        rows += _sample()
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['case']:<52}{row['who']:<22}{row['value']:>10.4g} {row['unit']}")


def _no_ops(folder: Path, count: int, executor: ExecutorName) -> tuple[float, float, float]:
    """Return seconds of a first and of a second run, and the peak memory in MB."""
    with _surroundings(executor) as environment:
        command = [sys.executable, "-m", "benchmarks.units", str(folder), str(count), executor.value]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        peak = _Peak(process.pid)
        told, _ = process.communicate()
        peak.stop()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    first, second = json.loads(told.splitlines()[-1])
    return first, second, peak.mb


@contextmanager
def _surroundings(executor: ExecutorName) -> Iterator[dict[str, str]]:
    """Give the environment in which units run; for Slurm, with a cluster of two nodes that share this machine."""
    paths = {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'src'}"}
    if executor is ExecutorName.LOCAL:
        yield os.environ | paths
        return
    with tempfile.TemporaryDirectory(prefix="bench-slurm-") as name:
        cluster = SlurmCluster(Path(name), nodes=2, cpus=max(1, CORES // 2))
        try:
            cluster.start()
            yield cluster.env | paths
        finally:
            cluster.stop()


class _Peak:
    """The most memory that a process, and all processes that work for it, have taken together (PSS)."""

    def __init__(self, pid: int) -> None:
        self.mb = 0.0
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        """End watching."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            self.mb = max(self.mb, sum(_pss(path) for path in Path("/proc").glob("[0-9]*") if self._is_ours(path)))

    def _is_ours(self, path: Path) -> bool:
        """Whether it is the process, a worker of it, or a task on the cluster."""
        try:
            command = (path / "cmdline").read_bytes()
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return False
        return int(path.name) == self._pid or parent == self._pid or b"submitit" in command


def _pss(path: Path) -> float:
    """Return a process's memory in MB, shared pages counted in parts."""
    try:
        lines = (path / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:"))


def run(folder: Path, count: int, name: ExecutorName) -> None:
    """Run `count` units twice in this process and print what it took."""
    (folder / "out").mkdir(parents=True)
    units = [
        Unit(
            id=f"unit-{number:05d}",
            key=unit_key(inputs={"number": str(number)}, params={}, code={}, libraries={}),
            outputs=(folder / "out" / f"{number:05d}",),
            payload=Nothing(output=folder / "out" / f"{number:05d}"),
        )
        for number in range(count)
    ]
    took = []
    running = folder / "running" / "bench"
    for expected in (count, 0):
        began = time.perf_counter()
        resources = {Modality.EEG: Resources(minutes=5.0, memory_gb=0.5)}
        site = UnitsSite(workers=CORES, executor=name, slurm=SlurmSite(at_once=CORES, resources=resources))
        executor = open_executor(do_nothing, site=site, modality=Modality.EEG, running=running)
        summary = run_units(
            units, executor=executor, book=ReceiptBook(folder / "receipts.jsonl", running=running), title="bench"
        )
        assert (summary.ran, summary.failed) == (expected, ())
        took.append(time.perf_counter() - began)
    print(json.dumps(took))


def _dvc(folder: Path) -> float:
    """Return the seconds in which DVC runs the same work as stages of a matrix."""
    folder.mkdir()
    numbers = "".join(f"\n        - '{number:05d}'" for number in range(STAGES))
    (folder / "dvc.yaml").write_text(
        "stages:\n  unit:\n    matrix:\n      number:" + numbers + "\n    cmd: touch out/${item.number}\n"
        "    outs:\n      - out/${item.number}\n"
    )
    (folder / "out").mkdir()
    environment = os.environ | {"DVC_NO_ANALYTICS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, check=True, cwd=folder, env=environment)
    began = time.perf_counter()
    subprocess.run(["dvc", "repro", "-q"], check=True, cwd=folder, env=environment)
    return time.perf_counter() - began


def _sample() -> list[Row]:
    """Preprocess the sample's recordings with one worker and with two, in turns, once and forty times over."""
    rows = []
    for times, case in ((1, "the sample's recordings"), (40, "the sample's recordings, 40 times over")):
        found: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(ROUNDS):
            for workers, seconds in found.items():
                command = [sys.executable, "-m", "benchmarks.sample", str(workers), str(times)]
                told = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
                seconds.append(json.loads(told))
        one, two = (statistics.median(seconds) for seconds in found.values())
        rows.append(_row(f"{case}, 1 worker", "neurofm", one, "s"))
        rows.append(_row(f"{case}, 2 workers", "neurofm", two, "s"))
        gain = _row(f"{case}, 2 workers over 1", "neurofm", one / two, "times as fast")
        rows.append(gain | {"higher_is_better": True})
    return rows


def _row(case: str, who: str, value: float, unit: str) -> Row:
    return {"case": case, "who": who, "value": round(value, 4), "unit": unit, "higher_is_better": False}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        import benchmarks.units as module  # by its name, so that what is pickled is found on a node

        module.run(Path(sys.argv[1]), int(sys.argv[2]), ExecutorName(sys.argv[3]))
    else:
        main()
