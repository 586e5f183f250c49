"""Outputs: what dvc.lock says the pipeline wrote, fetched where it is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException  # type: ignore[import-untyped]  # DVC has no types
from dvc.repo import Repo  # type: ignore[import-untyped]

from neurofm.errors import UserError
from neurofm.operations.tables import size_text

_SHOWN = 3
_RAW = "data/raw/"


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

    def object(self, md5: str) -> Path:
        """Return where DVC's cache keeps what has this digest."""
        return self.cache / md5[:2] / md5[2:]

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
            done = run_dvc(self.root, "pull", *(out.path for out in missing))
            if lacking := _needed(self.missing):
                raise UserError(
                    f"{named(lacking)} cannot be had: {said(done)}.",
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
                f"{named(missing)} {'are' if len(missing) > 1 else 'is'} not here.",
                mend="run without --no-pull, or make them with `dvc repro`",
            )
        if never := [out for out in self.all if not out.md5]:
            raise UserError(
                f"dvc.lock does not know {named(out.path for out in never)}: {never[0].stage} never ran here.",
                mend="`dvc repro`, then commit dvc.lock",
            )


def _needed(outputs: Iterable[Output]) -> list[str]:
    """Return the paths of outputs without which nothing can be compared: all but raw files."""
    return [out.path for out in outputs if not out.path.startswith(_RAW)]


def _output(out: Any, *, root: Path) -> Output:
    return Output(
        path=Path(os.path.relpath(out.fs_path, root.absolute())).as_posix(),
        # Not its address, which is relative to where this process is; a `.dvc` file has no other.
        stage=str(getattr(out.stage, "name", out.stage.addressing)),
        md5=(out.hash_info.value if out.hash_info else "") or "",
        size=out.meta.size or 0 if out.meta else 0,
        cached=bool(out.use_cache),
    )


def run_dvc(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run DVC; its progress goes to the terminal, what it says is kept."""
    command = [sys.executable, "-m", "dvc", *arguments]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", **variables}
    quiet = None if sys.stderr.isatty() else subprocess.PIPE
    return subprocess.run(  # noqa: S603  # DVC itself
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=quiet, text=True, check=False
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return the line in which DVC says what is wrong."""
    lines = [line.strip() for line in f"{done.stdout or ''}\n{done.stderr or ''}".splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return ((errors or lines[-1:]) or ["DVC said nothing, or said it above"])[0].rstrip(".")


def named(names: Iterable[str]) -> str:
    """Name the first few, and count the rest."""
    listed = list(names)
    more = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
