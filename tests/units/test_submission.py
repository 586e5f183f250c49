"""What lies on the shared disk of an array of jobs, and what is read from it; no cluster is needed for these."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from neurofm.errors import UserError
from neurofm.recording import UnitStatus
from neurofm.units import LocalExecutor, Outcome, Receipt, ReceiptBook, Unit
from neurofm.units.slurm_queue import require_slurm
from neurofm.units.slurm_task import SlurmTask
from neurofm.units.submission import Submission, remove_closed


class Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def work(path: Path) -> Outcome:
    path.write_text("done")
    return Outcome()


def units(folder: Path, count: int = 4) -> list[Unit[Path]]:
    return [
        Unit(id=f"u{number}", key=f"k{number}", outputs=(folder / f"u{number}",), payload=folder / f"u{number}")
        for number in range(count)
    ]


def receipt(unit: str, status: UnitStatus = UnitStatus.SUCCEEDED) -> Receipt:
    return Receipt(unit=unit, key="k", status=status)


@pytest.fixture
def running(tmp_path: Path) -> Path:
    """``.neurofm/receipts/<dataset>``."""
    return tmp_path / "receipts" / "rest"


@pytest.fixture
def submission(running: Path, tmp_path: Path) -> Submission:
    four = units(tmp_path)
    return Submission.write(running / "slurm", [four[:2], four[2:]], memory_gb=1.0)


def test_a_task_gets_the_units_that_were_written_down(submission: Submission, tmp_path: Path) -> None:
    plan = submission.plan
    assert [list(task.units.items()) for task in plan.tasks] == [
        [("u0", "k0"), ("u1", "k1")],
        [("u2", "k2"), ("u3", "k3")],
    ]
    assert submission.units(1, digest=plan.tasks[1].digest) == units(tmp_path)[2:]
    assert submission.name == f"neurofm-rest-{submission.folder.name}"


def test_another_list_is_refused_before_it_is_unpickled(submission: Submission, tmp_path: Path) -> None:
    listed = submission.folder / "units" / "0000.pkl"
    listed.chmod(0o644)
    listed.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(ValueError, match="is not the list that was submitted"):
        submission.units(0, digest=submission.plan.tasks[0].digest)
    assert not (tmp_path / "sprung").exists()


def task(submission: Submission, index: int) -> SlurmTask[Path]:
    return SlurmTask(work, submission=submission, index=index, digest=submission.plan.tasks[index].digest, minutes=1.0)


def test_a_task_runs_what_has_no_receipt_yet(
    submission: Submission, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission.journal(0, 0).write_text(f"{receipt('u0').model_dump_json()}\n")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    task(submission, 0)()
    assert not (tmp_path / "u0").exists()
    assert (tmp_path / "u1").read_text() == "done"
    assert set(submission.receipts(0)) == {"u0", "u1"}
    assert [path.name for _, path, _ in submission.journals()] == ["0000-000.jsonl", "0000-001.jsonl"]


def test_a_revoked_task_begins_nothing(submission: Submission, tmp_path: Path) -> None:
    submission.revoke([0])
    task(submission, 0)()
    assert not (tmp_path / "u0").exists()
    task(submission, 1)()
    assert (tmp_path / "u2").exists()


def test_one_without_a_whole_plan_was_never_submitted(submission: Submission, running: Path) -> None:
    assert Submission.all_open(running / "slurm") == [submission]
    (submission.folder / "plan.json").write_text('{"memory_gb": 1.0, "tasks": [')
    assert Submission.all_open(running / "slurm") == []


def test_receipts_of_tasks_count_and_are_gathered_when_they_have_ended(
    submission: Submission, running: Path, tmp_path: Path
) -> None:
    submission.journal(0, 0).write_text(f"{receipt('u0').model_dump_json()}\n{receipt('u1').model_dump_json()[:30]}")
    book = ReceiptBook(tmp_path / "receipts.jsonl", running=running)
    assert set(book.known) == {"u0"}
    book.gather(book.known.values())
    assert submission.receipts(0), "a task that may still be at work keeps its journal"
    submission.close()
    remove_closed(running / "slurm")
    assert submission.folder.exists()
    book.gather(book.known.values())
    remove_closed(running / "slurm")
    assert not submission.folder.exists()
    assert set(ReceiptBook(tmp_path / "receipts.jsonl", running=running).known) == {"u0"}


def test_without_slurm_nothing_is_run_beside_what_may_be_at_work_there(
    submission: Submission, running: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="there is no Slurm on this machine"):
        require_slurm()
    executor: LocalExecutor[Path] = LocalExecutor(work, workers=1, leftovers=running / "slurm")
    with pytest.raises(UserError, match=r"left its units to Slurm.*touch .*/slurm/\*/closed"), executor:
        pass
    submission.close()
    with LocalExecutor(work, workers=1, leftovers=running / "slurm"):
        pass
