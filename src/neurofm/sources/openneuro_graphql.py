"""OpenNeuro by its GraphQL interface, where the git mirror cannot be had: the same facts in two questions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import JsonValue

from neurofm.catalog import LATEST
from neurofm.errors import UserError
from neurofm.fetch.ask import Ask
from neurofm.fetch.hosts import Hosts
from neurofm.recording import ManifestFile
from neurofm.recording.manifest import FIRST_USE
from neurofm.sources.annex import AnnexKey, Place
from neurofm.sources.listing import chosen, safe
from neurofm.sources.openneuro_git import description_facts, newest, refuse_moved

BUCKET = "openneuro.org"

_SNAPSHOTS = "query($id: ID!) { dataset(id: $id) { snapshots { id } } }"
_FILES = (
    "query($id: ID!, $tag: String!) { snapshot(datasetId: $id, tag: $tag) "
    "{ id hexsha description { License DatasetDOI } files(recursive: true) { filename urls size id } } }"
)
"""The field `key` is not asked for: it was dropped in 2026, and `id` holds the same."""
_BLOB = re.compile(r"[0-9a-f]{40}")
_AMAZON_HOST = re.compile(r"(?:(?P<bucket>[a-z0-9][a-z0-9.-]*)\.)?s3[.-](?:[a-z0-9-]+\.)?amazonaws\.com")
_SECRET = ("x-amz-signature", "x-amz-credential", "signature", "awsaccesskeyid")
_ENCODED_TIMES = 3
_EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


def read_snapshot(
    accession: str, version: str, *, commit: str, ask: Ask, include: tuple[str, ...], exclude: tuple[str, ...]
) -> tuple[str, str, tuple[ManifestFile, ...], dict[str, JsonValue]]:
    """Return tag, commit, files (those that the globs leave, sorted by path) and facts of a snapshot.

    Raises
    ------
    UserError
        If OpenNeuro does not answer, has no such snapshot, or its tag has moved.
    """
    tag = _newest_tag(accession, ask=ask) if version == LATEST else version
    data = _asked(ask, _FILES, {"id": accession, "tag": tag}, where=f"{accession} {tag}")
    snapshot = data.get("snapshot")
    if not isinstance(snapshot, dict) or not isinstance(snapshot.get("files"), list):
        raise UserError(
            f"OpenNeuro: has no {accession} {tag}.", mend="correct accession and version in the catalogue entry"
        )
    found = str(snapshot.get("hexsha") or "")
    refuse_moved(accession, tag, pinned="" if version == LATEST else commit, found=found)
    where = f"{accession} {tag}"
    listed = {safe(str(file["filename"]), where=where): file for file in snapshot["files"]}
    files = [
        made
        for path in chosen(sorted(listed), include=include, exclude=exclude)
        if (made := _file(path, listed[path], accession=accession, tag=tag, hosts=ask.site.hosts))
    ]
    return tag, found, tuple(files), description_facts(snapshot.get("description") or {})


def public_place(url: str, *, path: str, accession: str, hosts: Hosts) -> Place | None:
    """Return the object behind an address that anybody may use; None for another (presigned, or OpenNeuro's own).

    Addresses come encoded once or twice, the question mark's ``versionId=`` at times as ``versionId%3D``.
    """
    parts = urlsplit(url)
    query = parse_qs(unquote(parts.query), keep_blank_values=True)
    if any(name.lower() in _SECRET for name in query):
        return None
    route = parts.path.lstrip("/")
    amazon = _AMAZON_HOST.fullmatch(parts.hostname or "")
    endpoint = urlsplit(hosts.place(BUCKET).endpoint)
    if amazon and amazon["bucket"]:
        bucket, name = amazon["bucket"], route
    elif amazon or (parts.scheme, parts.netloc) == (endpoint.scheme, endpoint.netloc):
        bucket, _, name = route.partition("/")
        name, version_in_name = _split_version(name)
        if version_in_name:
            query = {"versionId": [version_in_name]}
    else:
        return None
    bucket = BUCKET if bucket == hosts.place(BUCKET).bucket else bucket
    version = query.get("versionId", [""])[0]
    names = [name]
    for _ in range(_ENCODED_TIMES):
        names.append(unquote(names[-1]))
    own = f"{accession}/{path}"
    return Place(bucket=bucket, name=own if own in names else names[1], version_id=version)


def _split_version(name: str) -> tuple[str, str]:
    """Take the version off a name whose question mark was encoded too."""
    before, mark, after = name.partition("%3FversionId")
    return (before, re.sub(r"^(=|%3D)", "", after)) if mark else (name, "")


def _newest_tag(accession: str, *, ask: Ask) -> str:
    data = _asked(ask, _SNAPSHOTS, {"id": accession}, where=accession)
    snapshots = (data.get("dataset") or {}).get("snapshots") or []
    tag = newest(str(snapshot["id"]).partition(":")[2] for snapshot in snapshots)
    if not tag:
        raise UserError(f"OpenNeuro: {accession} has no version.", mend="correct `source.accession`, or wait for one")
    return tag


def _asked(ask: Ask, query: str, variables: Mapping[str, str], *, where: str) -> dict[str, Any]:
    answer = ask.json(ask.site.hosts.openneuro_graphql, body={"query": query, "variables": dict(variables)})
    errors = answer.get("errors") if isinstance(answer, dict) else None
    if errors:
        said = "; ".join(" ".join(str(error.get("message", error)).split()) for error in errors[:3])
        raise UserError(
            f"OpenNeuro: {where}: {said.rstrip('.')}.", mend="correct accession and version, or try again later"
        )
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, dict):
        raise UserError(
            f"OpenNeuro: {where}: the answer is not GraphQL's.", mend="check `fetch.hosts` in site.yaml, or try later"
        )
    return data


def _file(path: str, listed: Mapping[str, Any], *, accession: str, tag: str, hosts: Hosts) -> ManifestFile | None:
    """Return one file; None for a link, which leads elsewhere."""
    identity, size = str(listed.get("id") or ""), listed.get("size")
    key = AnnexKey.parse(identity)
    if key is not None and key.size is not None:
        size, digest = key.size, key.digest
    elif _BLOB.fullmatch(identity):
        digest = f"git-sha1:{identity}"
        if size == 0 and identity != _EMPTY_BLOB:
            return None
    else:
        digest = FIRST_USE
    if not isinstance(size, int) or size < 0:
        raise UserError(
            f"OpenNeuro: {accession} {tag}: does not tell the size of {path}.",
            mend="leave it out with `source.exclude`, or try again later",
        )
    urls = listed.get("urls") or [""]
    place = public_place(str(urls[0]), path=path, accession=accession, hosts=hosts)
    return ManifestFile(
        path=path,
        size=size,
        digest=digest,
        origin=place.origin if place else f"openneuro://{accession}/{tag}/{path}",
        version_id=place.version_id if place else "",
    )
