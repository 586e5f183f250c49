"""Whatever dies, every unit is run, none is lost and none is run twice; on a real Slurm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from neurofm.recording import UnitStatus
from neurofm.units import ExecutorName, Receipt, Resources, SlurmSite, UnitSummary, read_receipts
from tests.integration.slurm import stage as module
from tests.integration.slurm.stage import SPEC, Spec
from tests.servers.slurm import SlurmCluster

ALL = {f"u{number}": f"unit {number}" for number in range(8)}
SLOW = {name: f"sleep=0.4 {text}" for name, text in ALL.items()}


@dataclass
class Trial:
    """A folder in which units are run, and the cluster on which."""

    folder: Path
    cluster: SlurmCluster

    def run(self, spec: Spec) -> UnitSummary:
        """Run in this process."""
        return module.run(self.folder, spec)

    def start(self, spec: Spec) -> subprocess.Popen[str]:
        """Run in a process of its own, which can be killed."""
        return subprocess.Popen(
            [sys.executable, "-m", "tests.integration.slurm.stage", str(self.folder), SPEC.dump_json(spec).decode()],
            env=self.cluster.env | {"PYTHONPATH": os.environ["PYTHONPATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def beside(self, spec: Spec) -> Beside:
        """Run in a thread, so that the test can do harm meanwhile."""
        return Beside(lambda: self.run(spec))

    def did(self) -> list[str]:
        """The units that were worked on to their end."""
        path = self.folder / "did"
        return [line.split(" ", 1)[0] for line in path.read_text().splitlines()] if path.exists() else []

    def texts(self) -> list[str]:
        """What those units were told."""
        path = self.folder / "did"
        return [line.split(" ", 1)[1] for line in path.read_text().splitlines()] if path.exists() else []

    def outputs(self) -> dict[str, str]:
        """What lies in the folder of outputs."""
        return {path.name: path.read_text() for path in (self.folder / "out").iterdir()}

    def receipts(self) -> dict[str, Receipt]:
        """The receipts that were gathered."""
        return read_receipts(self.folder / "receipts.jsonl")

    def noted(self) -> list[str]:
        """The units whose end a task has written down; their outputs are complete."""
        journals = self.folder.rglob("receipts/*.jsonl")
        lines = [line for journal in journals for line in journal.read_bytes().splitlines(keepends=True)]
        return [json.loads(line)["unit"] for line in lines if line.endswith(b"\n")]

    def submissions(self) -> list[Path]:
        """Folders of the arrays that were submitted, oldest first."""
        return sorted((self.folder / "running" / "trial" / "slurm").glob("*-*"))

    def until(self, condition: Callable[[], object], what: str, *, seconds: float = 60.0) -> None:
        """Wait until a condition holds."""
        self.cluster.wait(condition, what, seconds=seconds)

    def assert_each_once(self, texts: dict[str, str] = ALL) -> None:
        """Every unit has its output and its receipt, and was worked on to its end once."""
        assert Counter(self.did()) == Counter(texts.keys())
        assert self.outputs() == texts
        assert {name: receipt.status for name, receipt in self.receipts().items()} == dict.fromkeys(
            texts, UnitStatus.SUCCEEDED
        )


class Beside:
    """A run in a thread."""

    def __init__(self, call: Callable[[], UnitSummary]) -> None:
        self._summary: UnitSummary | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], UnitSummary]) -> None:
        try:
            self._summary = call()
        except BaseException as error:  # noqa: BLE001
            self._error = error

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self, seconds: float = 90.0) -> UnitSummary:
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "still running"
        if self._error is not None:
            raise self._error
        assert self._summary is not None
        return self._summary


@pytest.fixture
def trial(tmp_path: Path, cluster: SlurmCluster) -> Trial:
    return Trial(tmp_path, cluster)


def test_units_run_on_slurm_once_and_never_again(trial: Trial) -> None:
    assert trial.run(Spec(ALL)).ran == 8
    trial.assert_each_once()
    assert {receipt.facts["job"] for receipt in trial.receipts().values()} - {"", None}
    assert all(Path(receipt.log).is_file() for receipt in trial.receipts().values())
    assert trial.run(Spec(ALL)).ran == 0
    trial.assert_each_once()


def test_moving_between_executors_runs_nothing_again(trial: Trial) -> None:
    trial.run(Spec(ALL))
    assert trial.run(Spec(ALL, executor=ExecutorName.LOCAL)).ran == 0
    more = ALL | {"u8": "unit 8"}
    assert trial.run(Spec(more, executor=ExecutorName.LOCAL)).ran == 1
    assert trial.run(Spec(more)).ran == 0
    trial.assert_each_once(more)


def test_an_output_changed_by_one_byte_is_built_again(trial: Trial) -> None:
    trial.run(Spec(ALL))
    (trial.folder / "out" / "u3").write_text("unit 4")
    assert trial.run(Spec(ALL)).ran == 1
    assert trial.outputs() == ALL
    assert Counter(trial.did())["u3"] == 2


def test_the_stage_is_killed_and_the_next_takes_its_tasks_up(trial: Trial) -> None:
    first = trial.start(Spec(SLOW))
    trial.until(trial.did, "a unit has ended")
    first.kill()
    first.wait()
    assert len(trial.did()) < 8
    trial.run(Spec(SLOW))
    trial.assert_each_once(SLOW)
    assert len(trial.submissions()) == 1


@pytest.mark.long
def test_an_output_damaged_while_the_tasks_that_are_taken_up_go_on(trial: Trial) -> None:
    """The receipt that its task has written is no answer to who asks for it again."""
    texts = ALL | {f"u{number}": f"wait=go {number}" for number in range(4, 8)}
    first = trial.start(Spec(texts))
    trial.until(lambda: {"u0", "u1"} <= set(trial.noted()), "u0 and u1 have ended")
    first.kill()
    first.wait()
    (trial.folder / "out" / "u1").write_text("damaged")
    run = trial.beside(Spec(texts))
    trial.until(lambda: trial.did().count("u1") == 2 or not run.running, "the damaged one is made again")
    (trial.folder / "go").touch()
    assert run.result().failed == ()
    assert trial.outputs() == texts
    assert Counter(trial.did()) == Counter([*texts, "u1"])


@pytest.mark.long
def test_what_the_tasks_of_two_killed_stages_did_is_not_done_again(trial: Trial) -> None:
    """The second was asked for other outputs: what it did stands above what the first did, wherever it was noted."""
    for texts in (ALL, SLOW):
        stage = trial.start(Spec(texts))
        wanted = set(texts.values())
        while not wanted & set(trial.texts()):
            time.sleep(0.05)
        time.sleep(0.5)
        stage.kill()
        stage.wait()
    trial.until(lambda: not trial.cluster.jobs(), "all tasks have ended")
    before = Counter(trial.did())
    assert trial.run(Spec(SLOW)).ran == 0
    assert Counter(trial.did()) == before
    assert trial.outputs() == SLOW


@pytest.mark.long
def test_more_memory_than_there_is_costs_only_the_unit_that_wants_it(trial: Trial) -> None:
    """A node has 8 GB here; Slurm refuses what asks for more."""
    texts = SLOW | {"u1": "die unit 1"}
    summary = trial.run(Spec(texts, resources=Resources(minutes=5, memory_gb=5)))
    assert summary.failed == ("u1",)
    assert "with 10 GB: Slurm refuses the jobs" in summary.reasons["u1"]
    assert Counter(trial.did()) == Counter(set(texts) - {"u1"})


def test_the_stage_is_killed_and_this_machine_goes_on(trial: Trial) -> None:
    slow = {name: f"sleep=1 {text}" for name, text in ALL.items()}
    first = trial.start(Spec(slow))
    trial.until(trial.did, "a unit has ended")
    first.kill()
    first.wait()
    trial.run(Spec(slow, executor=ExecutorName.LOCAL))
    # An array that Slurm took while its stage was killed comes later; its tasks find themselves revoked and do nothing.
    trial.until(lambda: not trial.cluster.jobs(), "no task is left")
    trial.assert_each_once(slow)


@pytest.mark.long
def test_the_stage_is_killed_while_it_submits(trial: Trial) -> None:
    """Whatever Slurm has been given by then, nothing is run twice."""
    for wait_s in (0.0, 0.05, 0.1, 0.3):
        once = replace(trial, folder=trial.folder / str(wait_s))
        first = once.start(Spec(ALL))
        once.until(once.submissions, "a submission is written")
        time.sleep(wait_s)
        first.kill()
        first.wait()
        once.run(Spec(ALL))
        once.assert_each_once()


def _is_gone(pid: int) -> bool:
    """Whether a process has ended, waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}
    except OSError:
        return True


@pytest.mark.parametrize("who", [0, 1], ids=["the process that works", "the process that watches it"])
def test_a_worker_is_killed(trial: Trial, who: int) -> None:
    texts = ALL | {"u2": "tell wait=go unit 2"}
    run = trial.beside(Spec(texts))
    trial.until((trial.folder / "pid-u2").exists, "u2 is at work")
    pids = [int(pid) for pid in (trial.folder / "pid-u2").read_text().split()]
    os.kill(pids[who], signal.SIGKILL)
    # Who works goes with who watches, yet a moment later: by then it would have ended the unit, were it let go.
    trial.until(lambda: _is_gone(pids[0]), "who worked is gone")
    (trial.folder / "go").touch()
    assert run.result().failed == ()
    trial.assert_each_once(texts)


def test_the_controller_is_killed_and_comes_back(trial: Trial) -> None:
    run = trial.beside(Spec(SLOW))
    trial.until(trial.did, "a unit has ended")
    trial.cluster.kill_controller()
    time.sleep(3)
    trial.cluster.start_controller()
    assert run.result().failed == ()
    trial.assert_each_once(SLOW)


@pytest.mark.long
def test_the_controller_is_killed_a_second_after_submission_and_forgets(trial: Trial) -> None:
    """Its state on disk is taken away, as it is where it had not yet been written."""
    texts = {name: f"wait=go {text}" for name, text in ALL.items()}
    run = trial.beside(Spec(texts))
    trial.until(trial.cluster.jobs, "tasks are submitted")
    time.sleep(1)
    trial.cluster.kill_controller()
    for path in (trial.cluster.folder / "state").glob("job*"):
        path.unlink()
    trial.cluster.start_controller()
    (trial.folder / "go").touch()
    assert run.result().failed == ()
    assert trial.outputs() == texts
    assert set(trial.did()) == set(texts)


def test_a_nodes_daemon_is_killed(trial: Trial) -> None:
    run = trial.beside(Spec(SLOW))
    trial.until(trial.did, "a unit has ended")
    trial.cluster.kill_node(1, jobs=False)
    time.sleep(1)
    trial.cluster.start_node(1)
    assert run.result().failed == ()
    trial.assert_each_once(SLOW)


def test_a_node_goes_down_with_all_that_runs_on_it(trial: Trial) -> None:
    texts = {name: f"wait=go {text}" for name, text in ALL.items()}
    run = trial.beside(Spec(texts))
    trial.until(lambda: trial.cluster.jobs("RUNNING"), "tasks run")
    time.sleep(2)
    for node in (1, 2):
        if f"n{node}" in trial.cluster.ask("squeue", "-h", "-t", "RUNNING", "-o", "%N").split():
            trial.cluster.kill_node(node, jobs=True)
            trial.cluster.ask("scontrol", "update", f"NodeName=n{node}", "State=DOWN", "Reason=test")
    (trial.folder / "go").touch()
    while run.running:
        trial.cluster.hurry()
        time.sleep(0.5)
    assert run.result().failed == ()
    trial.assert_each_once(texts)


def test_scancel(trial: Trial) -> None:
    texts = {name: f"tell sleep=1 {text}" for name, text in ALL.items()}
    run = trial.beside(Spec(texts))
    trial.until(lambda: list(trial.folder.glob("pid-*")), "units are at work")
    trial.cluster.ask("scancel", "--me")
    assert run.result().failed == ()
    trial.assert_each_once(texts)


@pytest.mark.long
def test_a_unit_whose_tasks_are_cancelled_again_and_again_is_given_up(trial: Trial) -> None:
    run = trial.beside(Spec({"u0": "sleep=600 unit"}))
    while run.running:
        for job in trial.cluster.jobs("RUNNING"):
            time.sleep(2)
            trial.cluster.ask("scancel", job)
        time.sleep(0.5)
    assert run.result().reasons == {"u0": "its task was lost 2 times, last: CANCELLED"}
    assert trial.receipts()["u0"].status is UnitStatus.INCOMPLETE


def test_out_of_memory_gets_more(trial: Trial) -> None:
    texts = ALL | {"u1": "take=600 unit 1"}
    spec = Spec(texts, resources=Resources(minutes=5, memory_gb=0.25))
    assert trial.run(spec).failed == ()
    trial.assert_each_once(texts)
    given = [script.read_text() for script in trial.folder.rglob("*_submission.sh")]
    assert all(any(f"--mem={amount}" in text for text in given) for amount in ("256MB", "512MB", "1GB"))


@pytest.mark.long
def test_out_of_memory_ends_at_the_most_there_is(trial: Trial) -> None:
    texts = ALL | {"u1": "take=600 unit 1"}
    spec = Spec(texts, site=SlurmSite(at_once=2, most_memory_gb=0.5), resources=Resources(minutes=5, memory_gb=0.25))
    summary = trial.run(spec)
    assert summary.failed == ("u1",)
    assert "memory" in summary.reasons["u1"]
    assert trial.receipts()["u1"].status is UnitStatus.INCOMPLETE
    assert set(trial.did()) == set(texts) - {"u1"}


def test_a_unit_that_hangs_costs_only_itself(trial: Trial) -> None:
    texts = ALL | {"u1": "sleep=600 unit 1"}
    summary = trial.run(Spec(texts, resources=Resources(minutes=0.05, memory_gb=0.5)))
    assert summary.failed == ("u1",)
    assert "longer than the 0.05 minutes" in summary.reasons["u1"]
    assert Counter(trial.did()) == Counter(set(texts) - {"u1"})


@pytest.mark.long
def test_a_task_that_hangs_past_its_walltime(trial: Trial) -> None:
    """The unit stops also what watches it, so that only Slurm can end them."""
    texts = ALL | {"u1": "freeze unit 1"}
    run = trial.beside(Spec(texts))
    trial.until((trial.folder / "freeze-u1").exists, "u1 hangs")
    (job,) = [job for job in trial.cluster.jobs("RUNNING") if job.endswith("_1")]
    trial.cluster.ask("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    summary = run.result(seconds=240)
    assert summary.reasons == {"u1": "its task hung past the walltime"}
    assert Counter(trial.did()) == Counter(set(texts) - {"u1"})
    # The next run tries it again, and it does not hang this time.
    assert trial.run(Spec(texts)).ran == 1
    trial.assert_each_once(texts)


def test_a_task_that_is_warned_of_its_walltime_goes_on_in_another(trial: Trial) -> None:
    run = trial.beside(Spec(SLOW, site=SlurmSite(at_once=1)))
    trial.until(trial.did, "a unit has ended")
    (job,) = trial.cluster.jobs("RUNNING")
    trial.cluster.ask("scancel", "--signal=USR1", job)
    while run.running:
        trial.cluster.hurry()
        time.sleep(0.5)
    assert run.result().failed == ()
    trial.assert_each_once(SLOW)
    assert len(trial.submissions()) == 1
    assert any("Requeued job" in path.read_text() for path in trial.folder.rglob("*_log.out"))


def test_two_stages_at_once(trial: Trial) -> None:
    first = trial.start(Spec(SLOW))
    trial.until(trial.cluster.jobs, "tasks are submitted")
    second = trial.start(Spec(SLOW))
    said = second.communicate(timeout=90)
    assert first.wait() == 0
    assert "0 ran" in said[0]
    assert f"its units are run by process {first.pid}" in said[1]
    trial.assert_each_once(SLOW)


def test_a_receipt_written_by_half(trial: Trial) -> None:
    texts = ALL | {"u2": "tell wait=go unit 2"}
    first = trial.start(Spec(texts))
    trial.until((trial.folder / "pid-u2").exists, "u2 is at work")
    first.kill()
    first.wait()
    trial.cluster.ask("scancel", "--me")
    trial.until(lambda: not trial.cluster.jobs(), "no task is left")
    # What the stage itself had noted goes, and of what the tasks wrote the last line of each is cut.
    for journal in (trial.folder / "running" / "trial").glob("*.jsonl"):
        journal.unlink()
    cut = set()
    for journal in trial.folder.rglob("receipts/*.jsonl"):
        lines = journal.read_bytes().splitlines(keepends=True)
        if lines:
            cut.add(json.loads(lines[-1])["unit"])
            journal.write_bytes(b"".join(lines)[:-40])
    before = Counter(trial.did())
    (trial.folder / "go").touch()
    assert trial.run(Spec(texts)).failed == ()
    assert trial.outputs() == texts
    assert cut
    assert set(Counter(trial.did()) - before) == cut | (set(texts) - set(before))


def test_clocks_that_differ(trial: Trial) -> None:
    """Files and the running stage are dated a day ahead and a day back, as by other hosts' clocks."""
    first = trial.start(Spec(SLOW))
    trial.until(trial.did, "a unit has ended")
    first.kill()
    first.wait()
    for number, path in enumerate(sorted(trial.folder.rglob("*"))):
        if path.is_file():
            at = time.time() + (86400 if number % 2 else -86400)
            os.utime(path, (at, at))
    lock = trial.folder / "running" / "trial.lock"
    lock.write_text(json.dumps({"process": 1, "host": "other", "began": time.time() + 86400, "units": 8}))
    trial.run(Spec(SLOW))
    trial.assert_each_once(SLOW)


def test_the_list_of_units_changes_while_tasks_are_pending(trial: Trial) -> None:
    before = {name: f"wait=go {text}" for name, text in ALL.items()}
    first = trial.start(Spec(before, site=SlurmSite(at_once=1)))
    trial.until(lambda: trial.cluster.jobs("RUNNING"), "a task runs")
    first.kill()
    first.wait()
    after = dict(reversed([*before.items()][2:])) | {"u4": "wait=go another", "v0": "wait=go new"}
    run = trial.beside(Spec(after, site=SlurmSite(at_once=1)))
    trial.until(lambda: len(trial.submissions()) > 1, "what changed is submitted")
    (trial.folder / "go").touch()
    assert run.result().failed == ()
    told = dict(zip(trial.did(), trial.texts(), strict=True))
    assert {name: told[name] for name in after} == after
    assert {name: text for name, text in told.items() if name not in after}.items() <= before.items()
    assert Counter(trial.did()).most_common(1)[0][1] == 1
    assert {name: text for name, text in trial.outputs().items() if name in after} == after
    assert trial.receipts().keys() == after.keys()
    # A task that has done its work takes a moment to end.
    trial.until(lambda: not trial.cluster.jobs(), "all tasks have ended")


def test_a_list_that_was_tampered_with_is_not_run(trial: Trial) -> None:
    """Slurm holds the task back until its list is changed: nothing of it is unpickled, and its units are not lost."""
    trial.cluster.ask("scontrol", "update", "PartitionName=main", "State=DOWN")
    run = trial.beside(Spec(ALL, site=SlurmSite(at_once=1)))
    trial.until(trial.cluster.jobs, "tasks are pending")
    listed = trial.submissions()[0] / "units" / "0000.pkl"
    content = bytearray(listed.read_bytes())
    content[-20] ^= 1
    listed.chmod(0o644)
    listed.write_bytes(bytes(content))
    trial.cluster.ask("scontrol", "update", "PartitionName=main", "State=UP")
    assert run.result().failed == ()
    trial.assert_each_once()
    logs = "".join(path.read_text() for path in trial.submissions()[0].rglob("*_log.out"))
    assert "is not the list that was submitted" in logs


def test_more_tasks_than_an_array_may_have(trial: Trial) -> None:
    """This cluster's arrays have at most ten tasks."""
    texts = {f"u{number:03d}": str(number) for number in range(24)}
    spec = replace(Spec(texts), site=SlurmSite(at_once=6))
    assert trial.run(spec).failed == ()
    trial.assert_each_once(texts)
    assert len(trial.submissions()) == 2
