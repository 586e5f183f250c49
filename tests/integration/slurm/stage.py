"""A stage of its own process, for tests that kill it: ``python -m tests.integration.slurm.stage FOLDER SPEC``."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from neurofm.recording import Modality
from neurofm.units import (
    ExecutorName,
    Outcome,
    ReceiptBook,
    Resources,
    SlurmSite,
    Unit,
    UnitsSite,
    UnitSummary,
    open_executor,
    run_units,
    unit_key,
)

_SEIZE, _INTERRUPT, _EXIT_KILL = 0x4206, 0x4207, 0x100000
"""Of ptrace(2)."""


@dataclass(frozen=True)
class Job:
    """What the working function below is told: what to do, and where to leave it."""

    output: Path
    text: str
    did: Path
    """Gets a line each time that this unit has been worked on to its end."""


@functools.cache
def _held(pid: int) -> bool:
    """Stop a process as a debugger does: no signal but SIGKILL wakes it, and it ends with this one.

    SIGSTOP alone is undone by the SIGCONT that Slurm sends before it kills, and a busy machine would let the process
    hear its warning then. False where debugging another process is not allowed.
    """
    ask = ctypes.CDLL(None, use_errno=True).ptrace
    ask.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    return bool(ask(_SEIZE, pid, None, _EXIT_KILL) == 0 and ask(_INTERRUPT, pid, None, None) == 0)


def work(job: Job) -> Outcome:
    """Do what the words of the text say, one after the other, then leave the text as the output."""
    name = job.output.name
    for word in job.text.split():
        deed, _, value = word.partition("=")
        once = job.did.with_name(f"{deed}-{name}")
        if deed == "sleep":
            time.sleep(float(value))
        elif deed == "take":  # so many MiB, and keep them a while
            taken = bytearray(int(value) << 20)
            taken[:: 1 << 12] = b"x" * len(taken[:: 1 << 12])
            time.sleep(4)
        elif deed == "wait":  # until the file of that name is there
            while not (job.did.parent / value).exists():
                time.sleep(0.05)
        elif deed in {"die", "freeze"} and not once.exists():
            once.touch()
            while deed == "freeze":  # also the process that watches this one, and do not heed any warning
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                if not _held(os.getppid()):
                    os.kill(os.getppid(), signal.SIGSTOP)
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGKILL)
        elif deed == "tell":
            written = job.did.with_name(f"telling-{name}")
            written.write_text(f"{os.getpid()} {os.getppid()}")
            written.replace(job.did.with_name(f"pid-{name}"))  # the test reads it as soon as it is there
    with job.did.open("a") as did:
        did.write(f"{name} {job.text}\n")
    job.output.write_text(job.text)
    return Outcome(facts={"at": time.time(), "job": os.environ.get("SLURM_JOB_ID", "")})


@dataclass
class Spec:
    """What a run is to do."""

    texts: dict[str, str]
    executor: ExecutorName = ExecutorName.SLURM
    site: SlurmSite = field(default_factory=lambda: SlurmSite(at_once=2))
    resources: Resources = field(default_factory=lambda: Resources(minutes=5, memory_gb=0.5))


SPEC = TypeAdapter(Spec)


def run(folder: Path, spec: Spec) -> UnitSummary:
    """Run the units of `spec` in `folder`."""
    (folder / "out").mkdir(exist_ok=True, parents=True)
    units = [
        Unit(
            id=name,
            key=unit_key(inputs={"text": text}, params={}, code={}, libraries={}),
            outputs=(folder / "out" / name,),
            payload=Job(output=folder / "out" / name, text=text, did=folder / "did"),
        )
        for name, text in spec.texts.items()
    ]
    running = folder / "running" / "trial"
    slurm = spec.site.model_copy(update={"resources": {Modality.EEG: spec.resources}})
    site = UnitsSite(workers=2, executor=spec.executor, slurm=slurm)
    executor = open_executor(work, site=site, modality=Modality.EEG, running=running)
    return run_units(
        units, executor=executor, book=ReceiptBook(folder / "receipts.jsonl", running=running), title="trial"
    )


if __name__ == "__main__":
    import tests.integration.slurm.stage as module  # by its name, so that what is pickled is found on a node

    summary = module.run(Path(sys.argv[1]), module.SPEC.validate_json(sys.argv[2]))
    sys.stdout.write(f"{summary.ran} ran, failed: {list(summary.failed)}\n")
