"""YAML files of a person's, changed without losing a comment, the order or the quotes."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from neurofm.errors import UserError


class RoundTrip:
    """A YAML file whose content is changed in place and rendered again.

    Parameters
    ----------
    path
        The file; it is only read here.
    text
        What to take instead of the file's own content.

    Raises
    ------
    UserError
        If it is missing or not YAML.
    """

    def __init__(self, path: Path, *, text: str | None = None) -> None:
        try:
            self.before = path.read_text(encoding="utf-8") if text is None else text
            self._yaml = _keeping(self.before)
            self.content: Any = self._yaml.load(self.before)
        except (OSError, YAMLError, UnicodeDecodeError) as error:
            raise UserError(
                f"{path}: not readable ({' '.join(str(error).split())}).", mend="run this at the project's root"
            ) from None

    def render(self) -> bytes:
        """Return the changed content as YAML."""
        stream = io.BytesIO()
        self._yaml.dump(self.content, stream)
        return stream.getvalue()


def yaml_bytes(facts: Mapping[str, Any]) -> bytes:
    """Render new facts as YAML."""
    yaml = YAML()
    yaml.width = 4096
    stream = io.BytesIO()
    yaml.dump(dict(facts), stream)
    return stream.getvalue()


def stored_path(folder: Path, *, root: Path) -> str:
    """Return how a folder of the user's is written down: relative to the project's root inside it, else absolute."""
    inside = folder.is_relative_to(root.resolve())
    return folder.relative_to(root.resolve()).as_posix() if inside else str(folder)


def _keeping(text: str) -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096  # never fold a line that the user did not fold
    if re.search(r"^( *)[^\s#-][^\n]*:\n\1  - ", text, flags=re.MULTILINE):
        yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
