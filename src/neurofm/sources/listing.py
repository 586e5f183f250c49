"""Listing: what an archive says it has, before recordings are made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue
from wcmatch import glob

from neurofm.errors import UserError
from neurofm.recording import ManifestFile
from neurofm.recording.manifest import safe_relative_path

_FLAGS = glob.GLOBSTAR | glob.BRACE | glob.DOTGLOB | glob.FORCEUNIX


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Files of one dataset in one state."""

    source_id: str
    """The archive's own name of the dataset: ``ds005505``."""
    version: str
    """What the state is called: a tag, a commit, ``draft``. Never ``latest``."""
    files: tuple[ManifestFile, ...]
    """Those that the source's globs leave, sorted by path."""
    resolved: Mapping[str, str] = field(default_factory=dict)
    """Keys of the entry's `source` that a pin writes down beside `version` (``commit``)."""
    facts: Mapping[str, JsonValue] = field(default_factory=dict)
    """What the archive says of the dataset, for ``neurofm catalog verify``, by the entry's dotted names: ``licence``,
    ``doi``, ``species``, ``expect.native_rate_hz``, ``expect.channels``, as far as it can be read without the data."""


def chosen(paths: Iterable[str], *, include: tuple[str, ...], exclude: tuple[str, ...]) -> Iterator[str]:
    """Yield the paths that the globs leave. ``*`` does not cross ``/``, ``**`` does, ``{a,b}`` is either."""
    for path in paths:
        if glob.globmatch(path, list(include), flags=_FLAGS) and not (
            exclude and glob.globmatch(path, list(exclude), flags=_FLAGS)
        ):
            yield path


def safe(path: str, *, where: str) -> str:
    """Return a path of an archive's listing if it is plain and relative.

    Raises
    ------
    UserError
        For absolute paths, ``..`` and control characters: the whole listing is refused, since nobody writes these by
        accident.
    """
    try:
        return safe_relative_path(path)
    except ValueError as error:
        raise UserError(
            f"{where}: the archive lists a hostile path: {error}.", mend="tell the archive; do not use this version"
        ) from None
