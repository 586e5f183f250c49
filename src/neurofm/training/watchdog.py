"""Watchdog: trains every fold in a process of its own, and sees to it that they end well.

A step that does not end within its limit (a driver, a network disk, a deadlock) cannot be ended from within. The
watchdog asks the process to keep what it has learned, kills it, and lets another go on from what was kept. The same
follows when a process is killed by others, as by the kernel where memory is short.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import wait

from neurofm.errors import UserError
from neurofm.training.fold import FoldResult
from neurofm.training.rank import Rank, seats
from neurofm.training.site import TrainingSite
from neurofm.training.stopping import SIGNALS, Stopped, Stopping
from neurofm.training.watched import TrainFold

_LOOK_EVERY_S = 0.2
_KEEP_S = 10.0
"""Longest that a hung process may take to keep what it has learned."""
_CULPRIT_S = 5.0
"""Longest that is waited for the process that the others miss to say why it ended."""
_STOPPED_S = 10.0
"""Two looks further apart than this: everything was stopped meanwhile (Ctrl-Z, a suspended job), training too."""
_END_S = 15.0
"""Longest that a process may take to end by itself after a signal: with `_KEEP_S`, less than the 30 s of Slurm."""
_ENVIRONMENTS = {"cpu": {"CUDA_VISIBLE_DEVICES": ""}, "resume": {}}
_ON = {"cpu": "goes on from there on the CPU", "resume": "goes on from there"}


class TrainingCrashed(Exception):
    """A training process ended by an error that is no user's mistake; its trace is in the text."""


class _Training:
    """One fold in training."""

    def __init__(self, train: TrainFold, fold: int, *, site: TrainingSite) -> None:
        self.fold = fold
        self.who = f"pretrain fold {fold}"
        self.result: FoldResult | None = None
        self._train = train
        self._site = site
        self._faults = 0
        self._environment: dict[str, str] = {}
        self._start()

    def _start(self) -> None:
        self._parted: float | None = None
        """Since when a process misses another."""
        self.ranks = [
            Rank(self._train, self.fold, who=self.who, environment=self._environment | seat)
            for seat in seats(self._site, fold=self.fold)
        ]

    def look(self) -> None:
        """Take answers, and see to processes that hang or are gone."""
        gone = [rank for rank in self.ranks if not rank.listen()]
        answers = [rank.answer for rank in self.ranks if rank.answer is not None]
        for answer in answers:
            if answer.error is not None:
                raise answer.error
            if answer.trace:
                raise TrainingCrashed(f"{self.who}:\n{answer.trace}")
        oldest = max(self.ranks, key=lambda rank: rank.heartbeat.seconds)
        limit = self._site.step_limit_s
        if gone:
            self._gone(gone[0])
        elif parted := [answer.peer_gone for answer in answers if answer.peer_gone]:
            self._parted = self._parted or time.monotonic()
            if time.monotonic() - self._parted > _CULPRIT_S:
                self._go_on(f"a process lost the others ({parted[0]})")
        elif len(answers) == len(self.ranks):
            self.result = answers[0].result
            for rank in self.ranks:
                rank.close()
        elif limit is not None and oldest.heartbeat.seconds > limit:
            what = f"{oldest.heartbeat.what} did not end within {limit:g} s"
            self.ranks[0].ask_to_keep()
            self._go_on(f"{what}; it was ended, and {self.ranks[0].end_asked(until=time.monotonic() + _KEEP_S)}")

    def _gone(self, rank: Rank) -> None:
        """See why it ended without an answer."""
        code = rank.process.exitcode or 0
        for signum in SIGNALS:  # heard, or too early to be
            if code in {128 + signum, -signum}:
                raise Stopped(signum)
        ended = signal.Signals(-code).name if code < 0 else f"code {code}"
        at = f" at {rank.heartbeat.what}" if rank.heartbeat.what else ""
        until = time.monotonic() + _KEEP_S
        for other in self.ranks:  # They notice it, and the first keeps what it has learned.
            other.process.join(max(0.0, until - time.monotonic()))
        self._go_on(f"its process was ended by {ended}{at}")

    def _go_on(self, fault: str) -> None:
        """Start anew, if that may be done once more."""
        self._faults += 1
        for rank in self.ranks:
            rank.bury()
            rank.connection.close()
        # Those on other machines have other watchdogs: all end, and Slurm starts all of them anew.
        if self._site.after_hang == "stop" or self._faults > self._site.most_hangs or self._site.nodes > 1:
            raise UserError(
                f"{self.who}: {fault}; {self._faults} such faults.",
                mend="run it again: it goes on from its last kept state; `training` in site.yaml has the limits",
            )
        sys.stderr.write(f"{self.who}: {fault}; it {_ON[self._site.after_hang]}\n")
        self._environment = _ENVIRONMENTS[self._site.after_hang]
        self._start()


def train_folds(train: TrainFold, folds: Sequence[int], *, workers: int, site: TrainingSite) -> list[FoldResult]:
    """Train folds, `workers` at a time.

    Parameters
    ----------
    train
        Trains one; must be importable.
    folds
        Their numbers.
    workers
        Processes, of which `site.processes` train a fold together.
    site
        How many, how long a step may take, and what follows.

    Returns
    -------
    [fold] in their order.

    Raises
    ------
    UserError
        As `train` does, or after too many faults.
    Stopped
        After SIGTERM or SIGUSR1, when every fold has kept its state.
    TrainingCrashed
        As `train` does otherwise.
    """
    waiting, done = list(folds), dict[int, FoldResult]()
    running: list[_Training] = []
    try:
        with Stopping() as stopping, stopping.held():
            looked, at_once = time.monotonic(), max(1, workers // site.processes)
            while (waiting or running) and stopping.signum is None:
                while waiting and len(running) < at_once:
                    running.append(_Training(train, waiting.pop(0), site=site))
                ranks = [rank for one in running for rank in one.ranks if rank.answer is None]
                wait([rank.connection for rank in ranks] + [rank.process.sentinel for rank in ranks], _LOOK_EVERY_S)
                since, looked = time.monotonic() - looked, time.monotonic()
                for one in running:
                    if since > _STOPPED_S:
                        for rank in one.ranks:
                            rank.heartbeat.forgive(since)
                    one.look()
                    if one.result is not None:
                        done[one.fold] = one.result
                running = [one for one in running if one.result is None]
            if stopping.signum is not None:
                _end(running, signum=stopping.signum)
    finally:
        _end(running, signum=signal.SIGTERM)
    return [done[fold] for fold in folds]


def _end(running: Sequence[_Training], *, signum: int) -> None:
    """Let every process keep what it learned and end, and end those that do not."""
    alive = [rank for one in running for rank in one.ranks if rank.process.is_alive()]
    for one in alive:
        with suppress(ProcessLookupError):
            os.kill(one.process.pid or 0, signum)
    until = time.monotonic() + _END_S
    for one in alive:
        one.process.join(max(0.0, until - time.monotonic()))
    left = [one for one in alive if one.process.is_alive()]
    for one in left:
        one.ask_to_keep()
    until = time.monotonic() + _KEEP_S
    for one in left:
        sys.stderr.write(f"{one.who}: {one.heartbeat.what} does not end; {one.end_asked(until=until)}\n")
