"""What a job of CI does for a stage, in a checkout without data: pull, run, push, hand over."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from neurofm.errors import UserError
from neurofm.files import write_atomic
from neurofm.operations.ci.gather import gather, hand_over, handed_over
from neurofm.operations.ci.plan import Planned, changed_here, plan_stages, stage_names
from neurofm.operations.lock import LOCK, NO_STAGES, Lock, lock_of_revision, read_lock, write_lock
from neurofm.operations.remote import require_verified
from neurofm.remote.project import read_settings

UNFINISHED = Path(".neurofm/unfinished")
"""What a job that failed had finished of its persistent outputs: kept in CI's cache, laid back by the next one."""
ASIDE = Path(".neurofm/aside")
"""The same, where the checkout stays between jobs: out of the way while the outputs of the run before come."""
_LIST = "kept.txt"
_RECEIPTS = Path(".neurofm/receipts")


def reproduce_stage(name: str, *, root: Path) -> bool:
    """Run one stage, and nothing else, where what it needs lies on the remote only.

    Parameters
    ----------
    name
        As in ``dvc.lock``: ``preprocess@gw-rest``.
    root
        The project's root, as checked out; ``.neurofm/ci`` may hold what earlier jobs handed over.

    Returns
    -------
    bool
        Whether it ran: False if it turns out that nothing it reads changed.

    Raises
    ------
    UserError
        If ``dvc.yaml`` has no such stage, or ``dvc`` fails; the recordings that were finished are set aside for the
        next run of the job.
    """
    before = _lock_before(root)
    gather(handed_over(root), root=root)
    found = [stage for stage in plan_stages(root) if stage.name == name and stage.why]
    if not found:
        if name not in (stage_names(root) or ()):
            raise UserError(f"dvc.yaml has no stage {name!r}.", mend="take one that `neurofm ci plan` names")
        return False
    (stage,) = found
    _pull([stage], before=before, root=root)
    try:
        _dvc("repro", "--single-item", name, root=root)
        _dvc("push", name, root=root)
    except UserError:
        _set_aside([*stage.persists, str(_RECEIPTS / stage.dataset)], root=root)
        raise
    _set_aside([], root=root)
    hand_over(stage, root=root)
    return True


def reproduce_rest(*, root: Path) -> list[str]:
    """Run every stage that is left, in order, after the jobs of datasets; returns the planned ones."""
    before = _lock_before(root)
    gather(handed_over(root), root=root)
    stages = plan_stages(root)
    if not any(stage.why for stage in stages):
        return []
    _pull(stages, before=before, root=root)
    _dvc("repro", "--allow-missing", root=root)
    _dvc("push", root=root)
    return [stage.name for stage in stages]


def _lock_before(root: Path) -> Lock:
    """Return what was known before anything was gathered: that leaves out stages whose old outputs are wanted."""
    here, committed = read_lock(root / LOCK), lock_of_revision("HEAD", root=root) or NO_STAGES
    return here | {"stages": {**committed["stages"], **here["stages"]}}


def _set_aside(paths: Sequence[str], *, root: Path) -> None:
    """Move what a failed stage had finished to where CI's cache takes it from, in place of what was there before."""
    shutil.rmtree(root / UNFINISHED, ignore_errors=True)
    # Never empty: a runner leaves the old cache in place where it finds nothing to put in.
    write_atomic(root / UNFINISHED / _LIST, "".join(f"{path}\n" for path in paths).encode())
    _move(paths, source=root, target=root / UNFINISHED)


def _pull(stages: Sequence[Planned], *, before: Lock, root: Path) -> None:
    """Pull what the stages read, as far as they do not make it themselves, and lay their unfinished outputs out.

    These come on top of those of the last run that succeeded: a stage looks at every shard anyway.
    """
    require_verified(read_settings(root))
    made = {path for stage in stages for path in stage.makes}
    if inputs := sorted({path for stage in stages for path in stage.inputs} - made):
        _dvc("pull", *inputs, root=root)
    persists = {path for stage in stages for path in stage.persists}
    recorded = {out["path"] for stage in stages for out in before["stages"].get(stage.name, {}).get("outs", [])}
    if old := sorted(persists & recorded):
        _pull_old(old, before=before, root=root)
    if (root / UNFINISHED).is_dir():
        shutil.copytree(root / UNFINISHED, root, ignore=shutil.ignore_patterns(_LIST), dirs_exist_ok=True)
    _lay_back(root)


def _pull_old(paths: Sequence[str], *, before: Lock, root: Path) -> None:
    """Pull outputs as `before` has them: DVC looks a path up in ``dvc.lock``, so that this stands there meanwhile.

    What a job that was cancelled left in a checkout that stays would be in DVC's way, and goes aside.
    """
    gathered = (root / LOCK).read_bytes()
    _lay_back(root)
    write_lock(root / LOCK, before)
    try:
        _move(changed_here(paths, root=root), source=root, target=root / ASIDE)
        # A stage makes anew what is not on the remote.
        _dvc("pull", "--allow-missing", *paths, root=root)
    except UserError:
        _lay_back(root)
        raise
    finally:
        write_atomic(root / LOCK, gathered)


def _lay_back(root: Path) -> None:
    """Move what stands aside over what is there, file by file."""
    for folder, _, names in os.walk(root / ASIDE):
        target = root / Path(folder).relative_to(root / ASIDE)
        target.mkdir(parents=True, exist_ok=True)
        for name in names:
            (Path(folder) / name).replace(target / name)
    shutil.rmtree(root / ASIDE, ignore_errors=True)


def _move(paths: Sequence[str], *, source: Path, target: Path) -> None:
    for path in paths:
        if (source / path).exists():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).rename(target / path)


def _dvc(*arguments: str, root: Path) -> None:
    """Run dvc as a person would, and say so: its own words go to the job's log."""
    binaries = Path(sys.executable).parent
    sys.stdout.write(f"$ {shlex.join(('dvc', *arguments))}\n")
    sys.stdout.flush()
    environment = os.environ | {"PATH": f"{binaries}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    done = subprocess.run([str(binaries / "dvc"), *arguments], cwd=root, env=environment, check=False)  # noqa: S603
    if done.returncode != 0:
        raise UserError(
            f"`{shlex.join(('dvc', *arguments))}` ended with {done.returncode}.",
            mend="read what it said above; run the job again when that is mended, nothing is lost",
        )
