"""Room on disk, and what kind of disk it is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.operations import downloads, preflight
from neurofm.operations.doctor.finding import Finding, note, ok, problem
from neurofm.operations.doctor.place import Place
from neurofm.operations.tables import count_text, size_text

_LEAST_BYTES = 1_000_000_000
"""What a run of the smallest project needs beside its data: checkpoints, logs, temporary files."""
_LEAST_INODES = 10_000
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "lustre", "beegfs", "gpfs", "ceph", "fuse.sshfs", "9p"})
"""Filesystems of other machines: SQLite and locks are slow there, or missing."""


def disk(place: Place) -> Iterator[Finding]:
    """Look at the filesystems of the project, of DVC's cache and of temporary files."""
    folders = {"project": place.root, "temporary files": Path(tempfile.gettempdir())}
    with place.dvc() as repo:
        folders["DVC's cache"] = existing(Path(repo.cache.local_cache_dir))
    seen: dict[int, str] = {}
    for name, folder in folders.items():
        device = folder.stat().st_dev
        if device not in seen:
            seen[device] = name
            yield from _room(name, folder)
    if place.params and (short := _too_small(place)):
        yield problem(short[0], mend=short[1])


def _room(name: str, folder: Path) -> Iterator[Finding]:
    kind, free, found = filesystem(folder), shutil.disk_usage(folder).free, os.statvfs(folder)
    where = f"{folder} ({kind})"
    if free < _LEAST_BYTES:
        yield problem(
            f"{name}: {size_text(free)} free on {where}, no run fits",
            mend=f"free some of it (`du -xh --max-depth=2 {folder} | sort -h | tail`), or move to a larger one",
        )
        return
    if found.f_files and found.f_favail < _LEAST_INODES:  # Some filesystems (btrfs) have no bound, and say 0.
        yield problem(
            f"{name}: only {count_text(found.f_favail)} more files can be made on {where}, however small",
            mend=f"remove small files (`du --inodes -x {folder} | sort -n | tail` finds them)",
        )
        return
    if kind in _NETWORK and name == "project":
        yield note(
            f"{name}: {where} is another machine's: slow for DVC's database and for locks",
            mend="dvc config --local core.hardlink_lock true; or move the project to a local disk",
        )
    yield ok(f"{name}: {size_text(free)} free on {where}")


def _too_small(place: Place) -> tuple[str, str] | None:
    """Say if what this project will write does not fit."""
    if place.params is None:
        return None
    root = place.root
    plan = downloads.download_plan([load_entry(name, root=root) for name in place.datasets], root=root)
    sizes = preflight.forecast(place.params, plan, site=place.site, root=root, look_for_problems=False)
    said = preflight.disk_problem(sizes, root=root)
    told, _, mend = said.partition(" Mend: ")
    return (told.removeprefix("disk: "), mend) if said else None


def existing(folder: Path) -> Path:
    """Return `folder`, or the nearest folder above it that is there."""
    return next(one for one in (folder, *folder.parents) if one.is_dir())


def filesystem(folder: Path) -> str:
    """Return the type of the filesystem that `folder` is on: ``ext4``, ``xfs``, ``nfs4``."""
    mounts = Path("/proc/self/mounts")
    if not mounts.is_file():
        return "unknown"
    here, found, longest = str(folder.resolve()), "unknown", -1
    for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
        _, point, kind, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        inside = here == point or here.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= longest:  # What was mounted last hides what was there before.
            found, longest = kind, len(point)
    return found
