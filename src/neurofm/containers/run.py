"""Run a job in a container, watch it, and leave nothing behind."""

from __future__ import annotations

import codecs
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, TextIO

from neurofm.containers.command import Caller, command_line, environment_for
from neurofm.containers.ending import TIMED_OUT, Ending, code_of, reason_of
from neurofm.containers.engine import Engine
from neurofm.containers.guard import Guard
from neurofm.containers.job import Job

STOPPED = 143
"""Exit code of a job that was asked to stop (128 + SIGTERM)."""
_LOOK_EVERY_S = 0.2
_KILLED_WITHIN_S = 20.0
_LAST_BYTES = 4096
_CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Client:
    """The program that has a container run, and stays until that has ended."""

    command: Sequence[str]
    environment: Mapping[str, str]


def run(
    job: Job,
    *,
    engine: Engine,
    log: Path | None = None,
    show: bool = False,
    on_line: Callable[[str], None] | None = None,
    stop: threading.Event | None = None,
    through: Callable[[str, Path], Client] | None = None,
) -> Ending:
    """Run a job to its end.

    Whatever ends this call (a limit, `stop`, Ctrl-C, SIGTERM, `kill -9` of this process), the container is stopped and
    removed; only a power cut can leave one, which has stopped then.

    Parameters
    ----------
    job, engine
        What to run, and by whom.
    log
        File that gets everything it writes, as it comes; made anew.
    show
        Write it to our own output and error output too.
    on_line
        Called with every line it writes, without the line's end, from another thread.
    stop
        Ends the job when it is set: for callers that run several in threads, where Ctrl-C reaches only the first.
    through
        Another program than the engine's own that has the job run: made of the container's name, which is what it is
        stopped by, and of a folder that goes with it.

    Returns
    -------
    Ending
        Exit code and reason; a job that fails does not raise.

    Raises
    ------
    OSError
        If the log could not be written; whatever `on_line` raised is raised too. The job has run to its end then.
    KeyboardInterrupt
        After Ctrl-C, once the container is gone: it was asked to end by SIGINT, and given `Limits.grace_s`.
    """
    name = f"neurofm-{secrets.token_hex(6)}"
    started = time.monotonic()
    with ExitStack() as open_files, Guard(engine, name, grace_s=job.limits.grace_s) as guard:
        file: BinaryIO | None = None
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            file = open_files.enter_context(log.open("wb"))
        started_by = through(name, guard.scratch) if through else _own_client(job, engine, name, guard.scratch)
        client = subprocess.Popen(  # noqa: S603  # the engine's own program, or the caller's
            started_by.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=started_by.environment,
            cwd=guard.scratch,
            start_new_session=True,  # Ctrl-C is for us, who pass it on.
        )
        guard.watch(client.pid)
        tape = _Tape(client, file=file, show=show, on_line=on_line)
        try:
            why = _wait(client, seconds=job.limits.seconds, stop=stop, since=started)
            if why:
                _stop(engine, name, client, signal.SIGTERM, grace_s=job.limits.grace_s)
        except BaseException as error:
            told = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
            _stop(engine, name, client, told, grace_s=job.limits.grace_s)
            raise
        finally:
            tape.finish()
        out_of_memory = not engine.is_apptainer and _ran_out_of_memory(engine, name)
        guard.ended()
        if tape.error is not None:
            raise tape.error
    if why:
        code, reason = (STOPPED, "it was asked to stop") if why == "stop" else (TIMED_OUT, why)
    else:
        code = code_of(client.returncode, tape.last)
        reason = reason_of(
            code,
            program=job.command[0] if job.command else "",
            last=tape.last,
            out_of_memory=out_of_memory,
            memory_gb=job.limits.memory_gb,
        )
    return Ending(
        code=code,
        reason=reason,
        seconds=round(time.monotonic() - started, 3),
        image=job.image.digest,
        log=log,
        container=name,
    )


def _own_client(job: Job, engine: Engine, name: str, scratch: Path) -> Client:
    return Client(
        command=command_line(job, engine=engine, name=name, caller=Caller.here(), scratch=scratch),
        environment=environment_for(job, engine=engine),
    )


class _Tape:
    """Takes what a process writes to a file, to our own output and to a function, and keeps its last lines."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        *,
        file: BinaryIO | None,
        show: bool,
        on_line: Callable[[str], None] | None,
    ) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self._file = file
        self._on_line = on_line
        self._lock = threading.Lock()
        self.error: Exception | None = None
        """What the log or the listener failed with, first."""
        self._last = {process.stdout: b"", process.stderr: b""}
        self._pipes = process.stdout, process.stderr
        outputs = ((process.stdout, sys.stdout if show else None), (process.stderr, sys.stderr if show else None))
        self._threads = [threading.Thread(target=self._take, args=(pipe, ours), daemon=True) for pipe, ours in outputs]
        for thread in self._threads:
            thread.start()

    @property
    def last(self) -> str:
        """The last lines of its error output, or of its output if there are none."""
        output, errors = (self._last[pipe].decode(errors="replace") for pipe in self._pipes)
        return errors or output

    def finish(self) -> None:
        """Wait until everything is taken."""
        for thread in self._threads:
            thread.join(timeout=_KILLED_WITHIN_S)

    def _take(self, pipe: IO[bytes], ours: TextIO | None) -> None:
        """Take everything, also after a log or a listener failed: a full pipe would stop the container for good."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        rest = ""
        while chunk := os.read(pipe.fileno(), _CHUNK):
            text = decoder.decode(chunk)
            *lines, rest = (rest + text).split("\n")
            with self._lock:
                self._last[pipe] = (self._last[pipe] + chunk)[-_LAST_BYTES:]
                self._deliver(chunk, text, lines, ours)
        if rest:
            with self._lock:
                self._deliver(b"", "", [rest], None)

    def _deliver(self, chunk: bytes, text: str, lines: list[str], ours: TextIO | None) -> None:
        if ours is not None:
            with suppress(OSError, ValueError):  # Nobody looks any more; the log goes on.
                ours.write(text)
                ours.flush()
        if self.error is not None:
            return
        try:
            if self._file is not None:
                self._file.write(chunk)
                self._file.flush()
            if self._on_line is not None:
                for line in lines:
                    self._on_line(line.rstrip("\r"))
        except Exception as error:  # noqa: BLE001  # told once the container has ended
            self.error = error


def _wait(client: subprocess.Popen[bytes], *, seconds: float | None, stop: threading.Event | None, since: float) -> str:
    """Wait for the end; returns why it is to be stopped instead, or nothing."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            client.wait(timeout=_LOOK_EVERY_S)
            return ""
        if stop is not None and stop.is_set():
            return "stop"
        if seconds is not None and time.monotonic() - since > seconds:
            return f"it took longer than the {seconds:g} s that it was given"


def _stop(engine: Engine, name: str, client: subprocess.Popen[bytes], told: signal.Signals, *, grace_s: float) -> None:
    """Ask the container to end; then make it."""
    heard = _signal(engine, name, client, told)
    until = time.monotonic() + grace_s
    while time.monotonic() < until:
        with suppress(subprocess.TimeoutExpired):
            client.wait(timeout=_LOOK_EVERY_S)
            return
        heard = heard or _signal(engine, name, client, told)  # It may only now have started.
    _signal(engine, name, client, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        client.wait(timeout=_KILLED_WITHIN_S)
        return
    with suppress(ProcessLookupError):
        os.killpg(client.pid, signal.SIGKILL)  # It leads a session, and may not be alone in it.
    client.wait()


def _signal(engine: Engine, name: str, client: subprocess.Popen[bytes], told: signal.Signals) -> bool:
    """Send a signal to what runs inside; says whether it was there."""
    if engine.is_apptainer:
        with suppress(ProcessLookupError):
            os.killpg(client.pid, told)
        return True
    return engine.ask("kill", "--signal", told.name.removeprefix("SIG"), name).returncode == 0


def _ran_out_of_memory(engine: Engine, name: str) -> bool:
    """Ask the engine whether the kernel ended the container for its memory; not every kernel tells it."""
    return engine.ask("inspect", "--format", "{{.State.OOMKilled}}", name).stdout.strip() == "true"
