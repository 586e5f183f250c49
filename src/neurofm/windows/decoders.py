"""Decoders: processes that decode blocks into memory that they share with the one that draws.

They are programs of their own (``python -m neurofm.windows.decoders``), not multiprocessing's: those run the main
script again, which a notebook has not got and a short script does not guard against. A socket carries which block goes
where; when the one that draws is gone, however it went, the socket ends, and with it they do.
"""

from __future__ import annotations

import queue
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.windows.ring import Memory, attach
from neurofm.windows.samples import Damage, Samples
from neurofm.windows.sampling import Block
from neurofm.windows.signal import StoredSignal

_Task = tuple[Block, Path, int, int, int]
"""Block, memory and its bytes, where in it, and how many bytes."""


class DecoderGone(Exception):
    """A decoding process ended before its block was there."""


class Decoders:
    """Processes that decode what comes next. They read the shards themselves.

    Parameters
    ----------
    count
        Processes.
    signals
        [source]
    bfloat16
        As `StoredSignal.fill` takes it.
    """

    def __init__(self, count: int, signals: Sequence[StoredSignal], *, bfloat16: bool) -> None:
        # What is valid is not needed to decode, and as long as the recordings.
        empty = np.zeros(0, dtype=np.bool_)
        bare = [
            replace(one, valid=empty, samples=replace(one.samples, valid=empty, damage={}))
            if isinstance(one.samples, Samples)
            else replace(one, valid=empty)
            for one in signals
        ]
        self._told = bare, bfloat16
        self.processes: list[subprocess.Popen[bytes]] = []
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decoder", initializer=self._start)

    def _start(self) -> None:
        """Start the process that a thread speaks with."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "neurofm.windows.decoders", str(theirs.fileno())]
            self.processes.append(subprocess.Popen(command, pass_fds=[theirs.fileno()]))  # noqa: S603  # our own program
        connection = Connection(ours.detach())
        connection.send(self._told)
        self._idle.put(connection)

    def submit(self, block: Block, memory: Memory, *, place: int, size: int) -> Future[list[Damage]]:
        """Have a block decoded into `size` bytes of `memory`, from `place` on.

        Returns
        -------
        The damage that was met; or `DecoderGone`, or what was raised there.
        """
        return self._threads.submit(self._ask, (block, memory.path, memory.size, place, size))

    def _ask(self, task: _Task) -> list[Damage]:
        connection = self._idle.get()
        try:
            connection.send(task)
            answer: list[Damage] | Exception = connection.recv()
        except (EOFError, OSError) as error:
            raise DecoderGone from error
        finally:
            self._idle.put(connection)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """Let the processes end what they are at, and go."""
        self._threads.shutdown(cancel_futures=True)
        while not self._idle.empty():
            self._idle.get().close()
        for process in self.processes:
            process.wait()


def _decode(
    signals: Sequence[StoredSignal], memory: dict[Path, npt.NDArray[np.uint8]], task: _Task, *, bfloat16: bool
) -> list[Damage] | Exception:
    """Decode a block into the memory of the process that asks for it."""
    block, path, size, place, count = task
    try:
        if path not in memory:
            memory[path] = attach(path, size)
        one = signals[block.source]
        if isinstance(one.samples, Samples):
            one.samples.damage.clear()
        return one.fill(block.segments, memory[path][place : place + count], bfloat16=bfloat16)
    except Exception as error:  # noqa: BLE001  # raised by who waits for it
        return error


def main(handle: int) -> None:
    """Decode what is asked for, until the socket ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for who draws
    memory: dict[Path, npt.NDArray[np.uint8]] = {}
    try:
        with Connection(handle) as connection:
            signals, bfloat16 = connection.recv()
            while True:
                connection.send(_decode(signals, memory, connection.recv(), bfloat16=bfloat16))
    except (EOFError, OSError):
        return


if __name__ == "__main__":
    main(int(sys.argv[1]))
