"""allensdk's session tables, asked of a subprocess in allensdk's own environment."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pydantic import JsonValue

from neurofm.errors import UserError
from neurofm.fetch.hosts import FetchSite

WORKER = Path(__file__).with_name("allensdk_worker.py")
_KILLS = 2
"""Times that a worker which says nothing is killed and started anew, before giving up."""
_LEAST_QUIET_S = 300.0
_QUIET_REQUESTS = 3
"""A worker that says nothing for this many timeouts of one request hangs somewhere that has no timeout."""
_MEND = "run again; if it stays, set a mirror as `fetch.hosts.allen_api` in site.yaml, or take the dataset's DANDI copy"


@dataclass(frozen=True, kw_only=True)
class Session:
    """One row of allensdk's session table (for two-photon projects: of its table of experiments)."""

    id: str
    """Number that the names of the session's files carry."""
    subject: str
    """The animal, as the archive numbers it."""
    columns: Mapping[str, JsonValue] = field(repr=False)
    """The row as allensdk gives it."""


class _Silent(Exception):
    """The worker said nothing for too long."""


def session_table(
    project: str,
    *,
    filters: Mapping[str, Sequence[str | int | float]],
    tables: Mapping[str, bytes],
    python: Path,
    site: FetchSite,
    work: Path,
    quiet_s: float | None = None,
) -> tuple[Session, ...]:
    """Return the sessions of a project that the filters allow, in the order of their numbers.

    Parameters
    ----------
    project
        ``visual-coding-neuropixels`` and so on.
    filters
        Allowed values per column of allensdk's table.
    tables
        Files of allensdk's cache that are at hand, by their path in it; what is missing is asked of the warehouse.
    python
        Interpreter of allensdk's environment.
    site
        Address of the warehouse, timeout and attempts per request.
    work
        ``.neurofm``: the cache lives in ``allensdk/`` there, for as long as this takes.
    quiet_s
        Seconds without a word after which the worker is killed and started anew.

    Raises
    ------
    UserError
        For an unknown column, filters that leave nothing, a worker that fails or hangs.
    """
    quiet_s = quiet_s or max(_LEAST_QUIET_S, _QUIET_REQUESTS * site.timeout_s)
    home = work / "allensdk"
    home.mkdir(parents=True, exist_ok=True)
    for _ in range(_KILLS):
        # A new folder each time: allensdk believes any file that lies in its cache, also half a file.
        with tempfile.TemporaryDirectory(dir=home, prefix=f"{project}.") as cache:
            for path, content in tables.items():
                Path(cache, path).parent.mkdir(parents=True, exist_ok=True)
                Path(cache, path).write_bytes(content)
            question = {
                "project": project,
                "api": site.hosts.allen_api,
                "cache": cache,
                "filters": {column: list(allowed) for column, allowed in filters.items()},
                "timeout_s": site.timeout_s,
                "attempts": site.attempts,
            }
            try:
                rows = _answer(question, python=python, home=home, quiet_s=quiet_s)
            except _Silent:
                sys.stderr.write(f"allensdk said nothing for {quiet_s:.0f} s: started anew\n")
                continue
            return tuple(sorted((_session(row, project) for row in rows), key=lambda session: int(session.id)))
    raise UserError(
        f"allensdk, table of {project}: hung {_KILLS} times, {quiet_s:.0f} s without a word each.", mend=_MEND
    )


def _session(row: Mapping[str, JsonValue], project: str) -> Session:
    if row["subject"] is None:
        raise UserError(
            f"allensdk, table of {project}: session {row['id']} has no animal in the warehouse.", mend=_MEND
        )
    columns = {name: value for name, value in row.items() if name != "subject"}
    return Session(id=str(row["id"]), subject=str(row["subject"]), columns=columns)


def _answer(question: Mapping[str, Any], *, python: Path, home: Path, quiet_s: float) -> list[dict[str, JsonValue]]:
    """Run the worker on one question.

    Raises
    ------
    UserError
        If it says that something is wrong, or ends before it is done.
    _Silent
        If it said nothing for `quiet_s`; it has been killed.
    """
    rows: list[dict[str, JsonValue]] = []
    with tempfile.TemporaryFile("w+") as said:
        # -I: nothing of our own environment (PYTHONPATH, the user's packages) gets in. A session of its own, so that
        # it can be killed with its children.
        process = subprocess.Popen(  # noqa: S603  # our own interpreter and script
            [str(python), "-I", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
            env={**os.environ, "MPLCONFIGDIR": str(home / "matplotlib")},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(question, process.stdin)
            for line in _lines(process.stdout, quiet_s=quiet_s):
                if "session" in line:
                    rows.append(line["session"])
                elif "error" in line:
                    raise UserError(f"{line['error']}.", mend=line["mend"])
                elif line.get("done") == len(rows):
                    return rows
            process.wait(timeout=quiet_s)  # it has closed its output: what it writes last says why
        except subprocess.TimeoutExpired:
            raise _Silent from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        last = (said.read().strip().splitlines() or ["it said nothing"])[-1].strip()
    raise UserError(
        f"allensdk, table of {question['project']}: ended with code {process.returncode}: {last}.", mend=_MEND
    )


def _send(question: Mapping[str, Any], pipe: IO[str]) -> None:
    try:
        with pipe:
            json.dump(question, pipe)
    except BrokenPipeError:
        return  # it has ended already, and its last words say why


def _lines(pipe: IO[str], *, quiet_s: float) -> Iterator[dict[str, Any]]:
    """Yield the worker's lines.

    Raises
    ------
    _Silent
        If none came for `quiet_s`.
    """
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in pipe:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=quiet_s)
        except queue.Empty:
            raise _Silent from None
        if not line:
            return
        yield json.loads(line)
