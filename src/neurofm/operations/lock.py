"""`dvc.lock`, merged stage by stage: two branches, or the jobs of a pipeline, that each ran stages come together."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from neurofm.errors import UserError
from neurofm.files import write_atomic

LOCK = Path("dvc.lock")
SCHEMA = "2.0"
"""Of DVC 3's lock files."""
DRIVER = "neurofm-lock"
"""Merge driver of `dvc.lock` in `.gitattributes`."""
METRICS_DRIVER = "neurofm-metrics"
"""Merge driver of the metrics files: this side's stay, and are written anew by the stages that were left out."""

_STALE = "what it reads is no longer what it ran on"
_MARKERS = re.compile(r"^(<<<<<<<|=======|>>>>>>>|\|\|\|\|\|\|\|)( |$)", re.MULTILINE)

Lock = dict[str, Any]
"""Content of a lock file: ``schema`` and ``stages``."""
NO_STAGES: Lock = {"schema": SCHEMA, "stages": {}}
"""What is not there."""


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What came out of a merge."""

    content: Lock
    left_out: dict[str, str] = field(default_factory=dict)
    """Stages that the next ``dvc repro`` has to run, and why."""
    dropped: tuple[str, ...] = ()
    """Stages that are no longer in ``dvc.yaml``."""

    def lines(self) -> list[str]:
        """Say what a person has to know: nothing, where all came together."""
        said = [f"{stage}: left out, so that the next dvc repro runs it: {why}" for stage, why in self.left_out.items()]
        return said + [f"{stage}: dropped, it is no longer in dvc.yaml" for stage in self.dropped]


def read_lock(path: Path) -> Lock:
    """Read a lock file; one that is missing or empty (as git gives one that did not exist) has no stages.

    Raises
    ------
    UserError
        If it holds git's conflict markers, or is no lock file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable ({' '.join(str(error).split())}).", mend="correct the path") from None
    return parse_lock(text, where=str(path))


def parse_lock(text: str, *, where: str) -> Lock:
    """Read the text of a lock file; see `read_lock`."""
    if _MARKERS.search(text):
        raise UserError(
            f"{where}: holds git's conflict markers.",
            mend="run `neurofm lock merge` without arguments: it takes the three versions from git and writes one",
        )
    try:
        content = YAML(typ="safe", pure=True).load(text) or NO_STAGES
    except YAMLError as error:
        raise UserError(
            f"{where}: not readable as YAML: {' '.join(str(error).split())}.",
            mend="take a version from git: git checkout HEAD -- dvc.lock",
        ) from None
    stages = content.get("stages") if isinstance(content, dict) else None
    if not isinstance(stages, dict) or content.get("schema") != SCHEMA:
        raise UserError(
            f"{where}: no lock file of DVC 3 (schema {SCHEMA}).", mend="give a dvc.lock as `dvc repro` writes it"
        )
    return content


def merge_locks(sides: Sequence[Lock], *, base: Lock, known: frozenset[str] | None = None) -> Merged:
    """Merge lock files that come from `base`, stage by stage.

    A stage that was changed on one side, or to the same on several, is taken from there. One that was changed to
    different things is left out, and so is one whose inputs are no longer those it ran on.

    Parameters
    ----------
    sides
        At least one. Stages stand in the order of the first side, then what others add.
    base
        What all sides come from; without stages where nobody knows.
    known
        Stages of ``dvc.yaml``; others are dropped. None keeps all.

    Raises
    ------
    UserError
        If the sides differ in something that is not a stage.
    """
    content = _rest_of(sides, base=base)
    before = base["stages"]
    stages: dict[str, Any] = {}
    left_out: dict[str, str] = {}
    dropped = []
    for name in dict.fromkeys(name for side in sides for name in side["stages"]):
        entry = before.get(name)
        changed = [side["stages"].get(name) for side in sides if side["stages"].get(name) != entry]
        if known is not None and name not in known:
            dropped.append(name)
        elif any(other != changed[0] for other in changed):
            left_out[name] = "one side changed it, another removed it" if None in changed else "both sides changed it"
        elif found := changed[0] if changed else entry:
            stages[name] = found
    ran = {
        name: [base] if before.get(name) == entry else [side for side in sides if side["stages"].get(name) == entry]
        for name, entry in stages.items()
    }
    left_out |= dict.fromkeys(_stale(stages, ran=ran, unknown=frozenset(left_out)), _STALE)
    for name in left_out:
        stages.pop(name, None)
    return Merged(content=content | {"stages": stages}, left_out=left_out, dropped=tuple(dropped))


def overlay_runs(lock: Lock, runs: Mapping[str, Lock], *, base: Lock, known: frozenset[str] | None = None) -> Merged:
    """Lay what jobs ran over a lock file, stage by stage, and leave out what no longer fits.

    Parameters
    ----------
    lock
        That of the checkout. A stage that ran here since `base` stays as it is.
    runs
        By stage, the whole lock file of the checkout where it ran. Nothing but the stage's own entry is taken from
        it: the job may have left out others, which jobs of their own ran meanwhile.
    base
        What all of them come from.
    known
        Stages of ``dvc.yaml``; others are dropped. None keeps all.
    """
    here, before = lock["stages"], base["stages"]
    taken = {name: run for name, run in runs.items() if here.get(name) in (None, before.get(name))}
    stages = {**here, **{name: run["stages"][name] for name, run in taken.items()}}
    dropped = tuple(name for name in stages if known is not None and name not in known)
    for name in dropped:
        del stages[name]
    ran = {
        name: [taken[name]] if name in taken else [base] if before.get(name) == entry else [lock]
        for name, entry in stages.items()
    }
    left_out = dict.fromkeys(_stale(stages, ran=ran), _STALE)
    for name in left_out:
        del stages[name]
    return Merged(content=lock | {"stages": stages}, left_out=left_out, dropped=dropped)


def _rest_of(sides: Sequence[Lock], *, base: Lock) -> Lock:
    """Return what is in lock files beside stages."""
    content: Lock = {}
    for key in dict.fromkeys(key for side in sides for key in side if key != "stages"):
        changed = [side[key] for side in sides if key in side and side[key] != base.get(key)]
        if any(other != changed[0] for other in changed):
            raise UserError(f"dvc.lock: both sides changed `{key}`.", mend="take a side: git checkout --ours dvc.lock")
        content[key] = changed[0] if changed else base[key]
    return content


def _stale(stages: Mapping[str, Any], *, ran: Mapping[str, Sequence[Lock]], unknown: Collection[str] = ()) -> list[str]:
    """Return the stages whose entry is not known to have run on the outputs that now feed it.

    DVC itself compares the digest of a dependency with the file's; where a stage reads the folder that holds several
    outputs (``data/shards``), that needs the files, which whoever merges may not have.

    Parameters
    ----------
    stages
        Merged.
    ran
        By stage, the lock files of where its entry comes from.
    unknown
        Stages that were left out already: their outputs are none to compare.
    """
    return [
        name
        for name, entry in stages.items()
        if _feeds(entry, stages, without=unknown)
        not in [_feeds(entry, lock["stages"], without=unknown) for lock in ran[name]]
    ]


def _feeds(entry: Mapping[str, Any], stages: Mapping[str, Any], *, without: Collection[str]) -> dict[str, Any]:
    """Return the outputs, by path, that lie at, in or around what a stage reads."""
    read = [dep["path"] for dep in entry.get("deps", [])]
    return {
        out["path"]: out.get("md5")
        for name, other in stages.items()
        if name not in without
        for out in other.get("outs", [])
        if any(overlap(out["path"], path) for path in read)
    }


def overlap(one: str, other: str) -> bool:
    """Whether one path is the other, or lies in it.

    Examples
    --------
    >>> overlap("data/shards", "data/shards/gw-rest"), overlap("data/shards", "data/shards-old")
    (True, False)
    """
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def write_lock(path: Path, content: Lock) -> None:
    """Write a lock file atomically, as DVC renders it."""
    yaml = YAML()
    yaml.default_flow_style = False
    stream = io.BytesIO()
    yaml.dump(content, stream)
    write_atomic(path, stream.getvalue())


def locks_in_conflict(root: Path) -> tuple[Lock, Lock, Lock]:
    """Return base, ours and theirs of a merge that git stopped in, from its index.

    Raises
    ------
    UserError
        If `dvc.lock` is in no conflict.
    """
    base, ours, theirs = (lock_of_revision(f":{stage}", root=root) for stage in (1, 2, 3))
    if ours is None and theirs is None:
        raise UserError(
            "dvc.lock: git knows of no conflict in it.",
            mend="run this while a merge is stopped, or name the files: neurofm lock merge --base BASE OURS THEIRS",
        )
    return base or NO_STAGES, ours or NO_STAGES, theirs or NO_STAGES


def lock_of_revision(revision: str, *, root: Path) -> Lock | None:
    """Return ``dvc.lock`` of a commit (or ``:1`` to ``:3``, the sides of a conflict); None where there is none."""
    done = _git("show", f"{revision}:./{LOCK}", root=root)
    return parse_lock(done.stdout, where=f"{LOCK} of {revision}") if done.returncode == 0 else None


def commit_of(revision: str, *, root: Path) -> str:
    """Return the hash of a commit.

    Raises
    ------
    UserError
        If git does not know it, or this is no clone.
    """
    done = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", root=root)
    if done.returncode != 0:
        raise UserError(f"{root.resolve()}: git knows no commit {revision}.", mend="run this in a clone of the project")
    return done.stdout.strip()


def install_driver(root: Path) -> list[str]:
    """Make this clone merge `dvc.lock` and the metrics by themselves; returns what was set.

    Raises
    ------
    UserError
        If this is no git repository.
    """
    program = shlex.quote(str(Path(sys.executable).with_name("neurofm")))
    # git merges dvc.yaml at the same time: the stages that it has now are no measure of those it will have.
    command = f"{program} lock merge --keep-unknown --base %O --output %A %A %B"
    settings = {
        f"merge.{DRIVER}.name": "dvc.lock, stage by stage",
        f"merge.{DRIVER}.driver": command,
        f"merge.{METRICS_DRIVER}.name": "metrics: ours, until dvc repro writes them",
        f"merge.{METRICS_DRIVER}.driver": "true",
    }
    for key, value in settings.items():
        done = _git("config", "--local", key, value, root=root)
        if done.returncode != 0:
            raise UserError(
                f"{root.resolve()}: git does not take the setting ({' '.join(done.stderr.split())}).",
                mend="run this inside a clone of the project",
            )
    return [f"{key} = {value}" for key, value in settings.items()]


def _git(*arguments: str, root: Path) -> subprocess.CompletedProcess[str]:
    command = ("git", *arguments)
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
