"""Index: the files that a unit left behind, where they are many: it stands for them all as one output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import Field, ValidationError

from neurofm.files import sha256_of, write_json
from neurofm.recording.manifest import SafePath
from neurofm.settings import Settings


class IndexedFile(Settings):
    """One file of a unit."""

    path: SafePath
    """Below the folder that the index is of."""
    size: int = Field(ge=0)
    """Bytes."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Index(Settings):
    """Every file that a unit left behind, sorted by path."""

    files: tuple[IndexedFile, ...]

    @classmethod
    def of(cls, paths: Iterable[str], *, root: Path) -> Index:
        """Take size and digest of files.

        Parameters
        ----------
        paths
            Below `root`.
        root
            The folder that the index is of.
        """
        return cls(
            files=tuple(
                IndexedFile(path=path, size=(root / path).stat().st_size, sha256=sha256_of(root / path))
                for path in sorted(paths)
            )
        )

    def wrong(self, root: Path) -> Iterator[str]:
        """Yield the paths of files that are not there, or are others; sizes are compared before digests."""
        for file in self.files:
            path = root / file.path
            if not path.is_file() or path.stat().st_size != file.size or sha256_of(path) != file.sha256:
                yield file.path

    def write(self, path: Path) -> None:
        """Write the index, atomically."""
        write_json(path, self.model_dump(mode="json"))


def read_index(path: Path) -> Index | None:
    """Read an index; None where there is none that can be read."""
    try:
        return Index.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
