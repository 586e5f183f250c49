"""Two nodes train one model; the job is requeued in the middle and ends with the bits of one process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.servers.slurm import SlurmCluster
from tests.training.joint import real_lab

SCRIPT = """#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --cpus-per-task=1 --mem=3000 --requeue --open-mode=append
srun --kill-on-bad-exit=1 {python} -m tests.integration.slurm.train {at} {shared_data}
"""


def _steps(at: Path, rank: int) -> list[int]:
    log = at / f"log-{rank}"
    return [int(line) for line in log.read_text().split()] if log.exists() else []


@pytest.mark.long
def test_a_requeued_job_goes_on_to_the_bits_of_one_process(
    cluster: SlurmCluster, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("GLOO_SOCKET_IFNAME", "lo")):  # Its nodes have no addresses.
        monkeypatch.setenv(name, value)
    script, log = tmp_path / "job.sh", tmp_path / "job.log"
    script.write_text(SCRIPT.format(python=sys.executable, at=tmp_path, shared_data=shared_data))
    job = cluster.ask("sbatch", "--parsable", f"--output={log}", str(script)).strip()

    def ended() -> bool:
        cluster.hurry()
        return job not in cluster.jobs("RUNNING,PENDING,COMPLETING")

    def is_at(step: int) -> bool:
        assert job in cluster.jobs("RUNNING,PENDING"), log.read_text()
        return step in _steps(tmp_path, 0)

    cluster.wait(lambda: is_at(5), "step 5", seconds=240)  # The state of step 4 is kept.
    cluster.ask("scontrol", "requeue", job)
    cluster.wait(ended, "the requeued job ends", seconds=240)
    said = log.read_text()
    assert "ExitCode=0:0" in cluster.ask("scontrol", "show", "job", job), said
    assert "Restarts=1" in cluster.ask("scontrol", "show", "job", job), said
    for rank in (0, 1):
        steps = _steps(tmp_path, rank)
        assert sorted(set(steps)) == list(range(8))
        assert steps.count(0) == 1, "it began anew"
    lab = real_lab(tmp_path, shared_data)
    lab.train("alone")
    assert lab.model("joint") == lab.model("alone")
