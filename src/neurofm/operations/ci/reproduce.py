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
from neurofm.operations.ci.plan import Planned, plan_stages

UNFINISHED = Path(".neurofm/unfinished")
"""What a job that failed had finished of its persistent outputs: kept in CI's cache, laid back by the next one."""
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
        If ``dvc`` fails; the recordings that were finished are set aside for the next run of the job.
    """
    gather(handed_over(root), root=root)
    found = [stage for stage in plan_stages(root) if stage.name == name and stage.why]
    if not found:
        return False
    (stage,) = found
    _pull([stage], root=root)
    _lay_back(root)
    try:
        _dvc("repro", "--single-item", name, root=root)
        _dvc("push", "--run-cache", name, root=root)
    except UserError:
        _set_aside([*stage.persists, str(_RECEIPTS / stage.dataset)], root=root)
        raise
    _set_aside([], root=root)
    hand_over(stage, root=root)
    return True


def reproduce_rest(*, root: Path) -> list[str]:
    """Run every stage that is left, in order, after the jobs of datasets; returns the planned ones."""
    gather(handed_over(root), root=root)
    stages = plan_stages(root)
    if not any(stage.why for stage in stages):
        return []
    _pull(stages, root=root)
    _dvc("repro", "--allow-missing", root=root)
    _dvc("push", "--run-cache", root=root)
    return [stage.name for stage in stages]


def _set_aside(paths: Sequence[str], *, root: Path) -> None:
    """Move what a failed stage had finished to where CI's cache takes it from, in place of what was there before."""
    shutil.rmtree(root / UNFINISHED, ignore_errors=True)
    # Never empty: a runner leaves the old cache in place where it finds nothing to put in.
    write_atomic(root / UNFINISHED / _LIST, "".join(f"{path}\n" for path in paths).encode())
    for path in paths:
        source, target = root / path, root / UNFINISHED / path
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)


def _lay_back(root: Path) -> None:
    """Lay what was kept over the outputs of the last run that succeeded: the stage looks at every shard anyway."""
    if (root / UNFINISHED).is_dir():
        shutil.copytree(root / UNFINISHED, root, ignore=shutil.ignore_patterns(_LIST), dirs_exist_ok=True)


def _pull(stages: Sequence[Planned], *, root: Path) -> None:
    """Pull what the stages read, as far as they do not make it themselves, and their own persistent outputs."""
    made = {path for stage in stages for path in stage.makes}
    if inputs := sorted({path for stage in stages for path in stage.inputs} - made):
        _dvc("pull", *inputs, root=root)
    if old := sorted({path for stage in stages for path in stage.old}):
        # A stage makes anew what is not on the remote.
        _dvc("pull", "--allow-missing", *old, root=root)


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
