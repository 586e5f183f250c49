"""How DVC links its cache to the project, and what that costs persisted outputs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dvc_objects.fs.generic import test_links

from neurofm.operations.doctor.disk import existing, filesystem
from neurofm.operations.doctor.finding import Finding, note, ok, problem
from neurofm.operations.doctor.place import Place
from neurofm.operations.tables import size_text

_LINKS = ("reflink", "hardlink", "symlink")
_PERSISTED = ("data/raw", "data/derivatives", "data/shards", "data/receipts")
"""Outputs with `persist: true` in dvc.yaml."""
_REFLINK = "dvc config --local cache.type reflink,copy"


def cache(place: Place) -> Iterator[Finding]:
    """Try which links this filesystem has, and say what the chosen one means.

    DVC 3.67 copies a persisted output whole, out of the cache, each time its stage runs, wherever the files are
    symbolic or hard links; a copy made by reflink costs neither time nor room
    (`tests/operations/test_doctor_links.py` tries it).
    """
    with place.dvc() as repo:
        chosen: list[str] = list(repo.cache.local.cache_types)
        here = _links_here(repo, place.root)
        folder = Path(repo.cache.local_cache_dir)
    where = f"{folder} ({filesystem(existing(folder))})"
    usable = [kind for kind in chosen if kind == "copy" or kind in here]
    if not usable:
        yield problem(
            f"cache.type is {','.join(chosen)}, which {where} cannot do: `dvc checkout` and `dvc pull` fail",
            mend=_REFLINK,
        )
        return
    first = usable[0]
    if first == "reflink" or (first == "copy" and "reflink" in here):
        yield ok(f"{where} has reflinks: project and cache share their blocks")
    elif first == "copy":
        yield note(
            f"{where} has no reflinks with the project: all data lie on disk twice",
            mend="" if _same_disk(place.root, folder) else "dvc cache dir --local PATH, on the project's own disk",
        )
    else:
        yield from _of_links(place, first, reflink="reflink" in here)


def _of_links(place: Place, kind: str, *, reflink: bool) -> Iterator[Finding]:
    """Say what symbolic and hard links cost."""
    mend = f"{_REFLINK} && dvc checkout --relink"
    size, free = _persisted_bytes(place), os.statvfs(place.root)
    room = free.f_bavail * free.f_frsize
    copied = (
        f"each time a stage with persisted outputs runs, DVC copies them whole out of the cache ({size_text(size)})"
    )
    if not reflink and size > room:
        yield problem(f"{kind}s: {copied}, and {size_text(room)} are free here", mend=mend)
    elif kind == "symlink":
        yield note(f"symlinks: {copied}", mend=mend)
    else:
        yield note(f"hardlinks: files in the project are read-only; {copied}", mend=mend)


def _links_here(repo: Any, root: Path) -> list[str]:
    """Try each kind of link on two small files: from the cache (or where it will be) into the project."""
    fs, folder = repo.cache.local.fs, existing(Path(repo.cache.local.path))
    inside = root / ".dvc" / "tmp" / "doctor"
    inside.parent.mkdir(parents=True, exist_ok=True)
    found: list[str] = test_links(list(_LINKS), fs, str(folder), repo.fs, str(inside))
    return found


def _same_disk(one: Path, other: Path) -> bool:
    return existing(one).stat().st_dev == existing(other).stat().st_dev


def _persisted_bytes(place: Place) -> int:
    """Return the bytes of persisted outputs, links followed."""
    files = (path for name in _PERSISTED for path in (place.root / name).rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files)
