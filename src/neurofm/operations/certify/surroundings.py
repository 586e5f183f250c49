"""Surroundings: which checkout is certified, and on which host."""

from __future__ import annotations

import os
import platform
import re
import socket
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from neurofm.containers import INSIDE
from neurofm.errors import UserError
from neurofm.files import sha256_of
from neurofm.operations.provenance.commits import History
from neurofm.settings import Settings
from neurofm.slices.machine import Machine

_MOST_NAMED = 20
_MARKS = {"podman": Path("/run/.containerenv"), "docker": Path("/.dockerenv")}
"""Files that container engines leave inside."""
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)")


class Checkout(Settings):
    """What is certified: a commit, and the digests of what decides everything else."""

    commit: str
    """Empty where this is no git repository."""
    committed: str
    """When, ISO 8601."""
    uncommitted: tuple[str, ...]
    """Files that are not as the commit has them; the first twenty."""
    dvc_lock_sha256: str
    requirements_sha256: str
    """Of requirements.lock; empty if there is none."""

    @property
    def is_clean(self) -> bool:
        """Whether the commit alone says what was certified."""
        return bool(self.commit) and not self.uncommitted


class Host(Settings):
    """Where it was certified."""

    name: str
    system: str
    kernel: str
    python: str
    cores: int
    container: str
    """Its image where that is known, else the engine; ``none`` outside of one."""
    machine: Machine
    lock_differences: tuple[str, ...]
    """Libraries whose version is not the one of requirements.lock."""


def this_checkout(root: Path) -> Checkout:
    """Describe the checkout at `root`.

    Raises
    ------
    UserError
        If nothing ever ran there, or git cannot say what is committed.
    """
    if not (root / "dvc.lock").is_file():
        raise UserError(f"{root.absolute()} has no dvc.lock.", mend="run it in the project's folder, after `dvc repro`")
    history = History(root)
    head = history.head
    lock = root / "requirements.lock"
    return Checkout(
        commit=head.sha if head else "",
        committed=head.date if head else "",
        uncommitted=history.uncommitted()[:_MOST_NAMED] if head else (),
        dvc_lock_sha256=sha256_of(root / "dvc.lock"),
        requirements_sha256=sha256_of(lock) if lock.is_file() else "",
    )


def this_host(root: Path, *, machine: Machine) -> Host:
    """Describe this host."""
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        system = platform.system()
    return Host(
        name=socket.gethostname(),
        system=system,
        kernel=platform.release(),
        python=platform.python_version(),
        cores=len(os.sched_getaffinity(0)),
        container=_container(),
        machine=machine,
        lock_differences=tuple(_lock_differences(root / "requirements.lock")),
    )


def _container() -> str:
    if named := os.environ.get(INSIDE):
        return named
    engines = [engine for engine, mark in _MARKS.items() if mark.exists()]
    if not engines:
        return "none"
    told = dict(re.findall(r'^(image|imageid)="(.+)"$', _text(_MARKS[engines[0]]), re.MULTILINE))
    return " ".join([engines[0], *told.values()])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _lock_differences(lock: Path) -> list[str]:
    found = []
    for name, wanted in filter(None, map(_pinned, _text(lock).splitlines())):
        try:
            # What follows a plus sign names a build: a site's own wheel of torch for processors without a GPU.
            here = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue  # Its marker is for another platform, or it is a tool of developers.
        if here != wanted.partition("+")[0]:
            found.append(f"{name} {here}, the lock has {wanted}")
    return found


def _pinned(line: str) -> tuple[str, str] | None:
    match = _PINNED.match(line)
    return (match[1], match[2]) if match else None
