"""A crate as a folder or one zip: whole or not there, and the same bytes for the same crate."""

from __future__ import annotations

import os
import secrets
import shutil
import zipfile
from pathlib import Path
from typing import Any

from neurofm.errors import UserError
from neurofm.files import sync_folder

_DATE = (1980, 1, 1, 0, 0, 0)
"""Of every entry: the first that a zip can have."""
_FILE, _FOLDER = 0o100644 << 16, (0o40755 << 16) | 0x10
"""Modes of entries, as unix and as DOS have them."""


def refuse_existing(out: Path) -> None:
    """Refuse to write over anything, before any work is done.

    Raises
    ------
    UserError
        If there is something at `out`, or nowhere to put it.
    """
    if os.path.lexists(out):
        raise UserError(f"{out} is there already.", mend="choose another name, or remove it")
    if not out.absolute().parent.is_dir():
        raise UserError(f"{out.absolute().parent} is no folder.", mend="make it, or choose another place")


def write_crate(crate: Any, out: Path) -> None:
    """Write a crate to `out`: one zip if it ends with ``.zip``, else a folder.

    Parameters
    ----------
    crate
        An `rocrate.ROCrate`.
    out
        Where; there is nothing yet.
    """
    part = out.absolute().with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(3)}.part")
    packed = part.with_name(f"{part.name}.zip")
    try:
        crate.write(part)
        if out.suffix == ".zip":
            _zip(part, packed)
            packed.rename(out)
        else:
            part.rename(out)
        sync_folder(out.absolute().parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        packed.unlink(missing_ok=True)


def _zip(folder: Path, out: Path) -> None:
    with zipfile.ZipFile(out, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            entry = zipfile.ZipInfo(f"{name}/" if path.is_dir() else name, date_time=_DATE)
            if path.is_dir():
                entry.external_attr = _FOLDER
                archive.writestr(entry, b"")
                continue
            entry.external_attr = _FILE
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.file_size = path.stat().st_size  # Larger than 2 GiB must be known beforehand.
            with path.open("rb") as content, archive.open(entry, "w") as target:
                shutil.copyfileobj(content, target)
    with out.open("rb") as file:
        os.fsync(file.fileno())
