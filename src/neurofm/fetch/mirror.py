"""Bare git mirrors of datasets (`.neurofm/mirrors/<name>/<accession>.git`): cloned once, read without a request."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from neurofm.errors import UserError
from neurofm.fetch.hosts import FetchSite
from neurofm.fetch.waiting import alone, is_offline, pause_s

_ACCESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_URL = re.compile(r"(\w+://)[^\s/'\"@]+@")
_FINAL = (
    "not found",
    "does not exist",
    "does not appear to be a git repository",
    "Authentication failed",
    "could not read",
)
"""Words in git's complaint after which asking again does not help."""
_REFS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
_CHUNK_BYTES = 1 << 20


def mirror(name: str, accession: str, *, site: FetchSite, work: Path, needs: Iterable[str] = ()) -> Path:
    """Return the bare mirror of a repository, cloned or brought up to date.

    Safe to call from several processes: the second waits. A clone appears under its name only once it is whole.

    Parameters
    ----------
    name
        Which host: ``openneuro`` or ``openneuro-derivatives``; `Hosts` has its address as ``<name>_git``.
    accession
        The repository there: ``ds005505``.
    site
        Where hosts are; offline, only a mirror that is there already will do.
    work
        ``.neurofm``.
    needs
        Revisions (commits, ``refs/tags/1.0.1``) that the caller wants. If a mirror with all of them is there, nobody
        is asked; without any, the host is asked for news.

    Raises
    ------
    UserError
        If there is no such repository, it cannot be reached, a revision is not in it, or this run is offline.
    """
    if not _ACCESSION.fullmatch(accession) or ".." in accession:
        raise UserError(f"{accession!r} is not the name of a repository.", mend="correct the catalogue entry")
    folder = work / "mirrors" / name / f"{accession}.git"
    needed = tuple(needs)
    if needed and _has_all(folder, needed):
        return folder
    with alone(work / "locks" / f"mirror-{name}-{accession}"):
        if not (needed and _has_all(folder, needed)):
            _bring(name, accession, folder, site=site)
    if missing := [revision for revision in needed if not _has_all(folder, (revision,))]:
        raise UserError(
            f"{accession}: the repository has no {missing[0]}.", mend="correct `version` in its catalogue entry"
        )
    return folder


def read_objects(folder: Path, names: Iterable[str]) -> Iterator[bytes | None]:
    """Yield the content of each named object of a mirror, in order, with one git process; None where there is none.

    Parameters
    ----------
    folder
        From `mirror`.
    names
        Whatever git resolves: a blob's id, ``<commit>:<path>``. Objects are held in memory, one at a time.
    """
    with _git("cat-file", "--batch", "--buffer", folder=folder, stdin=subprocess.PIPE) as process:
        asked, answers = process.stdin, process.stdout
        assert asked is not None
        assert answers is not None

        # A thread of its own: git would otherwise wait for us to read while we wait for it to listen.
        asking = threading.Thread(target=_ask, args=(names, asked), daemon=True)
        asking.start()
        try:
            while head := answers.readline():
                words = head.split()
                if len(words) != 3 or not words[2].isdigit():
                    yield None
                    continue
                content = answers.read(int(words[2]))
                answers.read(1)
                yield content
        finally:
            process.kill()
            asking.join()


def read_object(folder: Path, name: str) -> Iterator[bytes]:
    """Yield one blob of a mirror in chunks, for what is too large to be held in memory.

    Raises
    ------
    LookupError
        If the mirror does not have it whole.
    """
    with _git("cat-file", "blob", name, folder=folder) as process:
        assert process.stdout is not None
        try:
            while chunk := process.stdout.read(_CHUNK_BYTES):
                yield chunk
        except GeneratorExit:
            process.kill()
            raise
        if process.wait() != 0:
            raise LookupError(name)


def read_git(folder: Path, *arguments: str) -> bytes:
    """Return what a git command that only reads (`ls-tree`, `for-each-ref`) says of a mirror.

    Raises
    ------
    UserError
        If git does not bring it to an end: the mirror is damaged.
    """
    with _git(*arguments, folder=folder, stderr=subprocess.PIPE) as process:
        said, complaint = process.communicate()
    if process.returncode != 0:
        why = " ".join(complaint.decode(errors="replace").split())
        raise UserError(
            f"{folder}: cannot be read: {why or f'git ended with {process.returncode}'}.",
            mend="remove that folder: it is cloned again",
        )
    return said


def _ask(names: Iterable[str], into: IO[bytes]) -> None:
    try:
        with into:
            for name in names:
                # One name a line; a name that is two cannot be asked for, and an empty line is answered as missing.
                into.write(b"\n" if "\n" in name else f"{name}\n".encode())
    except (BrokenPipeError, ValueError):
        return  # The reader stopped early.


def _bring(name: str, accession: str, folder: Path, *, site: FetchSite) -> None:
    base: str = getattr(site.hosts, f"{name.replace('-', '_')}_git")
    url = f"{base.rstrip('/')}/{accession}"
    shown = f"{urlsplit(url).hostname or urlsplit(url).path}: {accession}"
    if is_offline(site):
        raise UserError(f"{shown} would have to be cloned, and this run is offline.", mend="run without --offline")
    complaint = ""
    for attempt in range(site.attempts):
        if attempt:
            time.sleep(pause_s(attempt, site=site))
        complaint = _fetch(url, folder, timeout_s=site.timeout_s)
        if not complaint:
            return
        if any(word in complaint for word in _FINAL):
            raise UserError(
                f"{shown}: {complaint}.",
                mend="check the accession in the catalogue entry, or `fetch.hosts` in site.yaml",
            )
    raise UserError(
        f"{shown}: could not be cloned in {site.attempts} attempts ({complaint}).",
        mend="check the network and run again, or set a mirror under `fetch.hosts` in site.yaml",
    )


def _fetch(url: str, folder: Path, *, timeout_s: float) -> str:
    """Clone, or fetch into the clone that is there; returns git's complaint, without credentials.

    The address is given each time and not kept in the clone's settings, and no ref is believed before its objects are
    there (git's own order); a new clone is made beside its place.
    """
    fresh = not (folder / "HEAD").is_file()
    part = folder.with_name(f".{folder.name}.part")
    target = part if fresh else folder
    if fresh:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        target.mkdir(parents=True)
        complaint = _run("init", "--quiet", "--bare", "--template=", folder=target, timeout_s=timeout_s)
        if complaint:
            return complaint
    complaint = _run(
        "fetch", "--quiet", "--no-tags", "--prune", "--no-write-fetch-head", "--no-auto-maintenance", url, *_REFS,
        folder=target, timeout_s=timeout_s,
    )  # fmt: skip
    if fresh and not complaint:
        part.replace(folder)
    return complaint


def _run(*arguments: str, folder: Path, timeout_s: float) -> str:
    slow = ("-c", "http.lowSpeedLimit=1", "-c", f"http.lowSpeedTime={max(1, round(timeout_s))}")
    with _git(*slow, *arguments, folder=folder, stderr=subprocess.PIPE) as process:
        _, said = process.communicate()
    if process.returncode == 0:
        return ""
    lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "remote:", "error:"))] or lines[-1:]
    return _URL.sub(r"\1", "; ".join(telling[:3]) or f"git ended with {process.returncode}").rstrip(".")


def _has_all(folder: Path, revisions: tuple[str, ...]) -> bool:
    if not (folder / "HEAD").is_file():
        return False
    return all(
        _run("cat-file", "-e", f"{revision}^{{commit}}", folder=folder, timeout_s=1.0) == "" for revision in revisions
    )


def _git(
    *arguments: str, folder: Path, stdin: int = subprocess.DEVNULL, stderr: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start git on a mirror: no hooks, no prompts, no helper that hands out passwords, only plain transports."""
    settings = {
        "core.hooksPath": os.devnull,
        "core.fsync": "all",
        "credential.helper": "",
        "protocol.allow": "never",
        "protocol.file.allow": "always",
        "protocol.http.allow": "always",
        "protocol.https.allow": "always",
    }
    # Git sets these when it runs a hook or a subcommand of its own; here they would point at another repository.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    kept = {name: os.environ[name] for name in ("GIT_SSL_CAINFO", "GIT_CONFIG_GLOBAL") if name in os.environ}
    own = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "SSH_ASKPASS": "true", "LC_ALL": "C"}
    flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    try:
        return subprocess.Popen(  # noqa: S603  # no shell; what comes from outside is never an option
            ["git", "--git-dir", str(folder), *flags, *arguments],  # noqa: S607  # the user's own git
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=inherited | kept | own,
        )
    except FileNotFoundError:
        raise UserError("git is not installed.", mend="install git") from None
