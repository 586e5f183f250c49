"""What it costs to run units of work: ten thousand that do nothing, and the same work as stages of DVC.

`make bench-units` writes ``benchmarks/units.json``. Ten thousand units go through `run_units` in a process of its own,
so that its memory is theirs; each leaves one empty output that is hashed for its receipt. The same in DVC is one stage
per unit: 300 of a matrix, whose command writes the same file.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurofm.units import LocalExecutor, Outcome, ReceiptBook, Unit, run_units, unit_key

RESULT = Path(__file__).with_name("units.json")
UNITS, STAGES, ROUNDS = 10_000, 300, 3
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
        for case, count in ((f"{UNITS} no-op units", UNITS), (f"{STAGES} units", STAGES)):
            found = [_in_a_process(folder / f"{case}-{number}", count) for number in range(ROUNDS)]
            seconds, again, peak = (statistics.median(values) for values in zip(*found, strict=True))
            rows.append(_row(case, "neurofm", seconds, "s"))
            if count == UNITS:
                rows.append(_row(f"{case}, memory", "neurofm", peak, "MB peak RSS, workers included"))
                rows.append(_row(f"{case}, each", "neurofm", 1000 * seconds / count, "ms"))
                rows.append(_row(f"{case}, nothing left to do", "neurofm", again, "s"))
        rows.append(_row(f"{STAGES} units", "dvc (matrix stages)", _dvc(folder / "dvc"), "s"))
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    for row in rows:
        print(f"{row['case']:<40}{row['who']:<22}{row['value']:>10.4g} {row['unit']}")


def _in_a_process(folder: Path, count: int) -> tuple[float, float, float]:
    """Return seconds of a first and of a second run, and the peak memory."""
    command = [sys.executable, "-m", "benchmarks.units", str(folder), str(count)]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    shutil.rmtree(folder)
    first, second, peak = json.loads(told)
    return first, second, peak


def run(folder: Path, count: int) -> None:
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
    for expected in (count, 0):
        began = time.perf_counter()
        executor: LocalExecutor[Nothing] = LocalExecutor(do_nothing, workers=os.cpu_count() or 1)
        book = ReceiptBook(folder / "receipts.jsonl", running=folder / "running")
        summary = run_units(units, executor=executor, book=book, title="bench")
        assert (summary.ran, summary.failed) == (expected, ())
        took.append(time.perf_counter() - began)
    # The largest worker counts as often as there are workers: an upper bound.
    own, workers = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps([*took, (own + (os.cpu_count() or 1) * workers) * 1024 / 1e6]))


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


def _row(case: str, who: str, value: float, unit: str) -> Row:
    return {"case": case, "who": who, "value": round(value, 4), "unit": unit, "higher_is_better": False}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
