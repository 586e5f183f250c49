"""Surroundings: which checkout is certified, and on which host."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from neurofm.files import sha256_of
from neurofm.settings import Settings
from neurofm.slices.machine import Machine

CONTAINER = "NEUROFM_IMAGE"
"""Variable that is set inside a container of ours: the digest of its image."""
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
    """Describe the checkout at `root`."""
    commit, _, committed = _git(root, "log", "-1", "--format=%H %cI").partition(" ")
    changed = [line[3:] for line in _git(root, "status", "--porcelain").splitlines()] if commit else []
    lock = root / "requirements.lock"
    return Checkout(
        commit=commit,
        committed=committed,
        uncommitted=tuple(changed[:_MOST_NAMED]),
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


def _git(root: Path, *arguments: str) -> str:
    """Return what git says, nothing where there is no git or no repository."""
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run([git, *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.rstrip() if done.returncode == 0 else ""


def _container() -> str:
    if named := os.environ.get(CONTAINER):
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
