"""Damage: how what libraries raise on a damaged file becomes a reason that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from neurofm.recording.status import Unreadable

_LONGEST = 300


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into `Unreadable`.

    Put only calls into libraries inside: what they raise on foreign bytes is not documented
    (``OSError``, ``KeyError``, ``EOFError``, ``struct.error``, ``zlib.error`` were all seen).
    """
    if not path.is_file():
        raise Unreadable(f"{path.name}: no such file")
    if path.stat().st_size == 0:
        raise Unreadable(f"{path.name}: the file is empty")
    try:
        yield
    except (Unreadable, MemoryError):
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:_LONGEST]
        raise Unreadable(f"{path.name}: not readable, {type(error).__name__}: {said}") from error
