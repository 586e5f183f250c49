"""The project itself: settings, git, DVC's locks, and the memory that its recordings took."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from neurofm.operations.doctor.finding import Finding, note, ok, problem
from neurofm.operations.doctor.place import Place
from neurofm.operations.measured import largest_mb
from neurofm.units.memory import free_memory_mb, total_memory_mb

_CODE = ("dvc.yaml", "params.yaml", "stages", "src", "data/catalog")


def settings(place: Place) -> Iterator[Finding]:
    """Say what is wrong with ``params.yaml`` and ``site.yaml``."""
    for complaint in place.complaints:
        yield problem(complaint.problem, mend=complaint.mend)
    if not place.complaints:
        yield ok(f"params.yaml and site.yaml are valid; {len(place.datasets)} datasets")


def git(place: Place) -> Iterator[Finding]:
    """Say whether what is built here could be told to others: what git has, and what it lacks."""
    if place.git("rev-parse", "--verify", "HEAD") is None:
        yield note(
            "no git history here: results cannot name the code they came from",
            mend="git init && git add -A && git commit",
        )
        return
    found = 0
    if (place.root / "dvc.lock").is_file() and place.git("ls-files", "--error-unmatch", "dvc.lock") is None:
        found += 1
        yield note(
            "git does not have dvc.lock: nobody could pull what was built", mend="git add dvc.lock && git commit"
        )
    elif place.git("status", "--porcelain", "--", "dvc.lock"):
        found += 1
        yield note(
            "dvc.lock is not committed: others pull what was built before",
            mend="git commit -m 'Built anew' dvc.lock metrics",
        )
    if changed := (place.git("status", "--porcelain", "--", *_CODE) or "").splitlines():
        found += 1
        names = ", ".join(line[3:] for line in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        yield note(f"not committed: {names}{more}", mend="git commit -a, before results are shown to others")
    if not found:
        yield ok("code, settings and dvc.lock are committed")


def locks(place: Place) -> Iterator[Finding]:
    """Look at DVC's locks: held by a process that lives, or left by one that was killed."""
    folder = place.root / ".dvc" / "tmp"
    path = folder / "rwlock"
    held = _held(folder / "lock")
    try:
        table = json.loads(path.read_text() or "null") if path.is_file() else {}
        entries = [
            entry
            for mode in ("read", "write")
            for infos in table.get(mode, {}).values()
            for entry in (infos if isinstance(infos, list) else [infos])
        ]
        who = {int(entry["pid"]): str(entry["cmd"]) for entry in entries}
    except (ValueError, AttributeError, TypeError, KeyError):
        yield problem(f"{path} is broken (a power cut?), and every dvc command fails", mend=f"rm {path}")
        return
    at_work = {pid: command for pid, command in who.items() if _lives(pid)}
    for pid, command in sorted(at_work.items()):
        yield note(f"DVC is at work: {command} (process {pid})", mend=f"wait for it; or kill {pid}")
    if held and not at_work:
        yield note("a dvc command holds the project's lock", mend=f"wait for it; fuser -v {folder / 'lock'} names it")
    if not held and not at_work:
        killed = f"; DVC clears what {len(who)} killed processes left" if who else ""
        yield ok(f"no dvc command is at work{killed}")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # Somebody else's.
    return True


def _held(path: Path) -> bool:
    """Whether a process holds this lock of DVC's (`zc.lockfile`, by flock)."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def memory(place: Place) -> Iterator[Finding]:
    """Compare the memory with what the largest process of earlier runs took."""
    total, free, (needed, what) = total_memory_mb(), free_memory_mb(), largest_mb(place.root)
    said = f"{free / 1024:.1f} of {total / 1024:.1f} GB are free"
    if not needed:
        yield ok(f"{said}; nothing was run yet to compare with")
    elif needed > total:
        yield problem(
            f"{said}, and {what} took {needed / 1024:.1f}",
            mend="a larger machine, or `executor: slurm` in site.yaml (docs/cluster.md)",
        )
    elif needed > free:
        yield note(f"{said}, and {what} took {needed / 1024:.1f}: it may be killed", mend="ps aux --sort=-rss | head")
    else:
        yield ok(f"{said}; most that a process took was {needed / 1024:.1f} ({what})")
