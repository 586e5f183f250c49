"""Stopping: SIGTERM and SIGUSR1 end a training between two bytecodes, but never in the middle of an update.

Slurm sends them when a walltime or a preemption is near, clouds when a machine is taken away, people with ``kill``.
What follows is `Stopped`, which keeps the state on its way out. Whether the job comes back is Slurm's business
(``sbatch --requeue``, or ``RequeueExit=138,143`` in slurm.conf for jobs that are only warned).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class Stopped(SystemExit):
    """A signal ended the training: the exit code is 128 + the signal's number, as shells and Slurm have it."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum

    @property
    def name(self) -> str:
        """Name of the signal."""
        return signal.Signals(self.signum).name


class PeerGone(Exception):
    """Another process that trains the same model ended, or never came: what it was waited for does not come."""


class Stopping:
    """While it is entered, the first of `SIGNALS` raises `Stopped`; further ones change nothing.

    Where another thread than the main one trains, no signal can be heard and those who send them kill.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        """The signal that was heard."""
        self.unchanged = threading.Lock()
        """Who has it knows that no update is under way, and keeps one from beginning."""
        self._held = False
        self._noted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.signal(signum, self._hear) for signum in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let a signal wait for the end of the block, which changes what is kept of a training."""
        self._held = True
        try:
            with self.unchanged:
                yield
        finally:
            self._held = False
            if self.signum is not None and not self._noted:
                raise Stopped(self.signum)

    @contextmanager
    def noted(self, is_noted: bool) -> Iterator[None]:  # noqa: FBT001  # the only thing to say
        """Only note a signal within the block, which looks at `signum` or calls `heed` where it can end."""
        self._noted = is_noted
        try:
            yield
        finally:
            self._noted = False

    def heed(self) -> None:
        """End if a signal was noted."""
        if self.signum is not None:
            raise Stopped(self.signum)

    def _hear(self, signum: int, _: FrameType | None) -> None:
        if self.signum is not None:
            return
        self.signum = signum
        if not self._held and not self._noted:
            raise Stopped(signum)
