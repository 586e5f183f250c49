"""Which stages are out of date, told from `dvc.lock`, code and settings: the data need not be there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurofm.errors import UserError
from neurofm.operations.lock import overlap

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")
"""Names of stages become names of jobs, files and words of a shell."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A stage that is out of date, or follows one that is."""

    name: str
    why: tuple[str, ...]
    """What changed; empty where it only follows stages that are out of date, and may turn out to have nothing to do."""
    after: tuple[str, ...]
    """Stages of the plan that it reads from."""
    inputs: tuple[str, ...]
    """Cached outputs of other stages that it reads."""
    makes: tuple[str, ...]
    """Its own outputs."""
    persists: tuple[str, ...]
    """Those that stay between runs."""
    in_git: tuple[str, ...]
    """Its own outputs that are kept in git (``cache: false``)."""

    @property
    def reason(self) -> str:
        """Why it is in the plan, in words."""
        return f"changed: {', '.join(self.why)}" if self.why else f"follows {', '.join(self.after)}"

    @property
    def group(self) -> str:
        """The stage's name in ``dvc.yaml``: ``preprocess`` of ``preprocess@gw-rest``."""
        return self.name.partition("@")[0]

    @property
    def dataset(self) -> str:
        """The dataset, or an empty text for a stage that covers all."""
        return self.name.partition("@")[2]


def plan_stages(root: Path) -> list[Planned]:
    """Return the stages that are out of date and all that follow them, inputs first.

    The answer is that of ``dvc repro --dry --allow-missing``, and of what that leaves out: stages that follow.

    Raises
    ------
    UserError
        If ``dvc.yaml`` or ``dvc.lock`` is not readable, another ``dvc`` is at work, or a stage has a name that is no
        name for a job.
    """
    from dvc.repo.reproduce import plan_repro  # type: ignore[import-untyped]  # noqa: PLC0415  # a second to import

    from neurofm.operations.dvc import is_aside  # noqa: PLC0415  # so has this

    with open_repo(root) as repo:
        graph = repo.index.graph
        planned: dict[str, Planned] = {}
        for stage in plan_repro(graph):
            if is_aside(stage, root=root):
                continue
            upstream = list(graph.successors(stage))
            after = [other for other in (_name(other, repo) for other in upstream) if other in planned]
            why = _why(stage, upstream)
            if why or after:
                name = _name(stage, repo)
                if not _SAFE.fullmatch(name):
                    raise UserError(f"dvc.yaml: stage {name!r}: no name for a job of CI.", mend="rename it in dvc.yaml")
                planned[name] = Planned(
                    name=name,
                    why=why,
                    after=tuple(sorted(after)),
                    inputs=tuple(sorted(_inputs(stage, upstream))),
                    makes=tuple(sorted(out.def_path for out in stage.outs)),
                    persists=tuple(sorted(out.def_path for out in stage.outs if out.persist)),
                    in_git=tuple(sorted(out.def_path for out in stage.outs if not out.use_cache)),
                )
        return list(planned.values())


def stage_names(root: Path) -> frozenset[str] | None:
    """Return the names of all stages; None where ``dvc.yaml`` is not readable, as in the middle of a merge."""
    try:
        with open_repo(root) as repo:
            return frozenset(_name(stage, repo) for stage in repo.index.stages)
    except UserError:
        return None


def changed_here(paths: Sequence[str], *, root: Path) -> list[str]:
    """Return those outputs that are here, and are not what ``dvc.lock`` says of them."""
    with open_repo(root) as repo:
        outs = [out for out in repo.index.outs if out.def_path in paths and out.exists]
        return [out.def_path for out in outs if out.changed_checksum()]


@contextmanager
def open_repo(root: Path) -> Iterator[Any]:
    """Open DVC's project while nobody else works on it; its errors become a `UserError`."""
    from dvc.exceptions import DvcException  # type: ignore[import-untyped]  # noqa: PLC0415
    from dvc.repo import Repo  # type: ignore[import-untyped]  # noqa: PLC0415

    try:
        with Repo(str(root)) as repo, repo.lock:
            yield repo
    except DvcException as error:
        raise UserError(
            f"{root.resolve()}: DVC says: {' '.join(str(error).split())}.",
            mend="run this at the project's root, with a dvc.yaml and a dvc.lock that `dvc status` reads",
        ) from error


def _name(stage: Any, repo: Any) -> str:
    """Return a stage's name in ``dvc.lock``, wherever this runs; with its file, where that is not the root's."""
    file = Path(stage.path).relative_to(repo.root_dir).as_posix()
    name = getattr(stage, "name", None) or ""
    return name if file == "dvc.yaml" else f"{file}:{name}"


def _why(stage: Any, upstream: Sequence[Any]) -> tuple[str, ...]:
    """Say what changed since the run that ``dvc.lock`` tells of."""
    if not any(out.hash_info for out in stage.outs):
        return ("no run is in dvc.lock",)
    if not stage.changed(allow_missing=True, upstream=upstream):
        return tuple(f"{path} (other files)" for path in _other_sizes(stage, upstream))
    said = ["its command"] if stage.changed_stage() else []
    for one in (*stage.deps, *stage.outs):
        for state in one.status().values():
            if isinstance(state, dict):
                said += sorted(state)
            elif state not in {"deleted", "not in cache"}:
                said.append(one.def_path)
    return tuple(dict.fromkeys(said)) or ("what it reads, made anew",)


def _other_sizes(stage: Any, upstream: Iterable[Any]) -> list[str]:
    """Return the folders of several outputs (``data/shards``) that are not here and held other files in its last run.

    Their digest cannot be had without the files; how many there are and of what size can.
    """
    found = []
    for dep in stage.deps:
        inside = [out for other in upstream for out in other.outs if out.def_path.startswith(f"{dep.def_path}/")]
        if not inside or dep.exists or dep.meta is None or dep.meta.size is None:
            continue
        if not all(out.hash_info and out.meta.size is not None for out in inside):
            continue
        size, count = sum(out.meta.size for out in inside), sum(out.meta.nfiles or 1 for out in inside)
        if (size, count) != (dep.meta.size, dep.meta.nfiles):
            found.append(dep.def_path)
    return found


def _inputs(stage: Any, upstream: Iterable[Any]) -> set[str]:
    read = [dep.def_path for dep in stage.deps]
    return {
        out.def_path
        for other in upstream
        for out in other.outs
        if out.use_cache and any(overlap(out.def_path, path) for path in read)
    }
