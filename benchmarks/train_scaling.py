"""One process against two: ``python -m benchmarks.train_scaling SETTINGS``, prints JSON rows.

Data-parallel training of neurofm's network as `neurofm.training` does it (Lightning Fabric; gloo on CPUs, nccl on GPUs;
gradients are added up in one order after each backward), one core or GPU per process, the same number of windows per
process. `by CPU time` is what would be left of 2 if nothing else ran: exchanging gradients and sharing memory count,
waiting for the other does not.

The same processes take turns: each steps alone while the others sleep, then all step together on the same windows, over
and over. By the clock only rounds count in which each process alone got its core, clock and CPU-seconds being equal to
5 %, before and after; if there are too few, there is no figure by the clock. What cannot be (more than 2) is refused.

Earlier all steps of one process came first, and two new processes followed. That gave 2.5 to 5.2 where 2 is the most.
It was not the work: a step's CPU-seconds were 0.32 alone and 0.39 together in that way, and are 0.36 and 0.37 in turns,
with one thread, equal shapes and no denormal number in the optimiser's moments. So seconds of the clock were lost while
one process was alone: the two figures were taken at different times, and what else ran in the first stretch and not in
the second raises their ratio. What that was, a later look could not tell.
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
_DISTURBED = 1.05
"""Seconds of the clock per CPU-second of a process that steps alone, above which something else had its core."""
FEWEST = 5
"""Rounds to take medians of."""
_MOST = 1.02 * PROCESSES
"""More cannot be; what is above by more than rounding and luck is not written down."""
ALONE, TOGETHER = "alone", "together"
CLOCK, CPU = "", ", by CPU time"
Seconds = dict[str, list[float]]
"""Of the steps of a turn, by each clock."""
Round = dict[str, Seconds]
"""Of one process: a turn alone, and one together with all."""


def main(settings: Settings) -> list[Row]:
    """Return how many times faster two processes are, 2 at best; by CPU time alone where the cores were not quiet.

    Raises
    ------
    SystemExit
        If they seem to be faster than that, or nothing could be measured.
    """
    if settings["device"] == "cuda" and torch.cuda.device_count() < PROCESSES:
        return []
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        spawn(_train, args=(settings, port, folder), nprocs=PROCESSES)  # type: ignore[no-untyped-call]
        found: list[list[Round]] = [json.loads(path.read_text()) for path in sorted(Path(folder).iterdir())]
    return rows_of(found, settings)


def rows_of(found: list[list[Round]], settings: Settings) -> list[Row]:
    """Make the rows of what was measured, [process][round]."""
    kept = {CLOCK: quiet(found)} | ({CPU: found} if CPU in found[0][0][ALONE] else {})
    rounds = {clock: len(those[0]) for clock, those in kept.items()}
    times = {clock: scaling(those, clock=clock) for clock, those in kept.items() if rounds[clock] >= FEWEST}
    why_not = f"the cores were quiet in {rounds[CLOCK]} of {len(found[0])} rounds, it takes {FEWEST}"
    wrong = {clock: value for clock, value in times.items() if value > _MOST}
    if wrong or not times:
        raise SystemExit(f"scaling of {PROCESSES} processes: {f'{wrong} cannot be' if wrong else why_not}")
    if CLOCK not in times:
        sys.stderr.write(f"scaling of {PROCESSES} processes: by CPU time only, {why_not}\n")
    case, who = f"scaling 1 -> {PROCESSES} processes {settings['size']}, {settings['modality']}", settings["who"]
    return [
        row(f"{case}{clock}", who, value, "times") | {"rounds": rounds[clock], "of_rounds": len(found[0])}
        for clock, value in times.items()
    ]


def quiet(found: list[list[Round]]) -> list[list[Round]]:
    """Leave out rounds that were disturbed, as the turns alone before and after them show.

    Turns together do not judge themselves: waiting for the other looks like being disturbed.
    """

    def undisturbed(number: int) -> bool:
        turns = [rounds[number][ALONE] for rounds in found]
        return all(sum(turn[CLOCK]) <= _DISTURBED * sum(turn.get(CPU, turn[CLOCK])) for turn in turns)

    fine = [undisturbed(number) for number in range(len(found[0]))]
    kept = [number for number in range(len(fine) - 1) if fine[number] and fine[number + 1]]
    return [[rounds[number] for number in kept] for rounds in found]


def scaling(found: list[list[Round]], *, clock: str) -> float:
    """Return how many times as many windows a second all take together as one of them alone.

    Parameters
    ----------
    found
        [process][round]. Together the slowest counts, alone the mean process, because cores may differ.
    clock
        Which.
    """

    def median(rounds: list[Round], how: str) -> float:
        return statistics.median(step for one in rounds for step in one[how][clock])

    alone = statistics.mean(median(rounds, ALONE) for rounds in found)
    return len(found) * alone / max(median(rounds, TOGETHER) for rounds in found)


def _train(rank: int, settings: Settings, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    places = {"NODE_RANK": "0", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= places
    with joined(TrainingSite(processes=PROCESSES, device=settings["device"])) as joint:
        rounds = _rounds(joint, settings)
    (Path(folder) / f"{rank}.json").write_text(json.dumps(rounds))


def _rounds(joint: Processes, settings: Settings) -> list[Round]:
    """Take turns until time is up, and return what this process's steps took."""
    steps = Steps(trainee(settings), device=settings["device"])  # Fabric has chosen which of them.

    def exchange() -> None:
        sums = Gradients(steps.network, joint)
        sums.keep()
        sums.give(share=1 / joint.count)

    nothing = steps.exchange
    rounds: list[Round] = []
    began, spent_ms = time.perf_counter(), 0
    while len(rounds) <= 1 or spent_ms < 1000 * settings["seconds"]:
        first = len(rounds) * TURN * joint.count + joint.rank
        one: Round = {}
        for rank in range(joint.count):
            joint.most(0)  # The others wait here until the one is done.
            if rank == joint.rank:
                one[ALONE] = _turn(steps, first, exchange=nothing)
        joint.most(0)
        one[TOGETHER] = _turn(steps, first, exchange=exchange)
        rounds.append(one)
        spent_ms = joint.most(int(1000 * (time.perf_counter() - began)))  # All end after the same round.
    return rounds[1:]  # The first warms up.


def _turn(steps: Steps, first: int, *, exchange: Callable[[], None]) -> Seconds:
    """Take a few steps, on the same windows alone and together, and return their seconds."""
    steps.exchange = exchange
    took: Seconds = {clock: [] for clock in ((CLOCK, CPU) if steps.device == "cpu" else (CLOCK,))}
    for step in range(TURN):
        began, cpu_began = time.perf_counter(), time.process_time()
        steps.learn(steps.inputs(first + step * PROCESSES))
        if steps.device == "cuda":
            torch.cuda.synchronize()
        spent = time.perf_counter() - began, time.process_time() - cpu_began
        if step:
            for seconds, one in zip(took.values(), spent, strict=False):
                seconds.append(one)
    return took


if __name__ == "__main__":
    print(printed(main(json.loads(sys.argv[1]))))
