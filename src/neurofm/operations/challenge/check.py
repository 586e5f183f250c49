"""Check: a submission is unpacked into an empty folder and run there by a process that knows nothing of us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from neurofm.errors import UserError
from neurofm.operations.challenge.archive import look, unpack

LIMIT_S = 600.0
_LAST = "end"
_TAIL = 10_000
"""Bytes of what it said that are read: its last line is told."""
_SEED = 2025
_ENVIRONMENT = ("PATH", "HOME", "LANG", "TMPDIR", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
"""What of this process' environment the other gets."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """What came of one check."""

    name: str
    passed: bool
    said: str
    mend: str = ""
    """What to do where it failed."""


def check(path: Path, *, limit_s: float = LIMIT_S) -> list[Check]:
    """Check a submission as the organisers would run it.

    Parameters
    ----------
    path
        The zip.
    limit_s
        After so many seconds it is ended, with all that it started.

    Returns
    -------
    In their order, the first one that failed last.

    Raises
    ------
    UserError
        If the zip is refused (`neurofm.operations.challenge.archive`).
    """
    entries = look(path)
    names = ", ".join(sorted(entry.filename for entry in entries))
    archive = Check(name="archive", passed=True, said=f"single level: {names}; {path.stat().st_size / 1e6:.2f} MB")
    with tempfile.TemporaryDirectory(prefix="neurofm-challenge-") as at:
        return [archive, *run(path, Path(at), limit_s=limit_s)]


def run(path: Path, at: Path, *, limit_s: float | None = LIMIT_S, more: Sequence[Path] = ()) -> list[Check]:
    """Unpack a submission into ``submission`` in an empty folder and run `neurofm.operations.challenge.clean` there.

    Parameters
    ----------
    path
        The zip.
    at
        An empty folder.
    limit_s
        Of its time; None is no limit.
    more
        Folders of windows and answers, to predict rather than to check.

    Raises
    ------
    UserError
        If the zip is refused.
    """
    folder, report = at / "submission", at / "report.jsonl"
    folder.mkdir()
    report.touch()
    unpack(path, folder)
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    with as_file(files("neurofm.operations.challenge") / "clean.py") as script:
        command = [sys.executable, "-I", "-B", str(script), str(folder), str(report), str(_SEED), *map(str, more)]
        said, ended = _run(command, folder, environment=environment, limit_s=limit_s)
    checks = [Check(**json.loads(line)) for line in report.read_text(encoding="utf-8").splitlines()]
    if checks and checks[-1].name == _LAST:
        return checks[:-1]
    if not checks or checks[-1].passed:
        last = said.strip().splitlines()[-1] if said.strip() else "it said nothing"
        checks.append(Check(name="process", passed=False, said=f"{ended}: {last}", mend="mend submission.py"))
    return checks


def refuse_failed(path: Path, checks: Sequence[Check]) -> None:
    """Refuse a submission that failed.

    Raises
    ------
    UserError
        That names the check.
    """
    for one in checks:
        if not one.passed:
            raise UserError(f"{path}: {one.name}: {one.said}.", mend=one.mend)


def _run(command: list[str], folder: Path, *, environment: dict[str, str], limit_s: float | None) -> tuple[str, str]:
    """Run it in a session of its own; return what it said last and how it ended."""
    # To a file, not a pipe: a pipe ends only once everything that inherited it has.
    with (folder.parent / "said.txt").open("w+b") as said:
        process = subprocess.Popen(  # noqa: S603  # our script; what it runs is the user's own choice
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            ended = f"ended with code {process.wait(timeout=limit_s)}"
        except subprocess.TimeoutExpired:
            return "", f"took longer than {limit_s:g} s"
        finally:
            # With whatever it started: the session is its own.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(max(0, said.seek(0, os.SEEK_END) - _TAIL))
        return said.read().decode(errors="replace"), ended
