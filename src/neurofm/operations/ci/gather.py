"""What jobs hand over to each other: the `dvc.lock` of a job, and its outputs that are kept in git."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from neurofm.errors import UserError
from neurofm.files import write_atomic
from neurofm.operations.ci.plan import Planned, stage_names
from neurofm.operations.lock import (
    LOCK,
    NO_STAGES,
    Lock,
    Merged,
    commit_of,
    lock_of_revision,
    overlay_runs,
    read_lock,
    write_lock,
)

HANDED_OVER = Path(".neurofm/ci")
"""Has a folder for every commit, whose jobs hand over there: ``<stage>.lock``, and ``files/<stage>/`` with what the
stage keeps in git. A checkout that stays between pipelines holds those of earlier commits too: they are nobody's."""
_SUFFIX = ".lock"


def hand_over(stage: Planned, *, root: Path) -> None:
    """Put what a stage wrote where the jobs that follow find it."""
    folder = _folder(root)
    for path in stage.in_git:
        write_atomic(folder / "files" / stage.name / path, (root / path).read_bytes())
    write_atomic(folder / f"{stage.name}{_SUFFIX}", (root / LOCK).read_bytes())


def handed_over(root: Path) -> list[Path]:
    """Return the lock files that earlier jobs of this commit left, in order of their stages' names."""
    return sorted(_folder(root).glob(f"*{_SUFFIX}"))


def gather(locks: Sequence[Path], *, root: Path) -> Merged:
    """Take what jobs ran into ``dvc.lock``, and lay their outputs that are kept in git where they belong.

    Doing it twice changes nothing.

    Parameters
    ----------
    locks
        ``<stage>.lock``, each made from the ``dvc.lock`` of the commit that is checked out; only that stage counts.
    root
        The project's root.

    Raises
    ------
    UserError
        If one of them is no lock file, or does not have its stage. Nothing is written then.
    """
    by_stage = {path.name.removesuffix(_SUFFIX): path for path in locks}
    runs = {name: _read(path, name=name) for name, path in by_stage.items()}
    here = read_lock(root / LOCK)
    base = lock_of_revision("HEAD", root=root) or NO_STAGES
    merged = overlay_runs(here, runs, base=base, known=stage_names(root))
    for name, run in runs.items():
        files = by_stage[name].parent / "files" / name
        if files.is_dir() and merged.content["stages"].get(name) == run["stages"][name]:
            shutil.copytree(files, root, dirs_exist_ok=True)
    if merged.content != here:
        write_lock(root / LOCK, merged.content)
    return merged


def _read(path: Path, *, name: str) -> Lock:
    if not path.is_file():
        raise UserError(f"{path}: no such file.", mend="give what a job left as its artefact, STAGE.lock")
    run = read_lock(path)
    if name not in run["stages"]:
        raise UserError(f"{path}: has no stage {name!r}.", mend="leave it the name that the job gave it, STAGE.lock")
    return run


def _folder(root: Path) -> Path:
    return root / HANDED_OVER / commit_of("HEAD", root=root)
