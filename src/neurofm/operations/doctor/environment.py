"""Python, the packages beside it, and the limits and settings that processes inherit."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from neurofm.operations.doctor.finding import Finding, note, ok, problem
from neurofm.operations.doctor.place import Place

_OLDEST = (3, 11)
_OPEN_FILES = 1024
"""Below it, DVC's parallel transfers and many open shards come near the limit."""


def python(place: Place) -> Iterator[Finding]:
    """Compare Python and its packages with what the project asks for."""
    if sys.version_info < _OLDEST:
        yield problem(
            f"Python {platform.python_version()} is too old; 3.11 or newer is needed",
            mend="make env PYTHON=python3.12",
        )
    lock = place.root / "requirements.lock"
    if not lock.is_file():
        yield note(f"Python {platform.python_version()}; {lock.name} is not here to compare the packages with")
        return
    wanted = locked(lock)
    differ, missing = [], []
    for requirement in wanted:
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            missing.append(requirement.name)
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            differ.append(f"{requirement.name} {found} ({str(requirement.specifier).removeprefix('==')})")
    needed = _needed_to_run()
    if stops := [name for name in missing if canonicalize_name(name) in needed]:
        yield problem(f"missing: {_some(stops)}", mend="make env")
    if tools := [name for name in missing if canonicalize_name(name) not in needed]:
        yield note(f"not here, and only developers need them: {_some(tools)}", mend="make env")
    if differ:
        yield problem(
            f"{len(differ)} of {len(wanted)} packages are not what requirements.lock has, so results may differ: "
            f"{_some(differ)}",
            mend="make env",
        )
    if not (missing or differ):
        yield ok(f"Python {platform.python_version()}, {len(wanted)} packages as requirements.lock has them")


def locked(lock: Path) -> list[Requirement]:
    """Return what a lock pins on this platform."""
    lines = (line.split("#")[0].strip() for line in lock.read_text(encoding="utf-8").splitlines())
    pinned = [Requirement(line) for line in lines if line and not line.startswith("-")]
    return [one for one in pinned if one.marker is None or one.marker.evaluate()]


def _needed_to_run() -> set[str]:
    """Return what neurofm imports, and what that imports, as far as it is here to tell."""
    needed: set[str] = set()
    to_see = ["neurofm"]
    while to_see:
        try:
            told = requires(to_see.pop()) or []
        except PackageNotFoundError:
            continue
        for text in told:
            one = Requirement(text)
            name = canonicalize_name(one.name)
            if name not in needed and (one.marker is None or one.marker.evaluate({"extra": ""})):
                needed.add(name)
                to_see.append(name)
    return needed


def _some(names: Iterable[str], most: int = 3) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"{', '.join(listed[:most])}{more}"


def limits(_: Place) -> Iterator[Finding]:
    """Look at the limits that every process of a run inherits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < _OPEN_FILES:
        wanted = _OPEN_FILES if hard < 0 else min(hard, _OPEN_FILES)
        mend = f"ulimit -n {wanted}" if wanted > soft else "ask your administrator for `nofile 4096` in limits.conf"
        yield note(f"{soft} files may be open at once: pushes and pulls with many jobs may fail", mend=mend)
    threads = os.environ.get("OMP_NUM_THREADS")
    if threads not in {None, "1"}:
        # `dvc repro` sets it for every stage; `neurofm run` and Python by hand do not.
        yield note(
            f"OMP_NUM_THREADS is {threads}: sums in another order, other bytes where a stage is run without DVC, "
            "and slower under load",
            mend="unset OMP_NUM_THREADS",
        )
    if not (0 <= soft < _OPEN_FILES):
        yield ok(f"{'no bound on open files' if soft < 0 else f'{soft} open files'}, OMP_NUM_THREADS {threads or '1'}")


def person(place: Place) -> Iterator[Finding]:
    """Say where it matters who runs this."""
    me, owner = os.geteuid(), place.root.stat().st_uid
    if not os.access(place.root, os.W_OK):
        yield problem(f"{place.root} may not be written to by user {me}", mend=f"sudo chown -R {me} {place.root}")
    elif me == 0 and owner != 0:
        yield note(
            f"this is root, and the project belongs to user {owner}, who could not change what is made now",
            mend=f"sudo -u '#{owner}' make repro",
        )
    else:
        yield ok(f"user {me} owns the project" if me == owner else f"user {me} may write here")
