"""One process against two: ``python -m benchmarks.train_scaling SETTINGS``, prints JSON rows.

Data-parallel training of neurofm's network as `neurofm.training` does it (Lightning Fabric; gloo on CPUs, nccl on GPUs;
gradients are added up in one order after each backward), one core or GPU per process, the same number of windows per
process. By the clock it needs as many quiet cores as processes; `by CPU time` is what would
be left of 2 if nothing else ran: exchanging gradients and sharing memory count, waiting for the other does not.

The same processes take turns: each steps alone while the others sleep, then all step together, over and over.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.multiprocessing.spawn import spawn

from benchmarks.loader_windows import Row, printed, row
from benchmarks.train_ours import trainee
from benchmarks.train_steps import Steps
from benchmarks.train_windows import Settings
from neurofm.training.processes import Processes, joined
from neurofm.training.site import TrainingSite
from neurofm.training.step import Gradients

PROCESSES = 2
TURN = 4
"""Steps on end; the first of a turn finds cold caches, and is not counted."""
_MOST = 1.02 * PROCESSES
"""More cannot be; what is above by more than rounding and luck is not written down."""
Seconds = dict[str, list[float]]
"""Of each step, by each clock."""


def main(settings: Settings) -> list[Row]:
    """Return how many times faster two processes are, 2 at best.

    Raises
    ------
    SystemExit
        If they seem to be faster than that.
    """
    if settings["device"] == "cuda" and torch.cuda.device_count() < PROCESSES:
        return []
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        spawn(_train, args=(settings, port, folder), nprocs=PROCESSES)  # type: ignore[no-untyped-call]
        found = [json.loads(path.read_text()) for path in Path(folder).iterdir()]
    case, who = f"{settings['size']}, {settings['modality']}", settings["who"]
    times = {
        clock: scaling([one["alone"][clock] for one in found], [one["together"][clock] for one in found])
        for clock in found[0]["alone"]
    }
    wrong = {clock: value for clock, value in times.items() if value > _MOST}
    if wrong:
        raise SystemExit(f"scaling of {PROCESSES} processes: {wrong} cannot be, other work ran on these cores")
    return [
        row(f"scaling 1 -> {PROCESSES} processes {case}{clock}", who, value, "times") for clock, value in times.items()
    ]


def scaling(alone: list[list[float]], together: list[list[float]]) -> float:
    """Return how many times as many windows a second all take together as one of them alone.

    Parameters
    ----------
    alone, together
        [process][step] seconds. Together the slowest counts, alone the mean process, because cores may differ.
    """
    return (
        len(together)
        * statistics.mean(statistics.median(steps) for steps in alone)
        / max(statistics.median(steps) for steps in together)
    )


def _train(rank: int, settings: Settings, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    places = {"NODE_RANK": "0", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= places
    with joined(TrainingSite(processes=PROCESSES, device=settings["device"])) as joint:
        took = _turns(joint, settings)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(took))


def _turns(joint: Processes, settings: Settings) -> dict[str, Seconds]:
    """Take turns until time is up, and return what this process's steps took."""
    steps = Steps(trainee(settings), device=settings["device"])  # Fabric has chosen which of them.

    def exchange() -> None:
        sums = Gradients(steps.network, joint)
        sums.keep()
        sums.give(share=1 / joint.count)

    nothing = steps.exchange
    alone, together = _clocks(settings), _clocks(settings)
    began, spent_ms, step = time.perf_counter(), 0, joint.rank
    while not together[""] or spent_ms < 1000 * settings["seconds"]:
        for rank in range(joint.count):
            joint.most(0)  # The others wait here until the one is done.
            if rank == joint.rank:
                _turn(steps, step, alone, exchange=nothing)
        joint.most(0)
        _turn(steps, step, together, exchange=exchange)
        spent_ms = joint.most(int(1000 * (time.perf_counter() - began)))  # All end after the same turn.
        step += TURN * joint.count
    return {"alone": alone, "together": together}


def _clocks(settings: Settings) -> Seconds:
    clocks = ("", ", by CPU time") if settings["device"] == "cpu" else ("",)
    return {clock: [] for clock in clocks}


def _turn(steps: Steps, first: int, took: Seconds, *, exchange: Callable[[], None]) -> None:
    """Take a few steps on the same windows as in the turns before and after it, and write down their seconds."""
    steps.exchange = exchange
    for step in range(TURN):
        began, cpu_began = time.perf_counter(), time.process_time()
        steps.learn(steps.inputs(first + step * PROCESSES))
        if steps.device == "cuda":
            torch.cuda.synchronize()
        spent = time.perf_counter() - began, time.process_time() - cpu_began
        if step:
            for seconds, clock in zip(took.values(), spent, strict=False):
                seconds.append(clock)


if __name__ == "__main__":
    print(printed(main(json.loads(sys.argv[1]))))
