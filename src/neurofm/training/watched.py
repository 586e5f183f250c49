"""Watched: one fold's training in a process of its own, which tells by a heartbeat that it goes on.

The heartbeat lies in memory that both processes see, so that it costs nothing. A thread of the training process waits
for the watchdog to ask that what was learned be kept: it can do so while the main thread hangs in a library or a
driver. The thread ends the process when the watchdog is gone.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from typing import TYPE_CHECKING, Protocol

from neurofm.errors import UserError
from neurofm.training.guard import Guard
from neurofm.training.stopping import PeerGone

if TYPE_CHECKING:  # A process that is started loads what it needs, and that takes long enough.
    from neurofm.training.fold import FoldResult

_TEXT_BYTES = 200
KEEP = "keep"
"""What the watchdog asks for."""


class Heartbeat:
    """When a training said that it goes on, and with what; seen by both processes."""

    def __init__(self, context: SpawnContext) -> None:
        self._since = context.RawValue(ctypes.c_double, 0.0)
        self._what = context.RawArray(ctypes.c_char, _TEXT_BYTES)

    def beat(self, what: str) -> None:
        """Say what is done from now on."""
        self._what.value = what.encode(errors="replace")[: _TEXT_BYTES - 1]
        # One clock for all processes of a machine.
        self._since.value = time.monotonic()

    def rest(self) -> None:
        """Say that nothing is to be timed from now on."""
        self._since.value = 0.0

    def forgive(self, seconds: float) -> None:
        """Do not count time during which nothing ran."""
        if self._since.value:
            self._since.value += seconds

    @property
    def seconds(self) -> float:
        """Time since the latest beat; 0 at rest."""
        since = float(self._since.value)
        return time.monotonic() - since if since else 0.0

    @property
    def what(self) -> str:
        """What the latest beat said."""
        return bytes(self._what.value).decode(errors="replace")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a training process sends: that it kept something, or how it ended."""

    kept: bool | None = None
    """Whether what was asked for was kept."""
    where: str = ""
    """Where the main thread was then."""
    result: FoldResult | None = None
    error: UserError | None = None
    trace: str = ""
    """Of an error that is no user's mistake."""
    peer_gone: str = ""
    """What it saw of another process's end."""


class TrainFold(Protocol):
    """Trains one fold; must be importable, as every process imports it."""

    def __call__(self, fold: int, *, guard: Guard) -> FoldResult:
        """Train it."""


class _WatchedGuard(Guard):
    """Tells the watchdog."""

    def __init__(self, heartbeat: Heartbeat, connection: Connection) -> None:
        self._heartbeat = heartbeat
        self._connection = connection
        self._keep: Callable[[], bool] | None = None
        self._main = threading.get_ident()
        self._sending = threading.Lock()

    def beat(self, step: int, what: str) -> None:  # noqa: ARG002  # in the text already
        self._heartbeat.beat(what)

    def rest(self) -> None:
        self._heartbeat.rest()

    def can_keep(self, keep: Callable[[], bool]) -> None:
        self._keep = keep

    def listen(self) -> None:
        """Keep what was learned whenever the watchdog asks, and once more, and end, when the watchdog is gone."""
        try:
            while self._connection.recv() == KEEP:
                where = self._where()
                self.send(Answer(kept=self._keep is not None and self._keep(), where=where))
        except (EOFError, OSError):
            if self._keep is not None:
                self._keep()
            os._exit(1)

    def send(self, answer: Answer) -> None:
        """Tell the watchdog."""
        with self._sending:
            self._connection.send(answer)

    def _where(self) -> str:
        """Return the place in our code where the main thread is."""
        frames = traceback.extract_stack(sys._current_frames()[self._main])  # noqa: SLF001  # documented as such
        ours = [frame for frame in frames if "neurofm" in frame.filename] or frames
        return f"{ours[-1].filename}:{ours[-1].lineno}, in {ours[-1].name}"


def train_watched(
    train: TrainFold, fold: int, *, heartbeat: Heartbeat, connection: Connection, environment: Mapping[str, str]
) -> None:
    """Be the process of one fold.

    Parameters
    ----------
    train
        Does the work.
    fold
        Which.
    heartbeat, connection
        To the watchdog.
    environment
        Variables to be set before any GPU is asked for.
    """
    os.environ.update(environment)
    guard = _WatchedGuard(heartbeat, connection)
    threading.Thread(target=guard.listen, daemon=True).start()
    try:
        answer = Answer(result=train(fold, guard=guard))
    except UserError as error:
        answer = Answer(error=error)
    except PeerGone as error:
        answer = Answer(peer_gone=str(error) or "it is gone")
    except Exception:  # noqa: BLE001  # raised by the watchdog
        answer = Answer(trace=traceback.format_exc())
    guard.send(answer)
