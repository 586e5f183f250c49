"""One process against two: ``python -m benchmarks.train_scaling SETTINGS``, prints JSON rows.

Data-parallel training of neurofm's network as `neurofm.training` does it (Lightning Fabric; gloo on CPUs, nccl on GPUs;
gradients are added up in one order after each backward), one core or GPU per process, the same number of windows per
process. By the clock it needs as many quiet cores as processes; `by CPU time` is what would
be left of 2 if nothing else ran: exchanging gradients and sharing memory count, waiting for the other does not.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import tempfile
import time
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
_WARM_UP = 2


def main(settings: Settings) -> list[Row]:
    """Return how many times faster two processes are, 2 at best."""
    if settings["device"] == "cuda" and torch.cuda.device_count() < PROCESSES:
        return []
    one, two = (_step_s(settings, processes=processes) for processes in (1, PROCESSES))
    case, who = f"{settings['size']}, {settings['modality']}", settings["who"]
    return [
        row(f"scaling 1 -> {PROCESSES} processes {case}{clock}", who, PROCESSES * one[clock] / two[clock], "times")
        for clock in one
    ]


def _step_s(settings: Settings, *, processes: int) -> dict[str, float]:
    """Median seconds of a step by each clock, of the slowest process."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        spawn(_train, args=(settings, processes, port, folder), nprocs=processes)  # type: ignore[no-untyped-call]
        found = [json.loads(path.read_text()) for path in Path(folder).iterdir()]
    return {clock: max(one[clock] for one in found) for clock in found[0]}


def _train(rank: int, settings: Settings, processes: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    places = {"NODE_RANK": "0", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= places
    with joined(TrainingSite(processes=processes, device=settings["device"])) as joint:
        _learn(joint, settings, folder=folder)


def _learn(joint: Processes, settings: Settings, *, folder: str) -> None:
    device = settings["device"]
    steps = Steps(trainee(settings), device=device)  # Fabric has chosen which of them.

    def exchange() -> None:
        sums = Gradients(steps.network, joint)
        sums.keep()
        sums.give(share=1 / joint.count)

    if joint.count > 1:
        steps.exchange = exchange
    took: list[float] = []
    worked: list[float] = []
    spent_ms, step = 0, 0
    while step <= _WARM_UP or spent_ms < 1000 * settings["seconds"]:
        joint.most(0)  # All begin at once.
        began, cpu_began = time.perf_counter(), time.process_time()
        steps.learn(steps.inputs(step * joint.count + joint.rank))
        if device == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
        worked.append(time.process_time() - cpu_began)
        spent_ms = joint.most(int(1000 * sum(took)))  # All end after the same step.
        step += 1
    clocks = {"": took} | ({", by CPU time": worked} if device == "cpu" else {})
    medians = {clock: statistics.median(values[_WARM_UP:]) for clock, values in clocks.items()}
    (Path(folder) / f"{joint.rank}.json").write_text(json.dumps(medians))


if __name__ == "__main__":
    print(printed(main(json.loads(sys.argv[1]))))
