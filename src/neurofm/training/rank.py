"""Rank: one of the processes that train a fold, as the watchdog sees it, and where it finds the others."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import get_context

from neurofm.errors import UserError
from neurofm.training.site import TrainingSite
from neurofm.training.watched import KEEP, Answer, Heartbeat, TrainFold, train_watched

_GONE_S = 5.0
"""Longest that the end of a killed process is waited for: one that waits for a driver or a disk may never end."""
_PORTS = range(15_000, 31_000)
"""Below those that Linux gives to whoever asks for any."""


class Rank:
    """One process in training.

    Parameters
    ----------
    train, fold
        What it does.
    who
        For messages.
    environment
        Variables that it is started with.
    """

    def __init__(self, train: TrainFold, fold: int, *, who: str, environment: Mapping[str, str]) -> None:
        self.who = who
        self.answer: Answer | None = None
        """How it ended."""
        context = get_context("spawn")
        self.heartbeat = Heartbeat(context)
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=train_watched,
            args=(train, fold),
            kwargs={"heartbeat": self.heartbeat, "connection": theirs, "environment": environment},
        )
        with _ignored(signal.SIGINT):  # A Ctrl-C is for the watchdog, also while the other is being loaded.
            self.process.start()
        theirs.close()

    def listen(self) -> bool:
        """Take its answer if there is one; False if it is gone without."""
        if self.answer is not None:
            return True
        was_alive = self.process.is_alive()
        if self.connection.poll():  # Asked last: it may answer and end between two questions.
            try:
                self.answer = self.connection.recv()
            except (EOFError, OSError):  # Killed, perhaps in the middle of its answer.
                self.bury()
                return False
        return self.answer is not None or was_alive

    def bury(self) -> None:
        """Kill the process, and do not wait for ever for its end."""
        self.process.kill()
        self.process.join(_GONE_S)
        if self.process.is_alive():
            sys.stderr.write(
                f"{self.who}: process {self.process.pid} waits for the system and does not end; it is left\n"
            )

    def close(self) -> None:
        """Wait for the end of a process that has answered."""
        self.process.join(_GONE_S)
        self.bury()
        self.connection.close()

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
        self.bury()
        return kept


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


def seats(site: TrainingSite, *, fold: int) -> list[dict[str, str]]:
    """Return the variables by which each process that is to be started here finds its place among the others.

    Raises
    ------
    UserError
        If several machines are to train, and Slurm has not started as many tasks.
    """
    if site.count == 1:
        return [{}]
    if site.nodes == 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        places = {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        return [places | {"LOCAL_RANK": str(rank)} for rank in range(site.processes)]
    tasks = os.environ.get("SLURM_NTASKS", "no")
    if "SLURM_PROCID" not in os.environ or tasks != str(site.count):
        raise UserError(
            f"pretrain: `training` in site.yaml has {site.nodes} nodes of {site.processes} processes, and Slurm has "
            f"started {tasks} tasks.",
            mend=f"start it with `srun --nodes={site.nodes} --ntasks-per-node={site.processes}`",
        )
    job = int(os.environ["SLURM_JOB_ID"])
    return [{"MASTER_PORT": str(_PORTS[(16 * job + fold) % len(_PORTS)])}]


def is_first(site: TrainingSite) -> bool:
    """Whether this process writes results: of several that Slurm has started one does."""
    return site.nodes == 1 or os.environ.get("SLURM_PROCID", "0") == "0"
