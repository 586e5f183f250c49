"""Outputs: what dvc.lock says the pipeline wrote, fetched where it is missing and hashed anew."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException  # type: ignore[import-untyped]  # DVC has no types
from dvc.repo import Repo  # type: ignore[import-untyped]

from neurofm.errors import UserError
from neurofm.operations.certify.finding import Finding, Part, Status
from neurofm.operations.tables import size_text
from neurofm.progress import Progressing

_SHOWN = 3
_RAW = "data/raw/"
_FOLDER = ".dir"
"""How DVC ends the digest of a folder; the object of that name lists the folder's files."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """One output of one stage, as dvc.lock has it."""

    path: str
    stage: str
    md5: str
    """Empty where dvc.lock does not know it: its stage never ran."""
    size: int
    cached: bool
    """False: it is in git, and not in DVC's cache."""


@dataclass(frozen=True, kw_only=True)
class Pulled:
    """What `dvc pull` was asked for."""

    outputs: int
    size: int
    """Bytes of what was missing in the workspace; what DVC's cache had did not come over the network."""


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """All outputs of the pipeline, and where DVC keeps copies of them."""

    root: Path
    all: tuple[Output, ...]
    cache: Path

    @classmethod
    def read(cls, root: Path) -> Outputs:
        """Read dvc.yaml and dvc.lock as DVC does.

        Raises
        ------
        UserError
            If they are not readable.
        """
        try:
            with Repo(str(root.absolute())) as repo:
                found = tuple(_output(out, root=root) for out in repo.index.outs)
                return cls(root=root, all=found, cache=Path(repo.cache.local.path))
        except DvcException as error:
            problem = f"dvc.yaml and dvc.lock of {root.absolute()} are not readable: {error}."
            raise UserError(problem, mend="run neurofm in the project's folder; `dvc status` says more") from None

    @property
    def missing(self) -> tuple[Output, ...]:
        """Outputs that DVC could bring and that are not in the workspace."""
        return tuple(out for out in self.all if out.cached and out.md5 and not (self.root / out.path).exists())

    def pull(self) -> Pulled:
        """Bring what is missing from the remote, and touch nothing else.

        Raises
        ------
        UserError
            If it cannot be had; where that is raw files only, what cannot be built again is said later.
        """
        missing = self.missing
        size = sum(out.size for out in missing)
        if missing:
            sys.stderr.write(f"dvc pull: {len(missing)} of {len(self.all)} outputs are not here, {size_text(size)}\n")
            done = _dvc(self.root, "pull", *(out.path for out in missing))
            if lacking := _needed(self.missing):
                raise UserError(
                    f"{_named(lacking)} cannot be had: {_said(done)}.",
                    mend="`dvc remote list` shows where outputs are pulled from (`dvc remote add -d NAME URL` names a "
                    "place); without a remote `dvc repro` makes them",
                )
        return Pulled(outputs=len(missing), size=size)

    def require(self) -> None:
        """Refuse to go on without outputs that only `dvc pull` or `dvc repro` could bring.

        Raises
        ------
        UserError
            Naming the first of them.
        """
        if missing := _needed(self.missing):
            raise UserError(
                f"{_named(missing)} {'are' if len(missing) > 1 else 'is'} not here.",
                mend="run without --no-pull, or make them with `dvc repro`",
            )
        if never := [out for out in self.all if not out.md5]:
            raise UserError(
                f"dvc.lock does not know {_named(out.path for out in never)}: {never[0].stage} never ran here.",
                mend="`dvc repro`, then commit dvc.lock",
            )

    def compare(self) -> Iterator[Finding]:
        """Compare outputs, code and settings with dvc.lock, every file hashed anew."""
        status = self._status()
        stages = sorted({out.stage for out in self.all})
        dated = [finding for stage in stages for finding in _out_of_date(stage, status.get(stage, []))]
        yield from dated
        if not dated:
            yield Finding(
                part=Part.CODE,
                item=f"{len(stages)} stages",
                status=Status.EQUAL,
                detail="code, settings and inputs are those that dvc.lock names",
            )
        changed = {
            path: how
            for entries in status.values()
            for entry in entries
            if isinstance(entry, dict)
            for path, how in entry.get("changed outs", {}).items()
        }
        for out in self.all:
            yield self._compared(out, changed.get(out.path))

    def _status(self) -> dict[str, list[Any]]:
        """Ask DVC how the workspace differs; with a memory of its own, so that it believes no digest of earlier."""
        with tempfile.TemporaryDirectory(prefix="neurofm-dvc-") as memory:
            done = _dvc(self.root, "status", "--json", DVC_SITE_CACHE_DIR=memory)
        if done.returncode:
            raise UserError(f"`dvc status` failed: {_said(done)}.", mend="run it by hand to see more")
        status: dict[str, list[Any]] = json.loads(done.stdout)
        return status

    def _compared(self, out: Output, how: str | None) -> Finding:
        facts = f"{size_text(out.size)}, md5 {out.md5}"
        if how is None or how == "not in cache":
            return Finding(part=Part.ARTEFACTS, item=out.path, status=Status.EQUAL, detail=facts)
        if how == "deleted":
            mend = f"`dvc pull {out.path}`" if out.cached else f"`git checkout {out.path}`"
            return Finding(part=Part.ARTEFACTS, item=out.path, status=Status.NOT_REBUILT, detail="not here", mend=mend)
        mend = (
            f"`dvc checkout --force {out.path}` takes it from DVC's cache, `dvc repro {out.stage}` makes it anew"
            if out.cached
            else f"`git checkout {out.path}`, or `dvc repro {out.stage}` and commit dvc.lock with it"
        )
        return Finding(
            part=Part.ARTEFACTS, item=out.path, status=Status.DIFFERS, detail=self._which(out) or facts, mend=mend
        )

    def _which(self, out: Output) -> str:
        """Say which files of a folder differ, if DVC's cache still has the list of them."""
        listed = self._files(out)
        if listed is None:
            return ""
        folder = self.root / out.path
        here = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        wrong = [name for name, digest in listed.items() if name in here and md5_of(here[name]) != digest]
        said = [("changed", wrong), ("missing", listed.keys() - here.keys()), ("added", here.keys() - listed.keys())]
        return "; ".join(f"{word}: {_named(sorted(names))}" for word, names in said if names)

    def _files(self, out: Output) -> dict[str, str] | None:
        """Return MD5 per file of a folder, from the list in DVC's cache; None if it is not there or no list."""
        try:
            listed = json.loads(self._object(out.md5).read_bytes()) if out.md5.endswith(_FOLDER) else None
        except (OSError, ValueError):
            return None
        return None if listed is None else {entry["relpath"]: entry["md5"] for entry in listed}

    def _object(self, md5: str) -> Path:
        return self.cache / md5[:2] / md5[2:]

    def compare_cache(self) -> Iterator[Finding]:
        """Hash every object of DVC's cache that these outputs name: what is pushed and checked out comes from there."""
        names: dict[str, str] = {}
        for out in self.all:
            if out.cached:
                names[out.md5] = out.path
                names |= {md5: f"{out.path}/{name}" for name, md5 in (self._files(out) or {}).items()}
        objects = {self._object(md5): (md5, path) for md5, path in sorted(names.items()) if self._object(md5).is_file()}
        size = sum(path.stat().st_size for path in objects)
        damaged = 0
        with Progressing("hash DVC's cache", total=size, unit="bytes") as progress:
            for path, (md5, name) in objects.items():
                if md5_of(path) != md5.removesuffix(_FOLDER):
                    damaged += 1
                    yield Finding(
                        part=Part.CACHE,
                        item=name,
                        status=Status.DIFFERS,
                        detail=f"its copy {path} is damaged",
                        mend=f"`rm -f {path}`, then `dvc pull`, or `dvc commit -f` where the workspace's copy is whole",
                    )
                progress.advance(path.stat().st_size)
        if objects and not damaged:
            detail = f"{size_text(size)}; every object has the digest that it is named after"
            yield Finding(part=Part.CACHE, item=f"{len(objects)} objects", status=Status.EQUAL, detail=detail)


def _needed(outputs: Iterable[Output]) -> list[str]:
    """Return the paths of outputs without which nothing can be compared: all but raw files."""
    return [out.path for out in outputs if not out.path.startswith(_RAW)]


def md5_of(path: Path) -> str:
    """Return the hex MD5 of a file's bytes, DVC's digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _output(out: Any, *, root: Path) -> Output:
    return Output(
        path=Path(os.path.relpath(out.fs_path, root.absolute())).as_posix(),
        stage=out.stage.addressing,
        md5=(out.hash_info.value if out.hash_info else "") or "",
        size=out.meta.size or 0 if out.meta else 0,
        cached=bool(out.use_cache),
    )


def _out_of_date(stage: str, entries: Sequence[Any]) -> Iterator[Finding]:
    """Say what of a stage's code, settings and inputs is not what dvc.lock names."""
    changed: list[str] = []
    for entry in entries:
        if isinstance(entry, dict):
            for path, how in entry.get("changed deps", {}).items():
                changed += list(how) if isinstance(how, Mapping) else [f"{path} ({how})"]
        elif entry == "changed command":
            changed.append("its command")
    if changed:
        detail = f"it last ran with other inputs: {_named(changed)}"
        mend = f"`dvc repro {stage}`, then commit dvc.lock"
        yield Finding(part=Part.CODE, item=stage, status=Status.DIFFERS, detail=detail, mend=mend)


def _dvc(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run DVC; its progress goes to the terminal, what it says is kept."""
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", **variables}
    quiet = None if sys.stderr.isatty() else subprocess.PIPE
    return subprocess.run(  # noqa: S603  # DVC itself
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=quiet, text=True, check=False
    )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """Return the line in which DVC says what is wrong."""
    lines = [line.strip() for line in f"{done.stdout or ''}\n{done.stderr or ''}".splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return ((errors or lines[-1:]) or ["DVC said nothing, or said it above"])[0].rstrip(".")


def _named(names: Iterable[str]) -> str:
    """Name the first few, and count the rest."""
    listed = list(names)
    more = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
