"""Hand an array of tasks to Slurm."""

from __future__ import annotations

import os
from collections.abc import Callable
from math import ceil
from pathlib import Path

from neurofm.errors import UserError
from neurofm.units.attempt import THREADS
from neurofm.units.resources import START_MINUTES, Resources, SlurmSite
from neurofm.units.slurm_queue import SlurmSilentError
from neurofm.units.slurm_task import SlurmTask
from neurofm.units.submission import Submission
from neurofm.units.unit import Outcome, Payload

_SIGNAL = "USR1"
"""What Slurm sends before a walltime ends: the task has itself requeued, and goes on where it was."""
_WARNED_S = 60
"""How long before."""
_SILENT = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "Connection refused",
    "Connection reset",
    "Zero Bytes were transmitted",
    "Unexpected message received",
    "Slurm backup controller in standby mode",
)
"""What `sbatch` says when its controller is away for now, rather than refusing."""
_OUT_OF_MEMORY = (b"exceeded memory limit", b"exceeded job memory limit", b"oom-kill", b"oom_kill")
"""What Slurm writes into a task's log when it, or the kernel for it, ends what takes too much memory."""
_LAST_BYTES = 4096


def hand_over(
    submission: Submission, work: Callable[[Payload], Outcome], *, site: SlurmSite, resources: Resources
) -> None:
    """Hand an array to Slurm, with submitit.

    Parameters
    ----------
    submission
        What its tasks are given, as written down.
    work
        Called as ``work(unit.payload)`` on a node.
    site, resources
        How the cluster is used, and what one unit is given.

    Raises
    ------
    SlurmSilentError
        If Slurm does not answer; it may have taken the array all the same.
    UserError
        If Slurm refuses it.
    """
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = _SIGNAL  # Read when submitit is imported.
    import submitit  # noqa: PLC0415
    from submitit.core.utils import FailedJobError, FailedSubmissionError  # noqa: PLC0415

    wanted = resources.minutes * max(len(plan.units) for plan in submission.plan.tasks) + START_MINUTES
    chosen = {"partition": site.partition, "account": site.account, "qos": site.qos}
    executor = submitit.AutoExecutor(folder=submission.log, cluster="slurm", slurm_max_num_timeout=10_000)
    executor.update_parameters(
        name=submission.name,
        timeout_min=ceil(min(60 * site.longest_hours, wanted)),
        mem_gb=submission.plan.memory_gb,
        cpus_per_task=resources.cpus,
        stderr_to_stdout=True,
        slurm_signal_delay_s=_WARNED_S,
        slurm_srun_args=[f"--cpus-per-task={resources.cpus}"],  # srun no longer takes it from sbatch.
        slurm_array_parallelism=site.at_once,
        slurm_setup=[
            *site.setup,
            *(f"export {name}=${{{name}:-1}}" for name in THREADS),
            f"export SUBMITIT_PREEMPT_SIGNAL={_SIGNAL}",
        ],
        slurm_additional_parameters={"requeue": True, **site.options},
        **{f"slurm_{name}": value for name, value in chosen.items() if value},
    )
    calls = [
        SlurmTask(work, submission=submission, index=index, digest=plan.digest, minutes=resources.minutes)
        for index, plan in enumerate(submission.plan.tasks)
    ]
    try:
        executor.submit_array(calls)
    except (FailedJobError, FailedSubmissionError) as error:
        said = " ".join(str(error).split())
        if any(text in said for text in _SILENT):
            raise SlurmSilentError(said) from error
        raise UserError(
            f"Slurm refuses the jobs: {said}.",
            mend="correct `slurm` in site.yaml; docs/cluster.md tells what it may say",
        ) from error


def ran_out_of_memory(log: str) -> bool:
    """Tell from a task's log whether Slurm ended it for its memory: not every cluster's states say so."""
    if not log:
        return False
    with Path(log).open("rb") as file:
        file.seek(max(0, Path(log).stat().st_size - _LAST_BYTES))
        last = file.read().lower()
    return any(words in last for words in _OUT_OF_MEMORY)
