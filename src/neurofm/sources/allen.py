"""Source `allen`: the Allen Institute's public buckets, in the layout of allensdk's caches.

A file that belongs to a session is put into a folder of its animal, ``sub-<animal>/``, which the archive leaves to its
tables: without it, recordings of one animal would look like those of several, and could be split between training and
test. Tables that belong to no session stay at the root.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue, ValidationError

from neurofm.catalog import LATEST, AllenSource
from neurofm.environments import python_of
from neurofm.errors import UserError
from neurofm.fetch.ask import Ask, S3Object
from neurofm.fetch.digests import hasher
from neurofm.recording import ManifestFile
from neurofm.recording.manifest import FIRST_USE
from neurofm.settings import Settings
from neurofm.sources.allen_tables import session_table
from neurofm.sources.listing import Listing, chosen, safe


@dataclass(frozen=True, kw_only=True)
class _Project:
    """Where a project lies, and what its main files are called."""

    bucket: str
    prefix: str
    main: str
    """Path of a session's main file, under `prefix`."""
    tables: tuple[str, ...]
    """What allensdk reads to make its table of sessions: paths under `prefix`, or names in the release's manifest."""
    warehouse: tuple[str, str] | None = None
    """The warehouse's type of that file and of what it is attached to; None where there is a release manifest."""


_PROJECTS = {
    "visual-coding-neuropixels": _Project(
        bucket="allen-brain-observatory",
        prefix="visual-coding-neuropixels/ecephys-cache/",
        main="session_{id}/session_{id}.nwb",
        tables=("sessions.csv", "probes.csv", "channels.csv", "units.csv"),
        warehouse=("EcephysNwb", "EcephysSession"),
    ),
    "visual-coding-2p": _Project(
        bucket="allen-brain-observatory",
        prefix="visual-coding-2p/",
        main="ophys_experiment_data/{id}.nwb",
        tables=("ophys_experiments.json",),
        warehouse=("NWBOphys", "OphysExperiment"),
    ),
    "visual-behavior-neuropixels": _Project(
        bucket="visual-behavior-neuropixels-data",
        prefix="visual-behavior-neuropixels/",
        main="behavior_ecephys_sessions/{id}/ecephys_session_{id}.nwb",
        tables=("ecephys_sessions",),
    ),
    "visual-behavior-ophys": _Project(
        bucket="visual-behavior-ophys-data",
        prefix="visual-behavior-ophys/",
        main="behavior_ophys_experiments/behavior_ophys_experiment_{id}.nwb",
        tables=("ophys_experiment_table",),
    ),
}
_ONLY_WHEN_NAMED = ("lfp", "ophys_movies")
"""Terabytes that are hardly ever wanted: paths with these words are listed only if an include glob has the word."""
_SESSION_ID = re.compile(r"(?<!\d)\d{6,}(?!\d)")
_ETAG = re.compile(r"[0-9a-f]{32}(-[1-9][0-9]*)?")
_DOWNLOAD = re.compile(r"/api/v2/well_known_file_download/\d+")
_IDS_PER_QUESTION = 100
_SHOWN = 5


class _ReleaseFile(Settings, extra="ignore"):
    url: str
    version_id: str
    file_hash: str
    """BLAKE2b."""


class _Release(Settings, extra="ignore"):
    """``<project>_project_manifest_v<version>.json``."""

    project_name: str
    manifest_version: str
    metadata_files: dict[str, _ReleaseFile]
    data_files: dict[str, _ReleaseFile]


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A project as its bucket has it, before sessions are chosen."""

    version: str
    files: Mapping[str, ManifestFile]
    """By path under the project's prefix."""
    tables: Mapping[str, bytes]
    """What goes into allensdk's cache, by path in it."""


def is_fixed(source: AllenSource) -> bool:
    """Whether the version fixes every byte: releases of visual behavior do (BLAKE2b of each file)."""
    return _PROJECTS[source.project].warehouse is None


def list_files(source: AllenSource, *, ask: Ask, work: Path) -> Listing:
    """List the files of the sessions that the source's filters leave, and the project's tables.

    The sessions are chosen by allensdk, in its own environment, from the tables in the bucket; what is not there is
    asked of the warehouse.

    Parameters
    ----------
    source
        Project, version and filters.
    ask
        For the bucket and the warehouse.
    work
        ``.neurofm``, in the project's root.

    Raises
    ------
    UserError
        If the archive does not answer, the version is not there, a filter's column is not in allensdk's table, or no
        session is left.
    """
    project = _PROJECTS[source.project]
    found = (_released if is_fixed(source) else _in_bucket)(source, project, ask)
    sessions = session_table(
        source.project,
        filters=source.sessions,
        tables=found.tables,
        python=python_of("allensdk", work=work, root=work.parent),
        site=ask.site,
        work=work,
    )
    subjects = {session.id: session.subject for session in sessions}
    files = {file.path: file for file in _of_sessions(found.files, subjects, project)}
    missing = {session: path for session in subjects if (path := _main_path(session, subjects, project)) not in files}
    wanted = frozenset(_chosen([*files, *missing.values()], source))
    missing = {session: path for session, path in missing.items() if path in wanted}
    if missing:
        files |= {file.path: file for file in _from_warehouse(missing, project, ask)}
        _say_missing(source, [session for session, path in missing.items() if path not in files])
    mains = [session for session in sessions if _main_path(session.id, subjects, project) in files.keys() & wanted]
    facts: dict[str, JsonValue] = {
        "expect.subjects": len({session.subject for session in mains}),
        "expect.recordings": len(mains),
    }
    return Listing(
        source_id=source.project,
        version=found.version,
        files=tuple(files[path] for path in sorted(wanted & files.keys())),
        facts=facts,
    )


def _chosen(paths: Iterable[str], source: AllenSource) -> Iterator[str]:
    unnamed = [word for word in _ONLY_WHEN_NAMED if not any(word in glob for glob in source.include)]
    for path in chosen(paths, include=source.include, exclude=source.exclude):
        if not any(word in path for word in unnamed):
            yield path


def _of_sessions(
    files: Mapping[str, ManifestFile], subjects: Mapping[str, str], project: _Project
) -> Iterator[ManifestFile]:
    """Yield the files of the chosen sessions, in their animal's folder, and those that belong to no session."""
    for path, file in files.items():
        session = _SESSION_ID.search(path)
        if session is None:
            yield file
        elif session[0] in subjects:
            yield file.model_copy(update={"path": _placed(path, subjects[session[0]], project)})


def _main_path(session: str, subjects: Mapping[str, str], project: _Project) -> str:
    return _placed(project.main.format(id=session), subjects[session], project)


def _placed(path: str, subject: str, project: _Project) -> str:
    return safe(f"sub-{subject}/{path}", where=f"s3://{project.bucket}/{project.prefix}")


def _in_bucket(source: AllenSource, project: _Project, ask: Ask) -> _Found:
    """Return what lies in the bucket now, held by ETag and, where the bucket keeps them, version ids."""
    listed = _listed(ask, project)
    files = {
        path: ManifestFile(
            path=path,
            size=there.size,
            digest=f"s3-etag:{there.etag}" if _ETAG.fullmatch(there.etag) else FIRST_USE,
            origin=f"s3://{project.bucket}/{there.key}",
            version_id=there.version_id,
        )
        for path, there in _by_path(listed, project)
    }
    tables = {path: _content(ask, project, files[path]) for path in project.tables if path in files}
    return _Found(version="listed" if source.version == LATEST else source.version, files=files, tables=tables)


def _by_path(listed: Iterable[S3Object], project: _Project) -> Iterator[tuple[str, S3Object]]:
    where = f"s3://{project.bucket}/{project.prefix}"
    for there in listed:
        if not there.key.endswith("/"):
            yield safe(there.key.removeprefix(project.prefix), where=where), there


def _listed(ask: Ask, project: _Project) -> list[S3Object]:
    """List a project with version ids, or without where the bucket does not tell these to everybody."""
    try:
        found = list(ask.objects(project.bucket, project.prefix, versions=True))
    except UserError:
        found = list(ask.objects(project.bucket, project.prefix))
    return [
        S3Object(
            key=one.key, size=one.size, etag=one.etag, version_id="" if one.version_id == "null" else one.version_id
        )
        for one in found
    ]


def _released(source: AllenSource, project: _Project, ask: Ask) -> _Found:
    """Return the files of a release, as its manifest has them."""
    name, content = _release_manifest(source, project, ask)
    where = f"s3://{project.bucket}/{project.prefix}manifests/{name}"
    release = _parsed(content, where=where)
    if not name.endswith(f"_v{release.manifest_version}.json") or release.project_name != source.project:
        raise UserError(
            f"{where}: is that of {release.project_name} {release.manifest_version}.", mend="tell the archive"
        )
    objects = list(_versions(ask, project))
    exact = {(one.key, one.version_id): one for one in objects}
    latest = {one.key: one for one in reversed(objects)}
    files = {}
    gone = []
    for released in (*release.metadata_files.values(), *release.data_files.values()):
        key = unquote(urlsplit(released.url).path).lstrip("/")
        path = safe(key.removeprefix(project.prefix), where=where)
        # A mirror has version ids of its own; the digest holds the bytes all the same.
        there = exact.get((key, released.version_id)) or latest.get(key)
        if there is None:
            gone.append(path)
            continue
        files[path] = ManifestFile(
            path=path,
            size=there.size,
            digest=f"blake2b:{released.file_hash}",
            origin=f"s3://{project.bucket}/{key}",
            version_id=released.version_id if there.version_id == released.version_id else "",
        )
    if gone:
        _say(f"{where}: {len(gone)} of its files are not in the bucket: {', '.join(gone[:_SHOWN])}")
    folder = f"{source.project}-{release.manifest_version}"
    tables = {name: content}
    for table in project.tables:
        if table not in release.metadata_files:
            raise UserError(f"{where}: lists no table {table!r}.", mend="choose another version")
        key = unquote(urlsplit(release.metadata_files[table].url).path).lstrip("/")
        path = key.removeprefix(project.prefix)
        if path not in files:
            raise UserError(f"s3://{project.bucket}/{key}: is not in the bucket.", mend="choose another version")
        tables[f"{folder}/{path}"] = _content(ask, project, files[path])
    return _Found(version=release.manifest_version, files=files, tables=tables)


def _versions(ask: Ask, project: _Project) -> Iterator[S3Object]:
    """Yield every version of every object, each key's latest first; without version ids where nobody is told these."""
    try:
        yield from list(ask.objects(project.bucket, project.prefix, versions=True, older=True))
    except UserError:
        yield from ask.objects(project.bucket, project.prefix)


def _release_manifest(source: AllenSource, project: _Project, ask: Ask) -> tuple[str, bytes]:
    """Return name and content of the manifest of a release."""
    folder = f"{project.prefix}manifests/"
    name = re.compile(rf"{re.escape(source.project)}_project_manifest_v(\d+)\.(\d+)\.(\d+)\.json")
    there = {
        tuple(map(int, match.groups())): match[0]
        for one in ask.objects(project.bucket, folder)
        if (match := name.fullmatch(PurePosixPath(one.key).name))
    }
    if not there:
        raise UserError(f"s3://{project.bucket}/{folder}: has no manifests.", mend="check `fetch.hosts` in site.yaml")
    versions = {".".join(map(str, version)): there[version] for version in sorted(there)}
    version = next(reversed(versions)) if source.version == LATEST else source.version
    if version not in versions:
        raise UserError(
            f"s3://{project.bucket}/{folder}: has no version {version!r}.", mend=f"use one of: {', '.join(versions)}"
        )
    return versions[version], ask.object_content(project.bucket, folder + versions[version])


def _parsed(content: bytes, *, where: str) -> _Release:
    try:
        return _Release.model_validate_json(content)
    except ValidationError as error:
        raise UserError.from_validation(error, where=where, mend="tell the archive") from None


def _content(ask: Ask, project: _Project, file: ManifestFile) -> bytes:
    """Return the bytes of a table, verified."""
    key = file.origin.removeprefix(f"s3://{project.bucket}/")
    content = ask.object_content(project.bucket, key, version_id=file.version_id)
    hashers = hasher(file.digest, size=file.size)
    for _, one in hashers:
        one.update(content)
    right = file.digest == FIRST_USE or file.digest in {f"{kind}:{one.hexdigest()}" for kind, one in hashers}
    if len(content) != file.size or not right:
        raise UserError(
            f"{file.origin}: the {len(content)} bytes that came are not the {file.size} that are listed "
            f"({file.digest}).",
            mend="try again; if it stays, tell the archive",
        )
    return content


def _from_warehouse(missing: Mapping[str, str], project: _Project, ask: Ask) -> Iterator[ManifestFile]:
    """Yield the files that the bucket lacks, as the warehouse has them: without a digest."""
    if project.warehouse is None:
        return
    kind, attached = project.warehouse
    ids = sorted(missing, key=int)
    for start in range(0, len(ids), _IDS_PER_QUESTION):
        asked = ids[start : start + _IDS_PER_QUESTION]
        criteria = (
            f"model::WellKnownFile,rma::criteria,well_known_file_type[name$eq'{kind}'][attachable_type$eq'{attached}']"
            f"[attachable_id$in{','.join(asked)}]"
            f",rma::options[start_row$eq0][num_rows$eq{len(asked)}][order$eq'id']"
        )
        url = f"{ask.site.hosts.allen_api.rstrip('/')}/api/v2/data/query.json"
        for record in _rows(ask.json(url, params={"criteria": criteria}), url=url):
            session, link = str(record.get("attachable_id")), str(record.get("download_link"))
            if session not in missing or not _DOWNLOAD.fullmatch(link):
                raise UserError(f"{url}: gave a file that was not asked for: {json.dumps(record)}.", mend="try again")
            size = ask.size(ask.site.hosts.allen_api.rstrip("/") + link)
            _say(f"session {session} is not in s3://{project.bucket}: taken from the warehouse, {link}")
            yield ManifestFile(path=missing[session], size=size, digest=FIRST_USE, origin=f"allen://{link}")


def _rows(answer: Any, *, url: str) -> list[dict[str, Any]]:
    """Return the rows of an RMA answer."""
    if not isinstance(answer, dict) or not answer.get("success") or not isinstance(answer.get("msg"), list):
        said = answer.get("msg") if isinstance(answer, dict) else answer
        raise UserError(f"{url}: the warehouse answers {str(said)[:200]!r}.", mend="try again later")
    rows: list[dict[str, Any]] = answer["msg"]
    return rows


def _say_missing(source: AllenSource, sessions: list[str]) -> None:
    if sessions:
        shown = ", ".join(sessions[:_SHOWN]) + (" .." if len(sessions) > _SHOWN else "")
        _say(f"{source.project}: {len(sessions)} sessions have no file in the archive and are left out: {shown}")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
