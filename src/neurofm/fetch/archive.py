"""Take wanted members, and nothing else, out of a package's archive. Nothing of it is built or run."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO

from neurofm.catalog import RegistryFile
from neurofm.errors import UserError
from neurofm.fetch.package import WrongBytes

_CHUNK_BYTES = 1 << 20
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


def extract(archive: Path, wanted: Mapping[str, RegistryFile], *, folder: Path, quarantine: Path) -> dict[str, str]:
    """Write each wanted member to its path under `folder`, verified.

    A member appears under its name only once its size and digest are right; one that is wrong goes to `quarantine`,
    and the rest continues.

    Parameters
    ----------
    archive
        ``.tar.gz`` (or another tar), ``.whl`` or ``.zip``.
    wanted
        Member name to what the catalogue pins of it.
    folder
        Root of the dataset's raw files.
    quarantine
        Root of what is set aside.

    Returns
    -------
    dict of str to str
        Path to one line, for each member that could not be had: missing, not a plain file, or with wrong bytes.

    Raises
    ------
    UserError
        If the archive cannot be read.
    """
    members = _zip_members if archive.suffix in {".whl", ".zip"} else _tar_members
    left = dict(wanted)
    complaints: dict[str, str] = {}
    try:
        for name, content in members(archive, frozenset(wanted)):
            file = left.pop(name, None)
            if file is None:
                continue
            if content is None:
                complaints[file.path] = f"{archive.name}: {name} is a link or a folder, not a plain file"
                continue
            with content as source:
                complaint = _write(source, file, folder=folder, quarantine=quarantine)
            if complaint:
                complaints[file.path] = complaint
            if not left:
                break
    except _DAMAGED as error:
        raise UserError(
            f"{archive}: not readable as an archive ({type(error).__name__}: {error}).",
            mend="remove it and run again",
        ) from None
    return complaints | {left[name].path: f"{archive.name}: has no member {name}" for name in sorted(left)}


Member = tuple[str, AbstractContextManager[IO[bytes]] | None]


def _tar_members(archive: Path, names: frozenset[str]) -> Iterator[Member]:
    # Read as a stream: one pass, in the archive's order, without seeking back in compressed bytes.
    with tarfile.open(archive, mode="r|*") as tar:
        for info in tar:
            if info.name in names:
                yield info.name, tar.extractfile(info) if info.isreg() else None


def _zip_members(archive: Path, names: frozenset[str]) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            if info.filename in names:
                kind = stat.S_IFMT(info.external_attr >> 16)
                yield info.filename, packed.open(info) if kind in {0, stat.S_IFREG} else None


def _write(source: IO[bytes], file: RegistryFile, *, folder: Path, quarantine: Path) -> str:
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    digest = hashlib.sha256()
    written = 0
    try:
        with part.open("wb") as out:
            # One chunk beyond the pinned size shows that it is wrong; a bomb is not unpacked further.
            while written <= file.size and (chunk := source.read(_CHUNK_BYTES)):
                out.write(chunk)
                digest.update(chunk)
                written += len(chunk)
            out.flush()
            os.fsync(out.fileno())
        if (written, digest.hexdigest()) == (file.size, file.sha256):
            part.replace(target)
            return ""
        wrong = WrongBytes(part, size=written, sha256=digest.hexdigest())
        return set_aside(wrong, quarantine / file.path, name=file.path, size=file.size, sha256=file.sha256)
    finally:
        part.unlink(missing_ok=True)


def set_aside(wrong: WrongBytes, place: Path, *, name: str, size: int, sha256: str) -> str:
    """Move wrong bytes to `place` and return the line that says what was expected and what came."""
    place.parent.mkdir(parents=True, exist_ok=True)
    wrong.path.replace(place)
    came = f"sha256 {wrong.sha256} ({wrong.size} bytes)"
    return f"{name}: expected sha256 {sha256} ({size} bytes), got {came}, set aside at {place}"
