"""Source `dandi`: the assets of a dandiset at a version, by the archive's REST interface."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import JsonValue

from neurofm.catalog import LATEST, DandiSource
from neurofm.errors import UserError
from neurofm.fetch.ask import Ask
from neurofm.recording import ManifestFile
from neurofm.recording.manifest import FIRST_USE
from neurofm.sources.listing import Listing, chosen, safe

API_KEY = "DANDI_API_KEY"
"""Variable that holds the key of an account; asked for only where a dandiset is under embargo."""

_PUBLISHED = re.compile(r"0\.\d{6}\.\d{4}")
_DRAFT = "draft"
_PAGE = 1000
_AMAZON = re.compile(r"(?P<bucket>[a-z0-9][a-z0-9.-]*)\.s3[.-]([a-z0-9-]+\.)?amazonaws\.com")
_ETAG = re.compile(r"[0-9a-f]{32}(-[1-9][0-9]*)?")


def is_fixed(source: DandiSource) -> bool:
    """Say whether the version is a published one, which never changes; a draft does."""
    return _PUBLISHED.fullmatch(source.version) is not None


def list_files(source: DandiSource, *, ask: Ask, work: Path) -> Listing:
    """List the assets of a version, with the digests that the archive took.

    A zarr asset is taken or left as a whole, by its own path; its chunks become files, and the archive's own checksum
    over all of them must agree. ``latest`` is the newest published version, or the draft where none was published.

    Raises
    ------
    UserError
        If the archive does not answer, the dandiset is under embargo and `API_KEY` is missing or refused, or the
        version changed while it was listed.
    """
    del work
    archive = _Archive(ask=ask, dandiset=source.dandiset)
    about = archive.get(f"/dandisets/{source.dandiset}/")
    version = source.version
    if version == LATEST:
        version = (about.get("most_recent_published_version") or {}).get("version") or _DRAFT
    base = f"/dandisets/{source.dandiset}/versions/{version}/"
    metadata = archive.get(base)
    assets = {safe(asset["path"], where=archive.where): asset for asset in archive.assets(f"{base}assets/")}
    wanted = list(chosen(sorted(assets), include=source.include, exclude=source.exclude))
    embargoed = about.get("embargo_status", "OPEN") != "OPEN"
    files = [file for path in wanted for file in archive.files(path, assets[path], embargoed=embargoed)]
    return Listing(
        source_id=source.dandiset,
        version=version,
        files=tuple(sorted(files, key=lambda file: file.path)),
        facts=_facts(metadata, whole=len(wanted) == len(assets)),
    )


@dataclass(frozen=True, kw_only=True)
class _Archive:
    """The questions about one dandiset. The key, where there is one, is sent to the interface's own host only."""

    ask: Ask
    dandiset: str

    @property
    def where(self) -> str:
        return f"dandiset {self.dandiset}"

    @property
    def _api(self) -> str:
        return self.ask.site.hosts.dandi_api.rstrip("/")

    def get(self, path: str, **params: str) -> Any:
        """Ask for the JSON at a path of the interface."""
        key = os.environ.get(API_KEY, "")
        headers = {"Authorization": f"token {key}"} if key else None
        try:
            return self.ask.json(f"{self._api}{path}", params=params or None, headers=headers)
        except UserError as error:
            if "access refused" not in error.problem:
                raise
            said = "is under embargo, and the key in the environment may not read it" if key else "is under embargo"
            raise UserError(
                f"{self.where} {said} ({error.problem.rstrip('.')}).",
                mend=f"set {API_KEY} to the key of an account that may read it (dandiarchive.org, under your initials)",
            ) from None

    def assets(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield all assets of a version.

        Pages are asked for by number, never by the address that an answer names, so that the key goes nowhere else.
        """
        count, seen, page = None, 0, 1
        while True:
            answer = self.get(path, metadata="true", order="path", page_size=str(_PAGE), page=str(page))
            count = answer.get("count") if count is None else count
            seen += len(answer["results"])
            yield from answer["results"]
            if not answer.get("next"):
                break
            page += 1
        if count is not None and seen != count:
            raise UserError(
                f"{self.where}: changed while it was listed ({count} assets announced, {seen} came).", mend="try again"
            )

    def files(self, path: str, asset: Mapping[str, Any], *, embargoed: bool) -> Iterator[ManifestFile]:
        """Yield the file that an asset is, or the files of a zarr asset."""
        metadata = asset["metadata"]
        digests = metadata.get("digest") or {}
        place = _s3_place(metadata.get("contentUrl") or ())
        if asset.get("zarr"):
            if place is None or embargoed:
                raise UserError(
                    f"{self.where}: {path} is a zarr under embargo, which cannot be read file by file.",
                    mend="leave it out with `source.exclude`, or wait until it is public",
                )
            checksum = digests.get("dandi:dandi-zarr-checksum", "")
            yield from self._zarr_files(path, str(asset["zarr"]), place=place, checksum=checksum)
            return
        open_origin = f"s3://{place}" if place and not embargoed else ""
        yield ManifestFile(
            path=path,
            size=asset["size"],
            digest=_digest(digests),
            origin=open_origin or f"{self._api}/assets/{asset['asset_id']}/download/",
        )

    def _zarr_files(self, path: str, zarr: str, *, place: str, checksum: str) -> Iterator[ManifestFile]:
        entries: list[dict[str, Any]] = []
        more = True
        while more:
            params = {"limit": str(_PAGE)} | ({"after": entries[-1]["Key"]} if entries else {})
            answer = self.get(f"/zarr/{zarr}/files/", **params)
            entries += answer["results"]
            more = bool(answer.get("next")) and bool(answer["results"])
        found = zarr_checksum({entry["Key"]: (entry["ETag"].strip('"'), entry["Size"]) for entry in entries})
        if found != checksum:
            raise UserError(
                f"{self.where}: {path}: its files have the checksum {found}, the archive states {checksum or 'none'}.",
                mend="somebody is writing to it: try again later, or leave it out with `source.exclude`",
            )
        for entry in entries:
            yield ManifestFile(
                path=safe(f"{path}/{entry['Key']}", where=self.where),
                size=entry["Size"],
                digest=f"s3-etag:{entry['ETag'].strip(chr(34))}",
                origin=f"s3://{place.rstrip('/')}/{entry['Key']}",
            )


def zarr_checksum(files: Mapping[str, tuple[str, int]]) -> str:
    """Return DANDI's checksum of a zarr, ``<md5>-<files>--<bytes>``, from (MD5, size) by path.

    The digest of a folder is that of a JSON list of its folders and files with theirs, as the package `zarr_checksum`
    defines it.
    """
    tree: dict[str, Any] = {}
    for path, found in files.items():
        *folders, name = path.split("/")
        inside = tree
        for folder in folders:
            inside = inside.setdefault(f"{folder}/", {})
        inside[name] = found
    return _folder_checksum(tree)[0]


def _folder_checksum(tree: Mapping[str, Any]) -> tuple[str, int, int]:
    """Return digest, files and bytes of a folder, of which names of folders end in a slash."""
    content: dict[str, list[dict[str, Any]]] = {"directories": [], "files": []}
    files, total = 0, 0
    for name, found in tree.items():
        digest, inner, size = _folder_checksum(found) if name.endswith("/") else (found[0], 1, found[1])
        kind = "directories" if name.endswith("/") else "files"
        content[kind].append({"digest": digest, "name": name.rstrip("/"), "size": size})
        files, total = files + inner, total + size
    for listed in content.values():
        listed.sort(key=lambda item: str(item["name"]))
    text = json.dumps(content, separators=(",", ":")).encode()
    return f"{hashlib.md5(text, usedforsecurity=False).hexdigest()}-{files}--{total}", files, total


def _s3_place(urls: tuple[str, ...] | list[str]) -> str | None:
    """Return ``bucket/key`` of the address in the object store, whichever way the host spells it."""
    for url in urls:
        parts = urlsplit(url)
        path = unquote(parts.path).lstrip("/")
        if match := _AMAZON.fullmatch(parts.hostname or ""):
            return f"{match['bucket']}/{path}"
        if re.search(r"(^|/)(blobs|zarr)/", path) and "/assets/" not in path:
            return path
    return None


def _digest(digests: Mapping[str, str]) -> str:
    """Return the strongest digest that the archive states: the SHA-256 follows an upload after a while."""
    if sha256 := digests.get("dandi:sha2-256"):
        return f"sha256:{sha256}"
    etag = digests.get("dandi:dandi-etag", "")
    if _ETAG.fullmatch(etag):
        return f"{'dandi' if '-' in etag else 's3'}-etag:{etag}"
    return FIRST_USE


def _facts(metadata: Mapping[str, Any], *, whole: bool) -> dict[str, JsonValue]:
    """Return what the version says of itself; the number of subjects only where the globs leave nothing out."""
    summary = metadata.get("assetsSummary") or {}
    facts: dict[str, JsonValue] = {}
    if licences := metadata.get("license"):
        facts["licence"] = ", ".join(str(licence).removeprefix("spdx:") for licence in licences)
    if metadata.get("doi"):
        facts["doi"] = metadata["doi"]
    if species := summary.get("species"):
        # "Mus musculus - House mouse": the Latin name comes first.
        facts["species"] = ", ".join(sorted(str(one["name"]).partition(" - ")[0] for one in species))
    if whole and summary.get("numberOfSubjects"):
        facts["expect.subjects"] = summary["numberOfSubjects"]
    return facts
