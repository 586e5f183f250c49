"""Source `ibl`: sessions of the International Brain Laboratory, from its public bucket and the tables of a tag.

Nobody has to log in: the tables say which datasets a tag has (read by ONE-api in local mode), the bucket's own listing
says where each of them lies now. A dataset is known by its UUID, which stands in the object's name; its path in the
table may be older than the folder (``#2024-05-06#``) that it was moved to.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from neurofm.catalog import LATEST, IblSource
from neurofm.errors import UserError
from neurofm.fetch.ask import Ask, S3Object
from neurofm.files import write_atomic
from neurofm.progress import Progressing
from neurofm.recording import ManifestFile
from neurofm.recording.manifest import FIRST_USE
from neurofm.sources.listing import Listing, chosen, safe

BUCKET = "ibl-brain-wide-map-public"
RAW = "raw_ephys_data"
"""Terabytes of voltage: left out unless an include glob names it."""

_TABLES = ("sessions.pqt", "datasets.pqt")
_LARGEST_TABLE = 1 << 30
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_UUID = re.compile(r"\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.[^./]+$")
_MD5 = re.compile(r"[0-9a-f]{32}")
_MEND = "name a tag of the archive: 2022_Q4_IBL_et_al_BWM, Brainwidemap, ..."


def is_fixed(source: IblSource) -> bool:
    """Say whether the version fixes every byte: never, since tables and revisions of a tag are made anew at times."""
    del source
    return False


@dataclass(frozen=True, kw_only=True)
class _Dataset:
    """One row of the tables."""

    uuid: str
    session: str
    """``lab/Subjects/subject/date/number``."""
    path: str
    """From the session's folder, without UUID."""
    size: int | None
    md5: str
    """Empty where the table has none."""


def list_files(source: IblSource, *, ask: Ask, work: Path) -> Listing:
    """List the datasets of a tag that the globs leave and that are in the bucket.

    Paths are those of the ALF tree, ``lab/Subjects/subject/date/number/alf/..``, without UUID, so that ONE reads what
    was fetched. Datasets that ONE does not offer (quality control ``CRITICAL``) are left out; those that the table
    marks as not existing or that are not in the bucket too, and these are counted on stderr. The digest is the table's
    MD5; where it has none, the object's ETag.

    Raises
    ------
    UserError
        If the tag is unknown, the archive does not answer, its tables cannot be read, or nothing is left.
    """
    tag = source.version.partition("@")[0]
    if tag == LATEST or not _TAG.fullmatch(tag):
        raise UserError(f"ibl: {source.version!r} is not a tag.", mend=_MEND)
    folder = work / "ibl" / tag
    digest = _fetch_tables(tag, folder=folder, ask=ask)
    wanted, gone = _wanted(source, folder, tag=tag)
    files: list[ManifestFile] = []
    with Progressing(f"list ibl {tag}", total=len(wanted), unit="sessions") as progress:
        for session, datasets in wanted.items():
            objects = _objects(session, datasets, ask=ask)
            for dataset in datasets:
                if (found := objects.get(dataset.uuid)) is None:
                    gone += 1
                else:
                    files.append(_file(dataset, found))
            progress.advance()
    if gone:
        sys.stderr.write(f"ibl {tag}: {gone} of {gone + len(files)} datasets are not in the archive: left out\n")
    if not files:
        raise UserError(
            f"ibl {tag}: the tables name {gone} datasets that match, none of them is in the bucket {BUCKET}.",
            mend="check `source.include` and `source.sessions` in the catalogue entry",
        )
    subjects = {file.path.split("/")[2] for file in files}
    return Listing(
        source_id="brain-wide-map",
        version=f"{tag}@{digest[:12]}",
        files=tuple(sorted(files, key=lambda file: file.path)),
        facts={"expect.subjects": len(subjects)},
    )


def _fetch_tables(tag: str, *, folder: Path, ask: Ask) -> str:
    """Bring a tag's two tables into `folder`; returns their SHA-256, which tells one state of the tag from the next."""
    content = ask.object_content(BUCKET, f"caches/openalyx/{tag}/cache.zip")
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            for name in _TABLES:  # whatever else it holds is not unpacked
                table = _read_table(packed, name)
                digest.update(table)
                write_atomic(folder / name, table)
    except (zipfile.BadZipFile, zlib.error, KeyError, NotImplementedError) as error:
        raise UserError(f"ibl {tag}: its tables cannot be unpacked: {error}.", mend=_MEND) from None
    return digest.hexdigest()


def _read_table(packed: zipfile.ZipFile, name: str) -> bytes:
    with packed.open(name) as file:
        table = file.read(_LARGEST_TABLE + 1)
    if len(table) > _LARGEST_TABLE:
        raise zipfile.BadZipFile(f"{name} is larger than {_LARGEST_TABLE >> 20} MiB")
    return table


def _wanted(source: IblSource, folder: Path, *, tag: str) -> tuple[dict[str, list[_Dataset]], int]:
    """Return the datasets that the globs leave, by session, and how many of those the table marks as not existing."""
    import pandas as pd  # noqa: PLC0415 - other datasets come without it
    from one.api import One  # noqa: PLC0415  # three seconds, and only this archive needs it

    try:
        # Both folders are named, so that ONE neither looks nor writes elsewhere.
        one = One(cache_dir=folder, tables_dir=folder, mode="local")
        ids, sessions = one.search(details=True)
        datasets = one.list_datasets(details=True).reset_index()
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"ibl {tag}: its tables cannot be read: {error}.", mend=_MEND) from None
    places = {
        str(eid): f"{about['lab']}/Subjects/{about['subject']}/{about['date']}/{int(about['number']):03d}"
        for eid, about in zip(ids, sessions or (), strict=True)
    }
    if unknown := set(source.sessions) - places.keys():
        raise UserError(f"ibl {tag}: has no session {min(unknown)}.", mend="correct `source.sessions`")
    datasets = datasets[datasets["eid"].astype(str).isin(source.sessions or places.keys())]
    rows = {f"{places[str(row.eid)]}/{row.rel_path}": row for row in datasets.itertuples()}
    raw = () if any(RAW in pattern for pattern in source.include) else (f"**/{RAW}/**",)
    wanted: dict[str, list[_Dataset]] = defaultdict(list)
    gone = 0
    for path in chosen(sorted(rows), include=source.include, exclude=(*source.exclude, *raw)):
        row = rows[path]
        if not row.exists:
            gone += 1
            continue
        session = places[str(row.eid)]
        md5 = str(row.hash)
        wanted[session].append(
            _Dataset(
                uuid=str(row.id),
                session=session,
                path=str(row.rel_path),
                size=None if pd.isna(row.file_size) else int(row.file_size),
                md5=md5 if _MD5.fullmatch(md5) else "",
            )
        )
    return wanted, gone


def _objects(session: str, datasets: list[_Dataset], *, ask: Ask) -> Mapping[str, S3Object]:
    """Return the objects of a session by UUID; only the folders that are wanted are listed."""
    tops = sorted({dataset.path.partition("/")[0] if "/" in dataset.path else "" for dataset in datasets})
    prefixes = [""] if "" in tops else [f"{top}/" for top in tops]
    return dict(_by_uuid(session, prefixes, ask=ask))


def _by_uuid(session: str, prefixes: list[str], *, ask: Ask) -> Iterator[tuple[str, S3Object]]:
    for prefix in prefixes:
        for found in ask.objects(BUCKET, f"data/{session}/{prefix}"):
            if match := _UUID.search(found.key):
                yield match[1], found


def _file(dataset: _Dataset, found: S3Object) -> ManifestFile:
    digest = f"md5:{dataset.md5}" if dataset.md5 else f"s3-etag:{found.etag}" if found.etag else FIRST_USE
    return ManifestFile(
        path=safe(f"{dataset.session}/{dataset.path}", where="ibl"),
        size=found.size if dataset.size is None else dataset.size,
        digest=digest,
        origin=f"s3://{BUCKET}/{found.key}",
    )
