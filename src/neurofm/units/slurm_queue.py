"""What Slurm says of our jobs, and how they are stopped.

Jobs are asked for by their names, which no two submissions share, and not by the numbers that Slurm gives them: who was
killed between submitting and writing a number down would not know it. `squeue` alone is asked: accounting (`sacct`) is
not there on every cluster, and lags where it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from neurofm.errors import UserError
from neurofm.units.resources import Resources, SlurmSite
from neurofm.units.submission import Submission

_ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)
_USUAL_ARRAY = 1000
_TIMEOUT_S = 60.0
_STOP_S = 120.0
_FORMAT = "%F|%K|%j|%T|%r"


class SlurmSilentError(Exception):
    """Slurm's controller does not answer now."""


@dataclass(frozen=True)
class TaskState:
    """What Slurm says of one task."""

    job: str
    """As `scancel` and `scontrol` know it."""
    state: str
    """Slurm's word: ``PENDING``, ``RUNNING``, ``OUT_OF_MEMORY``..."""
    why: str
    """Slurm's reason."""

    @property
    def ended(self) -> bool:
        """Whether it is over; Slurm remembers that for some minutes (MinJobAge)."""
        return self.state in _ENDED


def task_states(submissions: Iterable[Submission]) -> dict[tuple[str, int], TaskState]:
    """Ask Slurm for the tasks of some submissions, whoever submitted them.

    Returns
    -------
    dict
        By name of the submission and index of the task. A task that is not in it has ended, or is forgotten.

    Raises
    ------
    SlurmSilentError
        If Slurm does not answer.
    """
    names = sorted({submission.name for submission in submissions})
    if not names:
        return {}
    said = _ask(["squeue", "--noheader", "--array", "--states=all", f"--name={','.join(names)}", f"--format={_FORMAT}"])
    states: dict[tuple[str, int], TaskState] = {}
    for line in said.splitlines():
        job, index, rest = line.split("|", 2)
        name, state, why = rest.rsplit("|", 2)
        is_array = index.isdigit()
        task = TaskState(job=f"{job}_{index}" if is_array else job, state=state, why=why)
        key = name, int(index) if is_array else 0
        if key not in states or not task.ended:
            states[key] = task
    return states


def longest_array() -> int:
    """Ask Slurm how many tasks an array may have.

    Raises
    ------
    SlurmSilentError
        If Slurm does not answer.
    """
    for line in _ask(["scontrol", "show", "config"]).splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "MaxArraySize" and value.strip().isdigit():
            return max(1, int(value) - 1)
    return _USUAL_ARRAY


def stop_tasks(tasks: Iterable[tuple[Submission, int]]) -> None:
    """Stop tasks, and wait until they are gone: what they were writing is not to meet what comes next.

    Raises
    ------
    SlurmSilentError
        If Slurm does not answer, or has not stopped them within two minutes. They begin no further unit even so.
    """
    wanted = {(submission.name, index): submission for submission, index in tasks}
    for (_, index), submission in wanted.items():
        submission.revoke([index])
    until = time.monotonic() + _STOP_S
    told: set[str] = set()
    while alive := {
        state.job for key, state in task_states(wanted.values()).items() if key in wanted and not state.ended
    }:
        if time.monotonic() > until:
            raise SlurmSilentError(f"Slurm has not stopped {', '.join(sorted(alive))}")
        if new := sorted(alive - told):
            with suppress(SlurmSilentError):  # One that has just ended cannot be stopped.
                _ask(["scancel", *new])
            told |= alive
        time.sleep(0.5)


def stop_leftovers(folder: Path) -> None:
    """Stop what an earlier run has left at work on a cluster, before its units are run elsewhere.

    Its receipts count all the same: what had ended is not run again.

    Raises
    ------
    UserError
        If Slurm cannot be asked while tasks of ours may be at work in it.
    """
    left = Submission.all_open(folder)
    if not left:
        return
    if _missing_program():
        raise UserError(
            f"{folder.parent.name}: an earlier run left its units to Slurm, and there is none on this machine to ask.",
            mend="run it on a login node of that cluster; or, if nothing is at work there any more: "
            f"touch {folder}/*/closed",
        )
    try:
        stop_tasks((submission, index) for submission in left for index in range(len(submission.plan.tasks)))
    except SlurmSilentError as error:
        raise UserError(
            f"{folder.parent.name}: its units are at work in Slurm, which does not answer: {error}.",
            mend="run again when `squeue --me` answers",
        ) from None
    for submission in left:
        submission.close()


def close_ended(folder: Path) -> None:
    """Close the submissions in `folder`, of which an interrupted run has left nothing at work.

    Raises
    ------
    UserError
        If something is at work, or Slurm does not say.
    """
    if working := tasks_at_work(folder):
        raise UserError(
            f"{folder.parent.name}: its units are at work: {working}.",
            mend="run its stage, which takes them up, and then this again",
        )
    for submission in Submission.all_open(folder):
        submission.close()


def would_refuse(site: SlurmSite, resources: Resources) -> str:
    """Ask Slurm whether it would take a task with these resources; nothing is submitted.

    Returns
    -------
    str
        Why not, in Slurm's words; empty if it would.
    """
    chosen = {"partition": site.partition, "account": site.account, "qos": site.qos, **site.options}
    command = [
        "sbatch",
        "--test-only",
        "--wrap=true",
        f"--mem={ceil(1024 * resources.memory_gb)}M",
        f"--cpus-per-task={resources.cpus}",
        f"--time={ceil(60 * site.longest_hours)}",
        *(f"--{name.replace('_', '-')}={value}" for name, value in chosen.items() if value),
    ]
    try:
        _ask(command)
    except SlurmSilentError as error:
        return str(error)
    return ""


def tasks_at_work(folder: Path) -> str:
    """Say how many tasks of the submissions in `folder` run and wait; empty where nothing was left to Slurm."""
    left = Submission.all_open(folder)
    if not left:
        return ""
    try:
        states = Counter(state.state for state in task_states(left).values() if not state.ended)
    except SlurmSilentError:
        return "Slurm, which does not answer"
    waiting = states.pop("PENDING", 0)
    return f"Slurm: {states.total()} tasks run, {waiting} wait" if waiting or states else ""


def require_slurm() -> None:
    """Make sure that there is a Slurm here.

    Raises
    ------
    UserError
        If there is none.
    """
    if program := _missing_program():
        raise UserError(
            f"there is no Slurm on this machine: `{program}` is not on the PATH.",
            mend="run on a login node of the cluster (`module load slurm` on some), or with `--executor local`",
        )


def _missing_program() -> str:
    return next(
        (name for name in ("sbatch", "squeue", "scancel", "scontrol", "srun") if shutil.which(name) is None), ""
    )


def _ask(command: list[str]) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SCANCEL_"))}
    try:
        done = subprocess.run(  # noqa: S603  # Slurm's own commands
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmSilentError(f"{command[0]}: {error}") from error
    if done.returncode:
        raise SlurmSilentError(" ".join(done.stderr.split()) or f"{command[0]}: exit code {done.returncode}")
    return done.stdout
