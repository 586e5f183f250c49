"""Environments of their own for tools that cannot share ours, made on first need in `.neurofm/envs/`."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from neurofm.errors import UserError
from neurofm.files import write_atomic
from neurofm.progress import Progressing

_READY = ".neurofm-lock"
"""In a finished environment: the SHA-256 of the lock that it was made from."""
_LOOK_EVERY_S = 0.5
_LAST_LINES = 8


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What is known of an environment before it is made."""

    python: str
    """Version of Python, ``major.minor``."""
    size_mb: int
    minutes: str


_HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
_KINDS = {
    "allensdk": _Kind(python="3.11", size_mb=786, minutes="about a minute, seconds where packages are cached"),
    # antspyx 0.6.3 has wheels up to Python 3.13.
    "antspyx": _Kind(
        python=_HERE if sys.version_info < (3, 14) else "3.13",
        size_mb=479,
        minutes="about a minute, seconds where packages are cached",
    ),
    "sbom": _Kind(python=_HERE, size_mb=44, minutes="a few seconds"),
}


def python_of(name: str, *, work: Path, root: Path) -> Path:
    """Return the Python interpreter of an environment; it is made first if it is not there or its lock has changed.

    Parameters
    ----------
    name
        Its packages are those of ``containers/<name>/requirements.lock``.
    work
        ``.neurofm``: the environment is ``envs/<name>`` in it, and may be deleted at any time.
    root
        The project's root.

    Raises
    ------
    UserError
        If there is no such Python, no lock, or the packages cannot be installed.
    """
    kind = _KINDS[name]
    lock = root / "containers" / name / "requirements.lock"
    try:
        content = lock.read_bytes()
    except OSError as error:
        raise UserError(f"{lock}: {error.strerror}.", mend="take it from git again") from None
    digest = hashlib.sha256(content).hexdigest()
    folder = work / "envs" / name
    if not _is_ready(folder, digest):
        with _locked(folder.with_name(f".{name}.lock")):
            if not _is_ready(folder, digest):
                _make(folder, lock, kind=kind, digest=digest, packages=_packages_in(content.decode()))
    return folder / "bin" / "python"


def _is_ready(folder: Path, digest: str) -> bool:
    try:
        return (folder / _READY).read_text() == digest and (folder / "bin" / "python").exists()
    except FileNotFoundError:
        return False


def _packages_in(lock: str) -> int:
    return len(re.findall(r"^[A-Za-z0-9]", lock, flags=re.MULTILINE))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock among processes; it ends with the process, however that ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"{path.stem.removeprefix('.')}: another process is making this environment, waiting\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(folder: Path, lock: Path, *, kind: _Kind, digest: str, packages: int) -> None:
    """Make the environment beside its place, then move it there: it is whole or not there."""
    uv = _uv()
    interpreter = _interpreter(kind.python, name=folder.name, uv=uv)
    sys.stderr.write(f"making {folder}: {packages} packages, {kind.size_mb} MB, {kind.minutes}\n")
    for left_over in folder.parent.glob(f".{folder.name}.*.part"):
        shutil.rmtree(left_over)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".part"))
    python = part / "bin" / "python"
    create: list[str | Path]
    install: list[str | Path]
    if uv:
        create = [uv, "venv", "--quiet", "--allow-existing", "--no-python-downloads", "--python", interpreter, part]
        install = [uv, "pip", "install", "--quiet", "--python", python, "--requirement", lock]
    else:
        create = [interpreter, "-m", "venv", part]
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", lock]
    try:
        with Progressing(f"environment {folder.name}", total=packages, unit="packages") as progress:
            _run(create, part, progress=progress)
            _run(install, part, progress=progress)
        write_atomic(part / _READY, digest.encode())
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _uv() -> str | None:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv")


def _interpreter(version: str, *, name: str, uv: str | None) -> str:
    """Return a Python of `version`: this one, uv's, or the one on the PATH."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    if uv:
        command = [uv, "python", "find", "--no-python-downloads", "--no-project", version]
        found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own uv
        if found.returncode == 0:
            return found.stdout.strip()
    if on_path := shutil.which(f"python{version}"):
        return on_path
    raise UserError(
        f"the environment {name!r} needs Python {version}, and there is none on this machine.",
        mend=f"install it (`uv python install {version}`, `conda create -n py python={version}` or the system's "
        f"package python{version}) and have python{version} on the PATH",
    )


def _run(command: list[str | Path], environment: Path, *, progress: Progressing) -> None:
    """Run one step of making an environment, counting the packages that are there.

    Raises
    ------
    UserError
        With the last lines that the command wrote.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(  # noqa: S603  # our own uv or Python
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=_variables()
        )
        try:
            while True:
                try:
                    failed = process.wait(timeout=_LOOK_EVERY_S)
                    break
                except subprocess.TimeoutExpired:
                    _count(environment, progress)
        finally:
            process.kill()
            process.wait()
        _count(environment, progress)
        if failed:
            said.seek(0)
            last = " ".join(line.strip() for line in said.read().splitlines()[-_LAST_LINES:])
            raise UserError(
                f"{environment.parent}: an environment could not be made: {_without_secrets(last)}.",
                mend="check the network and the package index (PIP_INDEX_URL, PIP_FIND_LINKS), and run again",
            )


def _count(environment: Path, progress: Progressing) -> None:
    there = sum(1 for _ in environment.glob("lib/python*/site-packages/*.dist-info"))
    progress.advance(there - progress.done)


def _variables() -> dict[str, str]:
    """Return the environment's variables, with pip's settings where uv has none of its own."""
    variables = dict(os.environ)
    for own, pips in (("UV_FIND_LINKS", "PIP_FIND_LINKS"), ("UV_DEFAULT_INDEX", "PIP_INDEX_URL")):
        if variables.get(pips):
            variables.setdefault(own, variables[pips])
    # What leads to another environment than the one being made.
    for name in ("VIRTUAL_ENV", "UV_PYTHON", "PYTHONPATH", "PYTHONHOME"):
        variables.pop(name, None)
    return variables


def _without_secrets(text: str) -> str:
    """Return `text` without the user and password of the addresses in it."""
    return re.sub(r"//[^/@\s]+@", "//", text)
