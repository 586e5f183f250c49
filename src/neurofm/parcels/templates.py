"""TemplateFlow's folder: where the files of an atlas lie, and how to bring those that are missing.

The names are those of TemplateFlow 25.1.2. Nothing is fetched from here: an atlas is chosen by a person, who may have
to agree to its licence, and compute nodes often have no network.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurofm.errors import UserError

_HOME = "TEMPLATEFLOW_HOME"
_BUCKET = "https://templateflow.s3.amazonaws.com"


@dataclass(frozen=True, kw_only=True)
class TemplateFile:
    """A file in TemplateFlow's folder."""

    path: str
    """Relative to the folder: ``tpl-fsLR/tpl-fsLR_den-32k_hemi-L_midthickness.surf.gii``."""
    address: str = ""
    """Where it is to be had, for a file that is not TemplateFlow's."""

    @property
    def url(self) -> str:
        """Where it is to be had."""
        return self.address or f"{_BUCKET}/{self.path}"


def template_paths(files: Sequence[TemplateFile], *, folder: Path | None, purpose: str) -> tuple[Path, ...]:
    """Return where these files are.

    Parameters
    ----------
    files
        What is needed.
    folder
        TemplateFlow's; ``$TEMPLATEFLOW_HOME`` or else ``~/.cache/templateflow`` by default.
    purpose
        What needs them, for the error.

    Raises
    ------
    UserError
        If any is not there, with the one command that brings all that are missing. TemplateFlow keeps an empty file in
        the place of what it has not fetched, and a clone of it a link that leads nowhere: both count as missing.
    """
    folder = (folder or Path(os.environ.get(_HOME) or "~/.cache/templateflow")).expanduser().absolute()
    paths = tuple(folder / file.path for file in files)
    states = {file: _lacking(path) for file, path in zip(files, paths, strict=True)}
    missing = [file for file in files if states[file]]
    if not missing:
        return paths
    more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
    links = [file for file in missing if states[file] == _LINK]
    raise UserError(
        f"{purpose}: {missing[0].path} {states[missing[0]]} in {folder}{more}.",
        mend=_clone_command(links, folder) if links else _curl_command(missing, folder),
    )


_LINK = "is a link to nothing (of a clone, whose content was not fetched)"


def _lacking(path: Path) -> str:
    """Say in which way a file is not there; nothing if it is."""
    if path.is_symlink() and not path.exists():
        return _LINK
    if not path.is_file():
        return "is not"
    return "" if path.stat().st_size else "is an empty file (TemplateFlow's mark for one it has not fetched)"


def _curl_command(files: Sequence[TemplateFile], folder: Path) -> str:
    pairs = " ".join(f"-o {shlex.quote(str(folder / file.path))} {file.url}" for file in files)
    return f"curl -fL --create-dirs {pairs}"


def _clone_command(files: Sequence[TemplateFile], folder: Path) -> str:
    """Let the clone fetch: curl cannot write through a link that leads nowhere."""
    return f"cd {shlex.quote(str(folder))} && datalad get {' '.join(file.path for file in files)}"
