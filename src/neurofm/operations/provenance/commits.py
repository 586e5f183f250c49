"""What git says of the project's files: which commit changed them last, and what is not committed."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from neurofm.errors import UserError

_FORMAT = "%H%x00%cI%x00%an%x00%s"


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One commit."""

    sha: str
    date: str
    """When it was made, ISO 8601."""
    author: str
    subject: str


class History:
    """The git history of a project. A folder without git has none, and nothing of it is said.

    Parameters
    ----------
    root
        The project's root, which may be a folder inside a repository.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        prefix = self._git("rev-parse", "--show-prefix")
        self._is_repository = prefix is not None
        self.prefix = (prefix or "").strip()
        """Where `root` lies in the repository."""

    @property
    def head(self) -> Commit | None:
        """The commit that is checked out; None without git, or before the first one."""
        return self.last_change()

    def last_change(self, *paths: str) -> Commit | None:
        """Return the last commit that changed one of `paths`."""
        said = self._git("log", "-1", f"--format={_FORMAT}", "--", *paths)
        if not said or said.count("\0") < 3:
            return None
        sha, date, author, subject = said.rstrip("\n").split("\0", 3)
        return Commit(sha=sha, date=date, author=author, subject=subject)

    def uncommitted(self, *paths: str) -> tuple[str, ...]:
        """Return which files of `paths` (or of all) are not as committed, or not known to git.

        Raises
        ------
        UserError
            If git cannot say: silence would pass for a clean checkout.
        """
        said = self._git("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--", *paths)
        if said is None and self._is_repository:
            raise UserError(
                f"git cannot say what of {self._root.absolute()} is committed.", mend="`git status` says why"
            )
        found = (line[3:] for line in (said or "").split("\0") if line)
        return tuple(sorted(path.removeprefix(self.prefix) for path in found))

    def tracked(self, path: str) -> bool:
        """Whether git knows the file, or a file in the folder."""
        return bool(self._git("ls-files", "-z", "--", path))

    def configured(self, name: str) -> str:
        """Return a setting of git's, such as ``user.name``; empty if there is none."""
        return (self._git("config", "--get", name) or "").strip()

    @property
    def address(self) -> str:
        """Where the repository is cloned from, without whatever names a person or opens a door; empty if unknown."""
        parts = urlsplit(self.configured("remote.origin.url"))
        if parts.scheme not in {"http", "https", "ssh", "git"} or not parts.hostname:
            return ""
        host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
        return urlunsplit((parts.scheme, host, parts.path, "", ""))

    def _git(self, *arguments: str) -> str | None:
        command = ["git", "-C", str(self._root), "--no-pager", "--literal-pathspecs", *arguments]
        try:
            done = subprocess.run(  # noqa: S603  # paths stand behind `--`
                command,
                capture_output=True,
                check=False,
                encoding="utf-8",
                errors="surrogateescape",
                # Looking must not write into the repository.
                env=os.environ | {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
            )
        except FileNotFoundError:
            return None
        return done.stdout if done.returncode == 0 else None
