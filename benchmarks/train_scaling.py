"""One process against two: ``python -m benchmarks.train_scaling SETTINGS``, prints JSON rows.

Data-parallel training of neurofm's network (PyTorch DDP: gloo on CPUs, nccl on GPUs), one core or GPU per process, the
same number of windows per process. By the clock it needs as many quiet cores as processes; `by CPU time` is what would
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
from torch import distributed
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.loader_windows import Row, printed, row
from benchmarks.train_ours import trainee
from benchmarks.train_steps import Steps
from benchmarks.train_windows import Settings

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
    device = settings["device"]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo" if device == "cpu" else "nccl", rank=rank, world_size=processes)
    if device == "cuda":
        torch.cuda.set_device(rank)
    steps = Steps(trainee(settings), device=device)
    # Some parts of a network may have no use in a step: channels of a modality that is not drawn.
    steps.called = DistributedDataParallel(steps.network, find_unused_parameters=True)
    took: list[float] = []
    worked: list[float] = []
    spent, step = torch.zeros(1), 0
    while step <= _WARM_UP or spent.item() < settings["seconds"]:
        distributed.barrier()
        began, cpu_began = time.perf_counter(), time.process_time()
        steps.learn(steps.inputs(step * processes + rank))
        if device == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
        worked.append(time.process_time() - cpu_began)
        # All end after the same step.
        spent = torch.tensor([sum(took)])
        distributed.all_reduce(spent, op=distributed.ReduceOp.MAX)
        step += 1
    clocks = {"": took} | ({", by CPU time": worked} if device == "cpu" else {})
    medians = {clock: statistics.median(values[_WARM_UP:]) for clock, values in clocks.items()}
    (Path(folder) / f"{rank}.json").write_text(json.dumps(medians))
    distributed.destroy_process_group()


if __name__ == "__main__":
    print(printed(main(json.loads(sys.argv[1]))))
