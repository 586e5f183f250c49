"""Participants as tasks of a real Slurm, each in a container of podman, with the stand-in for fMRIPrep."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neurofm.recording import UnitStatus
from tests.integration.study import STUDY, Study, equip, make_study, wait_until
from tests.servers.podman import Podman
from tests.servers.slurm import SlurmCluster

CONTAINER_MIB = 9155
"""`mem_mb` (8000 x 10^6 bytes) and a fifth, which is what a participant's container may take."""


@pytest.fixture
def memory_mb() -> int:
    """Room for a participant: nodes only say so, and none of them takes it."""
    return 12000


@pytest.fixture
def equipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which everything lies that fMRIPrep needs."""
    equip(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def study(
    stand_in: Path, podman: Podman, cluster: SlurmCluster, sample_raw: Callable[[str], Path], equipped: Path
) -> Iterator[Study]:
    """Two participants, of whom nobody is processed yet. No task and no container outlives the test."""
    project = make_study(equipped, stand_in=stand_in, raw=sample_raw("ds205-bold"), labels=("01", "02"))
    use(project, minutes=10.0)
    yield project
    assert cluster.jobs() == []
    assert podman.containers() == []


def use(study: Study, *, minutes: float) -> None:
    # Less memory than the container may take: it is the options that count then.
    slurm = {"derivatives": {"minutes": minutes, "memory_gb": 1.0, "cpus": 2}, "most_memory_gb": 2.0}
    (study.root / "site.yaml").write_text(json.dumps({"executor": "slurm", "slurm": slurm}))


def asked_for(cluster: SlurmCluster) -> list[dict[str, str]]:
    """What Slurm says of every task."""
    lines = cluster.ask("scontrol", "show", "job", "--oneliner").splitlines()
    return [dict(re.findall(r"(\S+?)=(\S+)", line)) for line in lines]


def test_each_participant_is_a_task_and_one_that_crashes_fails_alone(study: Study, cluster: SlurmCluster) -> None:
    study.order("02", "crash")
    done = study.dvc("repro", f"derivatives@{STUDY}")
    assert done.returncode != 0
    assert "1 of 2 participants failed" in done.stderr
    assert "sub-02: fMRIPrep crashed (exit code 1): bold_hmc_wf.mcflirt: RuntimeError" in done.stderr
    receipts = study.receipts()
    assert {unit: receipt.status for unit, receipt in receipts.items()} == {
        "sub-01": UnitStatus.SUCCEEDED,
        "sub-02": UnitStatus.FAILED,
    }
    tasks = asked_for(cluster)
    assert len(tasks) == 2
    for task in tasks:
        assert task["CPUs/Task"] == "2"
        assert task["TimeLimit"] == "00:13:00"  # 3 of them for starting
        assert task["MinMemoryNode"] == f"{CONTAINER_MIB}M"
    before = study.files("01")
    assert before
    assert study.files("02") == {}
    assert json.loads((study.made / "dataset_description.json").read_text())["GeneratedBy"][0]["Name"] == "stand_in"

    study.order("02", "whole")
    assert study.runs_again() == f"{STUDY}: 1 participants processed, 1 whole already"
    assert study.files("01") == before
    assert set(study.digests("02").values())
    assert study.repro(f"derivatives@{STUDY}") == []
    assert len(asked_for(cluster)) == 3


def test_one_killed_for_memory_and_one_for_time_are_incomplete_with_the_reason(study: Study, podman: Podman) -> None:
    use(study, minutes=0.25)
    study.order("01", "killed")
    study.order("02", "hang")
    done = study.dvc("repro", f"derivatives@{STUDY}")
    assert done.returncode != 0
    assert "2 of 2 participants failed" in done.stderr
    receipts = study.receipts()
    assert {receipt.status for receipt in receipts.values()} == {UnitStatus.INCOMPLETE}
    assert "fMRIPrep was killed: most likely it took more than the 8.941 GB that it was given" in (
        receipts["sub-01"].reason
    )
    assert receipts["sub-02"].reason == "it took longer than the 0.25 minutes that site.yaml gives it"
    assert all((study.root / receipt.log).is_file() for receipt in receipts.values())
    # The task that was stopped is gone before its container is.
    wait_until(lambda: not podman.containers(), lambda: (True, str(podman.containers())))
    assert not study.made.is_dir() or not list(study.made.glob("sub-*"))


@pytest.mark.parametrize("how", ["preempted", "cancelled"])
def test_a_task_that_is_ended_leaves_no_container_and_is_gone_on_with(
    study: Study, cluster: SlurmCluster, podman: Podman, tmp_path: Path, how: str
) -> None:
    study.set(["derivatives", STUDY, "participants"], ["02"])
    study.order("02", "hang")
    said = tmp_path / "said.txt"
    with study.started(said) as repro:
        wait_until(lambda: study.is_half_done("02"), lambda: (repro.poll() is None, said.read_text()))
        (task,) = cluster.jobs("RUNNING")
        (first,) = podman.containers()
        study.order("02", "whole")
        cluster.ask("scancel", *(["--signal=USR1"] if how == "preempted" else []), task)
        wait_until(lambda: first not in podman.containers(), lambda: (True, str(podman.containers())))
        if how == "preempted":
            cluster.wait(lambda: cluster.jobs("PENDING") or repro.poll() is not None, "it is requeued")
            cluster.hurry()
        code = repro.wait(timeout=60)
    if code:
        # Its task had the time to write down how it ended; else it is submitted once more by itself.
        assert how == "cancelled", said.read_text()
        (receipt,) = study.receipts().values()
        assert receipt.status is UnitStatus.INCOMPLETE
        assert "fMRIPrep was asked to stop" in receipt.reason
        assert study.runs_again() == f"{STUDY}: 1 participants processed, 0 whole already"
    (receipt,) = study.receipts().values()
    assert receipt.status is UnitStatus.SUCCEEDED
    assert study.files("02")
