"""The pipeline as it was run: stages, settings and digests of ``dvc.lock``, and whether the disk still agrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from graphlib import TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from neurofm.catalog import read_yaml
from neurofm.errors import UserError
from neurofm.operations.provenance.subject import printable

PARAMS = "params.yaml"
_CODE = ("src/", "stages/")
_SHARED_SCHEMES = frozenset({"s3", "gs", "azure", "https", "http"})
"""Of remotes that lie elsewhere than on this machine."""


class State(StrEnum):
    """How what lies on disk stands to what dvc.lock has."""

    AS_LOCKED = "as locked"
    CHANGED = "changed since"
    PARTIAL = "only a part is here"
    MISSING = "not here"


@dataclass(frozen=True, kw_only=True)
class Artefact:
    """A file or folder that a stage read or wrote."""

    path: str
    """Relative to the project's root, as dvc.lock has it."""
    digest: str
    """``md5:<hex>``; of a folder's listing it ends with ``.dir``."""
    size: int | None
    """Bytes."""
    files: int | None
    """How many there are in a folder; None for a file."""

    @property
    def is_code(self) -> bool:
        """Whether it is a part of this project's code."""
        return self.path.startswith(_CODE)


@dataclass(frozen=True, kw_only=True)
class LockedStage:
    """One stage as it was last run."""

    name: str
    """``preprocess@gw-rest``"""
    command: str
    deps: tuple[Artefact, ...]
    outs: tuple[Artefact, ...]
    params: Mapping[str, Any]
    """Values by dotted name, of params.yaml."""
    in_git: frozenset[str]
    """Outputs that git keeps, and not DVC."""

    @property
    def dataset(self) -> str:
        """The dataset that the stage is about; empty if it is about all."""
        return self.name.partition("@")[2]


class Pipeline:
    """What DVC knows of a project.

    Parameters
    ----------
    root
        The project's root.
    repo
        DVC's own view of it.
    stages
        By name: those of dvc.yaml that dvc.lock has. Entries of stages that are no longer there are left out: DVC keeps
        them, but what they name may be another stage's by now.
    never_run
        Stages of dvc.yaml that dvc.lock does not have, by the outputs that they would make.
    """

    def __init__(
        self, *, root: Path, repo: Any, stages: Mapping[str, LockedStage], never_run: Mapping[str, str]
    ) -> None:
        self._root = root
        self._repo = repo
        self._states: dict[str, State] = {}
        self.stages = stages
        self.never_run = never_run

    @classmethod
    def read(cls, root: Path) -> Self:
        """Read dvc.yaml and dvc.lock as DVC does.

        Raises
        ------
        UserError
            If `root` is no DVC project, or one of the files is not readable.
        """
        # A second, which only these commands need.
        from dvc.dvcfile import PROJECT_FILE, load_file  # type: ignore[import-untyped]  # noqa: PLC0415
        from dvc.exceptions import DvcException  # type: ignore[import-untyped]  # noqa: PLC0415
        from dvc.repo import Repo  # type: ignore[import-untyped]  # noqa: PLC0415

        try:
            repo = Repo(str(root.absolute()))
            project = load_file(repo, str(root.absolute() / PROJECT_FILE))
            known = dict(project.stages)
            locked = project.lockfile_contents.get("stages", {})
        except DvcException as error:
            raise UserError(
                f"dvc.yaml and dvc.lock of {root.absolute()} are not readable: {error}.",
                mend="run neurofm in the project's folder; `dvc status` says more",
            ) from None
        stages = {}
        for name in sorted(known.keys() & locked.keys(), key=list(locked).index):
            outs = known[name].outs
            in_git = frozenset(_within(root, out.fs_path) for out in outs if not out.use_cache)
            stages[name] = _stage(name, locked[name], in_git=in_git)
        never_run = {
            _within(root, out.fs_path): name
            for name in sorted(known.keys() - locked.keys())
            for out in known[name].outs
        }
        return cls(root=root, repo=repo, stages=stages, never_run=never_run)

    @cached_property
    def _makers(self) -> Mapping[str, tuple[LockedStage, Artefact]]:
        return {out.path: (stage, out) for stage in self.stages.values() for out in stage.outs}

    def maker(self, path: str) -> tuple[LockedStage, Artefact] | None:
        """Return the stage that made `path`, and the output that it is or lies in."""
        for parent in (PurePosixPath(path), *PurePosixPath(path).parents):
            if found := self._makers.get(str(parent)):
                return found
        return None

    def made_within(self, path: str) -> list[tuple[LockedStage, Artefact]]:
        """Return the outputs that lie in the folder `path`, with their stages."""
        return [found for name, found in self._makers.items() if PurePosixPath(name).is_relative_to(path)]

    def readers(self, path: str) -> list[str]:
        """Return the names of the stages that depend on `path`, on a folder that it lies in, or on what is in it."""
        return [
            stage.name
            for stage in self.stages.values()
            if any(_overlap(path, dep.path) for dep in stage.deps) or (path == PARAMS and stage.params)
        ]

    def before(self, stage: LockedStage) -> list[LockedStage]:
        """Return the stages whose outputs `stage` reads."""
        makers: dict[str, LockedStage] = {}
        for dep in stage.deps:
            near = self.maker(dep.path)
            makers |= {maker.name: maker for maker, _ in ([near] if near else self.made_within(dep.path))}
        return [maker for maker in makers.values() if maker is not stage]

    def upstream(self, *stages: LockedStage) -> list[LockedStage]:
        """Return the stages that `stages` rest on, without them; each before all that it rests on itself."""
        above: dict[str, list[str]] = {}
        waiting = list(stages)
        while waiting:
            stage = waiting.pop()
            if stage.name not in above:
                waiting += self.before(stage)
                above[stage.name] = [one.name for one in self.before(stage)]
        order = reversed(list(TopologicalSorter(above).static_order()))
        return [self.stages[name] for name in order if self.stages[name] not in stages]

    def state(self, artefact: Artefact) -> State:
        """Compare what lies on disk with dvc.lock; DVC remembers the digests of files that did not change."""
        if artefact.path not in self._states:
            self._states[artefact.path] = self._compare(artefact)
        return self._states[artefact.path]

    def _compare(self, artefact: Artefact) -> State:
        from dvc.dependency.base import Dependency  # type: ignore[import-untyped]  # noqa: PLC0415

        there = Dependency(None, str(self._root.absolute() / artefact.path), repo=self._repo)
        if not there.exists:
            return State.MISSING
        try:
            now = there.get_hash()
        except UnicodeEncodeError:
            # DVC has no way to keep a name that is no UTF-8, so it is not what was locked.
            return State.CHANGED
        except OSError as error:
            raise UserError(
                f"{artefact.path}: not readable ({error.strerror}: {printable(str(error.filename))}).",
                mend="see to its permissions",
            ) from None
        if f"{now.name}:{now.value}" == artefact.digest:
            return State.AS_LOCKED
        return State.PARTIAL if (there.get_meta().nfiles or 0) < (artefact.files or 0) else State.CHANGED

    def listing(self, artefact: Artefact) -> dict[str, str] | None:
        """Return the digests of a folder's files by their path in it; None where DVC's cache does not have the list."""
        from dvc_data.hashfile import load  # noqa: PLC0415
        from dvc_data.hashfile.hash_info import HashInfo  # noqa: PLC0415
        from dvc_data.hashfile.tree import Tree  # noqa: PLC0415
        from dvc_objects.errors import ObjectFormatError  # noqa: PLC0415

        kind, _, value = artefact.digest.partition(":")
        try:
            tree = load(self._repo.cache.local, HashInfo(kind, value))
        except (FileNotFoundError, ObjectFormatError):
            return None
        if not isinstance(tree, Tree):
            return None
        return {item["relpath"]: f"{kind}:{item[kind]}" for item in tree.as_list()}

    @cached_property
    def _settings(self) -> Any:
        return read_yaml(self._root / PARAMS)

    def changed_settings(self, stage: LockedStage) -> tuple[str, ...]:
        """Return the names of a stage's settings that params.yaml has otherwise by now."""
        return tuple(name for name, value in stage.params.items() if _lookup(self._settings, name) != value)

    @property
    def remote(self) -> str:
        """Where the default remote keeps its files, without whatever opens a door; empty if others cannot reach it."""
        config = self._repo.config
        found: str = config["remote"].get(config["core"].get("remote", ""), {}).get("url", "")
        parts = urlsplit(found)
        if parts.scheme not in _SHARED_SCHEMES or not parts.hostname:
            return ""
        host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
        return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))

    def mend(self, path: str) -> str:
        """Return the command that brings `path` here; empty where this project has none."""
        if found := self.maker(path):
            stage, out = found
            return f"git checkout -- {out.path}" if out.path in stage.in_git else f"dvc pull {path}"
        if self.made_within(path):
            return f"dvc pull -R {path}"
        return "" if path.startswith(("../", "/")) else f"git checkout -- {path}"


def _stage(name: str, locked: Mapping[str, Any], *, in_git: frozenset[str]) -> LockedStage:
    files = locked.get("params", {})
    return LockedStage(
        name=name,
        command=locked["cmd"] if isinstance(locked["cmd"], str) else " && ".join(locked["cmd"]),
        deps=tuple(_artefact(dep) for dep in locked.get("deps", ())),
        outs=tuple(_artefact(out) for out in locked.get("outs", ())),
        params={key: value for file in files.values() for key, value in file.items()},
        in_git=in_git,
    )


def _artefact(locked: Mapping[str, Any]) -> Artefact:
    kind = locked.get("hash", "md5")
    return Artefact(
        path=locked["path"], digest=f"{kind}:{locked[kind]}", size=locked.get("size"), files=locked.get("nfiles")
    )


def _lookup(settings: Any, name: str) -> Any:
    for key in name.split("."):
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings


def _within(root: Path, path: str) -> str:
    """Return a path of DVC's as dvc.lock writes it."""
    there = Path(path)
    return there.relative_to(root.absolute()).as_posix() if there.is_relative_to(root.absolute()) else path


def _overlap(one: str, other: str) -> bool:
    return PurePosixPath(one).is_relative_to(other) or PurePosixPath(other).is_relative_to(one)
