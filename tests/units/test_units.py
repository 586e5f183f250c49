"""Units are run once, again only when something changed, and one that fails or dies costs only itself."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from neurofm.recording import UnitStatus, Unreadable
from neurofm.units import (
    LocalExecutor,
    Outcome,
    Receipt,
    ReceiptBook,
    Unit,
    UnitSummary,
    code_digest,
    read_receipts,
    run_units,
    unit_key,
)
from neurofm.units import key as key_module
from neurofm.units.memory import Room, free_memory_mb


@dataclass(frozen=True)
class Job:
    """What the working function below is told."""

    output: Path
    text: str
    log: Path


def work(job: Job) -> Outcome:
    with job.log.open("a") as log:
        log.write(f"{job.output.name}\n")
    if job.text == "damaged":
        raise Unreadable(f"{job.output.name}: damaged")
    if job.text == "bug":
        raise ZeroDivisionError("division")
    if job.text == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if job.text == "neighbour":
        marker = job.log.with_name(f"at-work-{job.output.name}")
        marker.touch()
        time.sleep(0.3)
        marker.unlink()
    if job.text == "hungry":
        _die_unless_tried_before(job)
    if job.text == "orphan":
        job.log.with_name("orphan").write_text(str(os.getpid()))
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)
    if job.text == "killed":
        job.output.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    job.output.write_text(job.text)
    return Outcome(facts={"length": len(job.text)})


def _die_unless_tried_before(job: Job) -> None:
    """Die as the kernel has it when memory is short; the second time, write down who is at work too."""
    beside = job.log.with_name("beside")
    if not beside.exists():
        beside.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    beside.write_text(" ".join(path.name for path in job.log.parent.glob("at-work-*")))


@dataclass
class Stage:
    """A stage in a folder of its own."""

    folder: Path

    def run(self, texts: dict[str, str], *, workers: int = 2) -> UnitSummary:
        (self.folder / "out").mkdir(exist_ok=True)
        units = [
            Unit(
                id=name,
                key=unit_key(inputs={"text": text}, params={}, code={}, libraries={}),
                inputs={"text": f"sha256:{name}"},
                outputs=(self.folder / "out" / name,),
                payload=Job(output=self.folder / "out" / name, text=text, log=self.folder / "log"),
                missing="not downloaded" if text == "missing" else "",
            )
            for name, text in texts.items()
        ]
        executor: LocalExecutor[Job] = LocalExecutor(work, workers=workers)
        return run_units(
            units,
            executor=executor,
            book=ReceiptBook(self.folder / "receipts.jsonl", running=self.folder / "running"),
            title="test",
        )

    def ran(self) -> list[str]:
        """Names worked on since the last call."""
        log = self.folder / "log"
        names = sorted(log.read_text().split()) if log.exists() else []
        log.unlink(missing_ok=True)
        return names


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_only_what_changed_runs_again(stage: Stage) -> None:
    stage.run({"a": "one", "b": "two", "c": "three"})
    assert stage.ran() == ["a", "b", "c"]
    assert stage.run({"a": "one", "b": "two", "c": "three"}).ran == 0
    assert stage.ran() == []
    stage.run({"a": "one", "b": "TWO", "c": "three"})
    assert stage.ran() == ["b"]


def test_deleted_and_changed_outputs_are_built_again(stage: Stage) -> None:
    texts = {"a": "one", "b": "two", "c": "three"}
    stage.run(texts)
    stage.ran()
    (stage.folder / "out" / "a").unlink()
    (stage.folder / "out" / "b").write_text("twp")
    stage.run(texts)
    assert stage.ran() == ["a", "b"]
    assert (stage.folder / "out" / "b").read_text() == "two"


@pytest.mark.parametrize(("text", "reason"), [("damaged", "a: damaged"), ("bug", "ZeroDivisionError: division")])
def test_a_failure_costs_only_itself_and_is_tried_again(stage: Stage, text: str, reason: str) -> None:
    summary = stage.run({"a": text, "b": "two"})
    assert summary.failed == ("a",)
    assert summary.reasons == {"a": reason}
    assert summary.statuses["b"] is UnitStatus.SUCCEEDED
    assert stage.ran() == ["a", "b"]
    stage.run({"a": text, "b": "two"})
    assert stage.ran() == ["a"]


def test_a_killed_worker_costs_only_its_unit(stage: Stage) -> None:
    texts = {"a": "one", "b": "killed", "c": "three", "d": "four"}
    summary = stage.run(texts)
    assert summary.failed == ("b",)
    assert summary.statuses["b"] is UnitStatus.INCOMPLETE
    assert not (stage.folder / "out" / "b").exists()
    assert {(stage.folder / "out" / name).read_text() for name in "acd"} == {"one", "three", "four"}


def test_who_was_killed_is_tried_again_alone(stage: Stage) -> None:
    neighbours = {f"n{number}": "neighbour" for number in range(4)}
    summary = stage.run({"a": "hungry", **neighbours}, workers=3)
    assert not summary.failed
    assert not (stage.folder / "beside").read_text()
    assert stage.ran() == ["a", "a", *neighbours]


def test_workers_do_not_outlive_a_stage_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    script = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent)]!r}
from pathlib import Path
from test_units import Stage
if __name__ == "__main__":
    Stage(Path({str(tmp_path)!r})).run({{"a": "orphan"}})
"""
    (tmp_path / "stage.py").write_text(script)
    done = subprocess.run([sys.executable, tmp_path / "stage.py"], check=False)
    assert done.returncode == -signal.SIGKILL
    worker = int((tmp_path / "orphan").read_text())
    deadline = time.monotonic() + 30
    while _is_alive(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _is_alive(worker)


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_the_machine_lacked_is_not_the_recordings_fault(stage: Stage) -> None:
    summary = stage.run({"a": "full", "b": "two"})
    assert summary.statuses["a"] is UnitStatus.INCOMPLETE
    assert "No space left" in summary.reasons["a"]


def test_missing_input_is_unavailable_and_leaves_no_old_result(stage: Stage) -> None:
    stage.run({"a": "one"})
    summary = stage.run({"a": "missing"})
    assert summary.statuses["a"] is UnitStatus.UNAVAILABLE
    assert (summary.ran, summary.whole) == (0, 0)
    assert not (stage.folder / "out" / "a").exists()


def test_interrupted_stage_goes_on_from_its_running_receipts(stage: Stage) -> None:
    stage.run({"a": "one", "b": "two"})
    stage.ran()
    # As if the stage had been killed before it gathered: receipts lie in a journal, the last half-written.
    receipts = read_receipts(stage.folder / "receipts.jsonl")
    (stage.folder / "receipts.jsonl").unlink()
    (stage.folder / "running").mkdir(exist_ok=True)
    (stage.folder / "running" / "000001.jsonl").write_text(
        f"{receipts['a'].model_dump_json()}\n{receipts['b'].model_dump_json()[:40]}"
    )
    stage.run({"a": "one", "b": "two"})
    assert stage.ran() == ["b"]
    assert not list((stage.folder / "running").iterdir())


def test_of_two_journals_the_later_one_counts(stage: Stage) -> None:
    stage.run({"a": "one"})
    stage.ran()
    good = (stage.folder / "receipts.jsonl").read_text()
    (stage.folder / "receipts.jsonl").unlink()
    bad = read_receipts_of(good)["a"].model_copy(update={"status": UnitStatus.FAILED}).model_dump_json()
    # Written in the other order, as clocks of two hosts may have it.
    (stage.folder / "running" / "000010.jsonl").write_text(good)
    (stage.folder / "running" / "000009.jsonl").write_text(f"{bad}\n")
    assert stage.run({"a": "one"}).ran == 0
    assert not list((stage.folder / "running").iterdir())


def read_receipts_of(text: str) -> dict[str, Receipt]:
    return {receipt.unit: receipt for receipt in map(Receipt.model_validate_json, text.splitlines())}


def test_a_second_run_waits_says_for_whom_and_repeats_nothing(stage: Stage) -> None:
    texts = {f"n{number}": "neighbour" for number in range(4)}
    script = stage.folder / "second.py"
    script.write_text(
        f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent)]!r}
from pathlib import Path
from test_units import Stage
if __name__ == "__main__":
    print(Stage(Path({str(stage.folder)!r})).run({texts!r}).ran)
"""
    )
    command = [sys.executable, str(script)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in both]
    assert sorted(int(out) for out, _ in told) == [0, 4]
    assert stage.ran() == sorted(texts)
    waiting = " ".join(error for _, error in told)
    assert "running: its units are run by process" in waiting
    assert f"process {both[0].pid} on" in waiting or f"process {both[1].pid} on" in waiting


@pytest.mark.parametrize(("peak_mb", "fit"), [(0.0, 4), (100.0, 2), (1000.0, 1)])
def test_no_more_at_once_than_the_memory_holds(peak_mb: float, fit: int) -> None:
    room = Room(4, memory_mb=250.0)
    room.learn(peak_mb)
    together = threading.Barrier(fit)  # broken, and so an error, if fewer than fit are ever inside
    inside: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    def unit(_number: int) -> None:
        with room.entered():
            with lock:
                inside.append(1)
                most.append(len(inside))
            together.wait(timeout=30)
            with lock:
                inside.pop()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(unit, range(8)))
    assert max(most) == fit


def test_free_memory_is_what_a_container_allows(tmp_path: Path) -> None:
    meminfo, cgroup = tmp_path / "meminfo", tmp_path / "cgroup"
    cgroup.mkdir()
    meminfo.write_text("MemTotal: 8192 kB\nMemAvailable:    4096 kB\nHugePages_Total:       0\n")
    assert free_memory_mb(meminfo=meminfo, cgroup=cgroup) == 4.0
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text(f"{1 << 20}\n")
    assert free_memory_mb(meminfo=meminfo, cgroup=cgroup) == 4.0
    (cgroup / "memory.max").write_text(f"{3 << 20}\n")
    assert free_memory_mb(meminfo=meminfo, cgroup=cgroup) == 2.0
    assert 0 < free_memory_mb() < float("inf")


def test_receipts_keep_cost_apart_from_results(stage: Stage) -> None:
    stage.run({"a": "one"})
    line = json.loads((stage.folder / "receipts.jsonl").read_text())
    assert line["facts"] == {"length": 3}
    assert line["inputs"] == {"text": "sha256:a"}
    assert set(line["cost"]) == {"seconds", "cpu_s", "peak_mb", "host", "container", "processor"}
    assert line["cost"]["container"] == "", "it ran in none"
    assert line["log"] == ""


def test_key_changes_with_each_ingredient() -> None:
    base = {"inputs": {"a": "1"}, "params": {"x": 1}, "code": {"m": "1"}, "libraries": {"n": "1"}}
    keys = {unit_key(**base)}  # type: ignore[arg-type]
    for name in base:
        keys.add(unit_key(**(base | {name: {"changed": "2"}})))  # type: ignore[arg-type]
    keys.add(unit_key(**base, container="sha256:1"))  # type: ignore[arg-type]
    assert len(keys) == len(base) + 2


def test_code_digest_sees_code_and_not_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "codepackage"
    package.mkdir()
    (package / "__init__.py").touch()
    helper, step = package / "helper.py", package / "step.py"
    helper.write_text("def half(x):\n    return x / 2\n")
    step.write_text('"""Doc."""\nfrom codepackage.helper import half\n\ndef run(x):\n    return half(x)\n')
    monkeypatch.syspath_prepend(tmp_path)
    before = code_digest("codepackage.step")
    step.write_text(
        '"""Other."""\nfrom codepackage.helper import half\n\n'
        '# why\ndef run(x):\n    """Halve."""\n    return half(x)\n'
    )
    assert code_digest("codepackage.step") == before
    helper.write_text("def half(x):\n    return x / 3\n")
    assert code_digest("codepackage.step") != before


def test_code_digest_follows_into_the_rooms_that_decide_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = tmp_path / "onestep.py"
    step.write_text("from neurofm.parcels import load_atlas\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = code_digest("onestep")
    left = tuple(room for room in key_module._DECIDING if room != "neurofm.parcels")
    monkeypatch.setattr(key_module, "_DECIDING", left)
    assert code_digest("onestep") != before
