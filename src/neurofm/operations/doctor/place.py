"""Where the doctor looks: one project on this machine, and small ways to ask it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from neurofm.errors import UserError
from neurofm.operations.dvc import ConfigError, NotDvcRepoError, Repo, SCMError
from neurofm.params import PARAMS, Params, Site, load_params, load_site

PATIENCE_S = 5.0
"""How long anything outside this process may take to answer."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """A project, with its settings as far as they can be read."""

    root: Path
    params: Params | None
    """None where ``params.yaml`` is not valid; its own check says so."""
    site: Site
    """The defaults where ``site.yaml`` is not valid."""
    complaints: tuple[UserError, ...]
    """What is wrong with the settings."""

    @classmethod
    def at(cls, root: Path) -> Self:
        """Look at the project in `root`.

        Raises
        ------
        UserError
            If there is none.
        """
        if not (root / PARAMS).is_file():
            raise UserError(f"{root / PARAMS} is not here.", mend="run neurofm in the project's folder")
        complaints: list[UserError] = []
        params, site = None, Site()
        try:
            params = load_params(root)
        except UserError as error:
            complaints.append(error)
        try:
            site = load_site(root)
        except UserError as error:
            complaints.append(error)
        return cls(root=root.resolve(), params=params, site=site, complaints=tuple(complaints))

    @property
    def datasets(self) -> list[str]:
        """Ids of the datasets that take part; none where the settings cannot be read."""
        return sorted(self.params.all_datasets) if self.params else []

    @contextmanager
    def dvc(self) -> Iterator[Any]:
        """Open DVC's view of the project (`dvc.repo.Repo`).

        Raises
        ------
        UserError
            If DVC cannot work here at all.
        """
        try:
            repo = Repo(str(self.root))
        except NotDvcRepoError:
            raise UserError(f"{self.root}: DVC was never set up here.", mend="dvc init") from None
        except (ConfigError, SCMError) as error:
            raise UserError(
                f"DVC cannot work here: {' '.join(str(error).split())}.",
                mend="git init" if isinstance(error, SCMError) else "correct .dvc/config",
            ) from None
        try:
            yield repo
        finally:
            repo.close()

    def git(self, *arguments: str, told: str = "") -> str | None:
        """Ask git; None where it complains, or there is no git."""
        said = ask(["git", "-C", str(self.root), *arguments], told=told)
        return said.out if said is not None and said.code == 0 else None


@dataclass(frozen=True)
class Answer:
    """What a program said."""

    code: int
    out: str
    complaint: str


def ask(command: Sequence[str], *, told: str = "", env: Mapping[str, str] | None = None) -> Answer | None:
    """Ask a program; None where it is not on this machine, and code 124 where it does not answer in time."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603  # names of programs are ours
            [program, *command[1:]],
            input=told,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_S,
            check=False,
            env=env,
        )
    except subprocess.TimeoutExpired:
        return Answer(124, "", f"no answer within {PATIENCE_S:g} s")
    except OSError as error:
        return Answer(126, "", str(error))
    return Answer(done.returncode, done.stdout, " ".join(done.stderr.split()))
