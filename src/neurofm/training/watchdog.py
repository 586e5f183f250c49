"""Watchdog: trains every fold in a process of its own, and sees to it that they end well.

A step that does not end within its limit (a driver, a network disk, a deadlock) cannot be ended from within. The
watchdog asks the process to keep what it has learned, kills it, and lets another go on from what was kept. The same
follows when a process is killed by others, as by the kernel where memory is short.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import wait

from neurofm.errors import UserError
from neurofm.training.fold import FoldResult
from neurofm.training.site import TrainingSite
from neurofm.training.stopping import SIGNALS, Stopped, Stopping
from neurofm.training.watched import KEEP, Answer, Heartbeat, TrainFold, train_watched

_LOOK_EVERY_S = 0.2
_KEEP_S = 10.0
"""Longest that a hung process may take to keep what it has learned."""
_GONE_S = 5.0
"""Longest that the end of a killed process is waited for: one that waits for a driver or a disk may never end."""
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
        context = get_context("spawn")
        self.heartbeat = Heartbeat(context)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=train_watched,
            args=(self._train, self.fold),
            kwargs={"heartbeat": self.heartbeat, "connection": theirs, "environment": self._environment},
        )
        with _ignored(signal.SIGINT):  # A Ctrl-C is for the watchdog, also while the other is being loaded.
            self.process.start()
        theirs.close()

    def look(self) -> None:
        """Take an answer, and see to a process that hangs or is gone."""
        limit = self._site.step_limit_s
        if self.connection.poll():
            self._take()
        elif not self.process.is_alive():
            if self.connection.poll():  # It answered and ended between the two questions.
                self._take()
            else:
                self._gone()
        elif limit is not None and self.heartbeat.seconds > limit:
            what = f"{self.heartbeat.what} did not end within {limit:g} s"
            self._go_on(f"{what}; it was ended, and {self.end_hung()}")

    def _take(self) -> None:
        try:
            answer: Answer = self.connection.recv()
        except (EOFError, OSError):  # Killed, perhaps in the middle of its answer.
            self._bury()
            self._gone()
            return
        if answer.error is not None:
            raise answer.error
        if answer.trace:
            raise TrainingCrashed(f"{self.who}:\n{answer.trace}")
        self.result = answer.result
        self.process.join(_GONE_S)
        self._bury()

    def _bury(self) -> None:
        """Kill the process, and do not wait for ever for its end."""
        self.process.kill()
        self.process.join(_GONE_S)
        if self.process.is_alive():
            sys.stderr.write(
                f"{self.who}: process {self.process.pid} waits for the system and does not end; it is left\n"
            )

    def _gone(self) -> None:
        """See why it ended without an answer."""
        code = self.process.exitcode or 0
        for signum in SIGNALS:  # heard, or too early to be
            if code in {128 + signum, -signum}:
                raise Stopped(signum)
        ended = signal.Signals(-code).name if code < 0 else f"code {code}"
        at = f" at {self.heartbeat.what}" if self.heartbeat.what else ""
        self._go_on(f"its process was ended by {ended}{at}")

    def _go_on(self, fault: str) -> None:
        """Start anew, if that may be done once more."""
        self._faults += 1
        if self._site.after_hang == "stop" or self._faults > self._site.most_hangs:
            raise UserError(
                f"{self.who}: {fault}; {self._faults} such faults.",
                mend="run it again: it goes on from its last kept state; `training` in site.yaml has the limits",
            )
        sys.stderr.write(f"{self.who}: {fault}; it {_ON[self._site.after_hang]}\n")
        self._environment = _ENVIRONMENTS[self._site.after_hang]
        self.connection.close()
        self._start()

    def end_hung(self) -> str:
        """Have what was learned kept, kill the process, and say what came of it."""
        self.ask_to_keep()
        return self.end_asked(until=time.monotonic() + _KEEP_S)

    def ask_to_keep(self) -> None:
        """Ask the process to keep what it learned."""
        with suppress(OSError):
            self.connection.send(KEEP)

    def end_asked(self, *, until: float) -> str:
        """Kill the process once it has kept what it learned, or it is that late."""
        kept = "what it learned since its last validation is lost"
        try:
            if self.connection.poll(max(0.0, until - time.monotonic())):
                answer = self.connection.recv()
                if answer.kept:
                    kept = "what it had learned is kept"
                if answer.where:
                    kept += f" (it was at {answer.where})"
        except (OSError, EOFError):
            pass
        self._bury()
        return kept


def train_folds(train: TrainFold, folds: Sequence[int], *, workers: int, site: TrainingSite) -> list[FoldResult]:
    """Train folds, `workers` at a time.

    Parameters
    ----------
    train
        Trains one; must be importable.
    folds
        Their numbers.
    workers
        Processes.
    site
        How long a step may take, and what follows.

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
            looked = time.monotonic()
            while (waiting or running) and stopping.signum is None:
                while waiting and len(running) < workers:
                    running.append(_Training(train, waiting.pop(0), site=site))
                wait([one.connection for one in running] + [one.process.sentinel for one in running], _LOOK_EVERY_S)
                since, looked = time.monotonic() - looked, time.monotonic()
                for one in running:
                    if since > _STOPPED_S:
                        one.heartbeat.forgive(since)
                    one.look()
                    if one.result is not None:
                        done[one.fold] = one.result
                running = [one for one in running if one.result is None]
            if stopping.signum is not None:
                _end(running, signum=stopping.signum)
    finally:
        _end(running, signum=signal.SIGTERM)
    return [done[fold] for fold in folds]


@contextmanager
def _ignored(signum: int) -> Iterator[None]:
    """Ignore a signal, as processes that are started meanwhile do from their first moment on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signum, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signum, before)


def _end(running: Sequence[_Training], *, signum: int) -> None:
    """Let every process keep what it learned and end, and end those that do not."""
    alive = [one for one in running if one.process.is_alive()]
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
