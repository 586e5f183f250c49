"""What jobs hand over to each other: the `dvc.lock` of a job, and its outputs that are kept in git."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from neurofm.errors import UserError
from neurofm.files import write_atomic
from neurofm.operations.ci.plan import Planned, stage_names
from neurofm.operations.lock import LOCK, NO_STAGES, Merged, lock_of_revision, merge_locks, read_lock, write_lock

HANDED_OVER = Path(".neurofm/ci")
"""Artefact of every job of a stage: ``<stage>.lock``, and ``files/<stage>/`` with what the stage keeps in git."""


def hand_over(stage: Planned, *, root: Path) -> None:
    """Put what a stage wrote where the jobs that follow find it."""
    folder = root / HANDED_OVER
    for path in stage.in_git:
        write_atomic(folder / "files" / stage.name / path, (root / path).read_bytes())
    write_atomic(folder / f"{stage.name}.lock", (root / LOCK).read_bytes())


def handed_over(root: Path) -> list[Path]:
    """Return the lock files that earlier jobs left, in order of their stages' names."""
    return sorted((root / HANDED_OVER).glob("*.lock"))


def gather(locks: Sequence[Path], *, root: Path) -> Merged:
    """Merge the lock files of jobs into ``dvc.lock``, and lay their outputs that are kept in git where they belong.

    Each was made from the ``dvc.lock`` of the commit that is checked out. Doing it twice changes nothing.

    Raises
    ------
    UserError
        If one of them is no lock file. Nothing is written then.
    """
    if missing := [path for path in locks if not path.is_file()]:
        raise UserError(f"{missing[0]}: no such file.", mend="give the dvc.lock that a job left as its artefact")
    sides = [read_lock(root / LOCK), *(read_lock(path) for path in locks)]
    base = lock_of_revision("HEAD", root=root) or NO_STAGES
    merged = merge_locks(sides, base=base, known=stage_names(root))
    files = root / HANDED_OVER / "files"
    for folder in sorted(files.iterdir()) if files.is_dir() else ():
        shutil.copytree(folder, root, dirs_exist_ok=True)
    if merged.content != sides[0]:
        write_lock(root / LOCK, merged.content)
    return merged
