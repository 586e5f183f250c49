"""Files whose content is in a git mirror that is here already: written out without a request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from neurofm.errors import UserError
from neurofm.fetch.endings import Endings
from neurofm.fetch.hosts import FetchSite
from neurofm.fetch.landing import Part
from neurofm.fetch.mirror import mirror, read_object, read_objects
from neurofm.fetch.origins import MirrorOrigin
from neurofm.fetch.request import NoRequest
from neurofm.fetch.survey import Missing, groups
from neurofm.fetch.waiting import is_offline
from neurofm.progress import Progressing

_AT_ONCE = 128
_HELD_BYTES = 8 << 20
"""Larger blobs are read from git in chunks."""


def bring_from_mirrors(
    missing: Sequence[Missing], *, endings: Endings, site: FetchSite, work: Path, progress: Progressing
) -> None:
    """Write out files of git mirrors. A mirror that was lost is cloned again.

    Raises
    ------
    UserError
        If the disk is full, or this run is offline and the mirror is not here.
    """
    origins = []
    for one in missing:
        try:
            origins.append((MirrorOrigin.parse(one.file.origin), one))
        except NoRequest as error:
            endings.quarantine(one.file, str(error))
    origins.sort(key=_repository)
    for (name, accession), group in groupby(origins, key=_repository):
        members = list(group)
        try:
            folder = mirror(name, accession, site=site, work=work, needs={origin.commit for origin, _ in members})
        except UserError as error:
            if is_offline(site):
                raise
            for _, one in members:
                endings.fail(one.file, error.problem)
            continue
        for some in groups(((o, one) for o, one in members if one.file.size <= _HELD_BYTES), _AT_ONCE):
            blobs = read_objects(folder, [origin.blob for origin, _ in some])
            pairs = zip(some, blobs, strict=True)
            _take(((one, _whole(blob)) for (_, one), blob in pairs), endings=endings, progress=progress)
        for origin, one in members:
            if one.file.size > _HELD_BYTES:
                _take([(one, read_object(folder, origin.blob))], endings=endings, progress=progress)


def _repository(pair: tuple[MirrorOrigin, Missing]) -> tuple[str, str]:
    return pair[0].mirror, pair[0].accession


def _whole(blob: bytes | None) -> Iterator[bytes]:
    if blob is None:
        raise LookupError
    yield blob


def _take(contents: Iterable[tuple[Missing, Iterable[bytes]]], *, endings: Endings, progress: Progressing) -> None:
    right: list[Part] = []
    for one, content in contents:
        part = one.part()
        try:
            if part.size:
                part.restart()
            for chunk in content:
                part.take([chunk])
            if part.is_right():
                right.append(part)
            else:
                endings.refuse(part, f"the mirror has other bytes: {', '.join(sorted(part.found))}", wrong=True)
        except LookupError:
            endings.refuse(part, "the mirror does not have it at this commit", wrong=False)
        except OSError as error:
            endings.give_up(part, error)
        finally:
            part.close()
        progress.advance(one.file.size)
    endings.verify(right)
