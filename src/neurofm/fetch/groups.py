"""Files of which some groups are wanted: only these come, and nothing of them is held to the archive's digest."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx2

from neurofm.fetch.endings import Endings
from neurofm.fetch.hdf5_parts import fetch_groups
from neurofm.fetch.hosts import FetchSite
from neurofm.fetch.landing import part_of
from neurofm.fetch.origins import Origins
from neurofm.fetch.ranges import Ranges
from neurofm.fetch.survey import Missing
from neurofm.fetch.transfer import Refused, Tally, Unreachable
from neurofm.files import sha256_of, sync_folder
from neurofm.progress import Progressing
from neurofm.recording import Unreadable
from neurofm.recording.manifest import groups_of

_GIVEN_UP_FILES = 4
"""After so many files in a row that did not come, the rest is not asked for: the network or the archive is down."""


def bring_groups(
    missing: Sequence[Missing], *, endings: Endings, site: FetchSite, tally: Tally, progress: Progressing
) -> None:
    """Bring the wanted groups of files, one file after the other (HDF5 does one thing at a time in a process).

    What came of a file is a sparse file of the whole one's size. The SHA-256 that is taken of it tells later whether
    it is whole; one that is not comes anew, and is not held to it: another version of HDF5 may write other bytes.

    Raises
    ------
    UserError
        For what ends everything: no login, disk full.
    """
    origins = Origins(site)
    before, unreachable = tally.bytes, 0
    came: list[Missing] = []
    lacking: Counter[str] = Counter()
    headers = {"Accept-Encoding": "identity", "User-Agent": "neurofm"}
    with httpx2.Client(timeout=site.timeout_s, follow_redirects=False, headers=headers) as client:
        for one in missing:
            progress.advance(1, note=one.file.path)
            if unreachable >= _GIVEN_UP_FILES:
                endings.fail(one.file, f"not asked for: the last {_GIVEN_UP_FILES} files did not come")
                continue
            remote = Ranges(one.file, origins=origins, site=site, client=client, tally=tally)
            try:
                lacking.update(_bring(one, remote, endings=endings))
            except (Refused, Unreadable) as error:
                endings.quarantine(one.file, str(error))
            except Unreachable as error:
                endings.fail(one.file, str(error))
                unreachable += 1
                continue
            except OSError as error:
                endings.give_up(one.part(), error)
            else:
                came.append(one)
            unreachable = 0
    if came:
        _tell(endings.who.dataset, came, lacking, came_bytes=tally.bytes - before)


def _tell(dataset: str, came: Sequence[Missing], lacking: Counter[str], *, came_bytes: int) -> None:
    """Say on stderr what came and what was not checked, and which groups files turned out not to have."""
    size = sum(one.file.size for one in came)
    sys.stderr.write(
        f"{dataset}: only chosen groups came of {len(came)} files, {came_bytes / 1e6:.1f} of {size / 1e6:.1f} MB; "
        "the archive's digests are of whole files and were not checked\n"
    )
    for name, count in sorted(lacking.items()):
        sys.stderr.write(f"{dataset}: {count} of these files have no group {name}\n")


def _bring(one: Missing, remote: Ranges, *, endings: Endings) -> tuple[str, ...]:
    """Bring one file, and return which of its groups it does not have."""
    # Not the name of an unfinished whole file: with its holes this one has that file's size, and is not gone on with.
    part = part_of(one.target).with_suffix(".some")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    part_of(one.target).unlink(missing_ok=True)
    done = fetch_groups(remote, part, groups=groups_of(one.file.digest))
    try:
        sha256 = sha256_of(part)
        _sync(part)
        part.replace(one.target)
    finally:
        part.unlink(missing_ok=True)
    sync_folder(one.target.parent)
    endings.take_groups(one.file, bytes=remote.fetched_bytes, sha256=sha256, validator=remote.validator)
    return done.lacking


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
