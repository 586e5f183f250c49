"""Stands for api.dandiarchive.org and its bucket `dandiarchive`.

Routes, fields and paging are those of dandi-archive's views and serializers (`dandiapi/api/views/{asset,version,
serializers,pagination}.py`, `dandiapi/zarr/views/__init__.py`), and the official client `dandi` lists and downloads
from it. The bucket lies under ``/s3`` of the same server, by path, with ETag and ranges, and lets anybody read what is
not under embargo; the addresses in the metadata are those of the real bucket, as in the archive's own answers.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from neurofm.fetch.digests import digests_of

BUCKET = "dandiarchive"
_TIME = "2026-01-02T03:04:05.000000Z"
_SPECIES = {
    "schemaKey": "SpeciesType",
    "identifier": "http://purl.obolibrary.org/obo/NCBITaxon_10090",
    "name": "Mus musculus - House mouse",
}


def _uuid(text: str) -> str:
    """Return a version-4 UUID that depends on `text` only."""
    return str(uuid.UUID(bytes=hashlib.md5(text.encode()).digest(), version=4))


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One asset: a file, or a folder that is a zarr."""

    path: str
    source: Path
    sha256: bool = True
    """Whether the archive has computed it yet."""
    checksum: str = ""
    """DANDI's checksum of a zarr."""

    @property
    def id(self) -> str:
        return _uuid(f"asset {self.path} {self.source}")

    @property
    def object_id(self) -> str:
        return _uuid(f"object {self.source}")

    @property
    def is_zarr(self) -> bool:
        return self.source.is_dir()

    @property
    def key(self) -> str:
        one = self.object_id
        return f"zarr/{one}/" if self.is_zarr else f"blobs/{one[:3]}/{one[3:6]}/{one}"

    @property
    def zarr_files(self) -> dict[str, Path]:
        files = (file for file in self.source.rglob("*") if file.is_file())
        return {file.relative_to(self.source).as_posix(): file for file in sorted(files)}

    @property
    def size(self) -> int:
        files = self.zarr_files.values() if self.is_zarr else [self.source]
        return sum(file.stat().st_size for file in files)


@dataclass(kw_only=True)
class Dandiset:
    """One dandiset with its versions."""

    id: str
    versions: dict[str, Sequence[Asset]]
    """``draft`` and published ones, oldest first."""
    embargoed: bool = False
    licence: str = "spdx:CC-BY-4.0"
    doi: str = ""


@dataclass(kw_only=True)
class DandiServer:
    """A running server."""

    dandisets: Mapping[str, Dandiset]
    key: str = "k" * 40
    """Of the only account."""
    page_size: int = 1000
    """Most items on a page."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Path (with query) and Authorization header of every request."""
    url: str = ""
    links: str = ""
    """Where `next` points to; the server itself, unless a test says otherwise."""

    @property
    def api(self) -> str:
        return f"{self.url}/api"

    @property
    def store(self) -> str:
        """Endpoint of the bucket."""
        return f"{self.url}/s3"

    def _assets(self) -> Iterator[tuple[Dandiset, Asset]]:
        for dandiset in self.dandisets.values():
            for assets in dandiset.versions.values():
                for asset in assets:
                    yield dandiset, asset

    def objects(self) -> dict[str, tuple[Path, bool]]:
        """Return the bucket: key to file and whether it is under embargo."""
        found: dict[str, tuple[Path, bool]] = {}
        for dandiset, asset in self._assets():
            if asset.is_zarr:
                found |= {f"{asset.key}{name}": (file, dandiset.embargoed) for name, file in asset.zarr_files.items()}
            else:
                found[asset.key] = (asset.source, dandiset.embargoed)
        return found

    def metadata(self, asset: Asset) -> dict[str, Any]:
        """`Asset.full_metadata`."""
        size = asset.size
        if asset.is_zarr:
            digest = {"dandi:dandi-zarr-checksum": asset.checksum}
        else:
            etag = next(iter(digests_of(asset.source, f"dandi-etag:{'0' * 32}-1", size=size)))
            digest = {"dandi:dandi-etag": etag.removeprefix("dandi-etag:")}
            if asset.sha256:
                digest["dandi:sha2-256"] = hashlib.sha256(asset.source.read_bytes()).hexdigest()
        return {
            "schemaVersion": "0.6.10",
            "schemaKey": "Asset",
            "id": f"dandiasset:{asset.id}",
            "identifier": asset.id,
            "path": asset.path,
            "contentUrl": [
                f"https://api.dandiarchive.org/api/assets/{asset.id}/download/",
                f"https://{BUCKET}.s3.amazonaws.com/{asset.key}",
            ],
            "contentSize": size,
            "encodingFormat": "application/x-zarr" if asset.is_zarr else "application/x-nwb",
            "digest": digest,
        }

    def listed(self, asset: Asset, *, metadata: bool) -> dict[str, Any]:
        """`AssetSerializer`."""
        return {
            "asset_id": asset.id,
            "blob": None if asset.is_zarr else asset.object_id,
            "zarr": asset.object_id if asset.is_zarr else None,
            "path": asset.path,
            "size": asset.size,
            "created": _TIME,
            "modified": _TIME,
        } | ({"metadata": self.metadata(asset)} if metadata else {})

    def version(self, dandiset: Dandiset, name: str) -> dict[str, Any]:
        """`VersionSerializer`."""
        assets = dandiset.versions[name]
        return {
            "version": name,
            "name": f"Dandiset {dandiset.id}",
            "asset_count": len(assets),
            "size": sum(asset.size for asset in assets),
            "status": "Valid" if name == "draft" else "Published",
            "created": _TIME,
            "modified": _TIME,
        }

    def about(self, dandiset: Dandiset) -> dict[str, Any]:
        """`DandisetDetailSerializer`."""
        published = [name for name in dandiset.versions if name != "draft"]
        return {
            "identifier": dandiset.id,
            "created": _TIME,
            "modified": _TIME,
            "contact_person": "Doe, Jane",
            "embargo_status": "EMBARGOED" if dandiset.embargoed else "OPEN",
            "draft_version": self.version(dandiset, "draft"),
            "most_recent_published_version": self.version(dandiset, published[-1]) if published else None,
        }

    def version_metadata(self, dandiset: Dandiset, name: str) -> dict[str, Any]:
        """What `VersionViewSet.retrieve` answers."""
        assets = dandiset.versions[name]
        subjects = {asset.path.partition("/")[0] for asset in assets}
        doi = {"doi": dandiset.doi} if dandiset.doi else {}
        return doi | {
            "schemaVersion": "0.6.10",
            "identifier": f"DANDI:{dandiset.id}",
            "version": name,
            "name": f"Dandiset {dandiset.id}",
            "license": [dandiset.licence],
            "assetsSummary": {
                "schemaKey": "AssetsSummary",
                "species": [_SPECIES],
                "numberOfBytes": sum(asset.size for asset in assets),
                "numberOfFiles": len(assets),
                "numberOfSubjects": len(subjects),
            },
        }

    def info(self) -> dict[str, Any]:
        """`/api/info/`."""
        return {
            "schema_version": "0.6.10",
            "schema_url": "https://raw.githubusercontent.com/dandi/schema/master/releases/0.6.10/dandiset.json",
            "version": "0.3.100",
            "cli-minimal-version": "0.60.0",
            "cli-bad-versions": [],
            "services": {"api": {"url": self.api}, "webui": {"url": self.url}},
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "dandi-stand-in"
    state: DandiServer

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.state.requests.append((self.path, self.headers.get("Authorization", "")))
        parts = urlsplit(self.path)
        steps = [unquote(step) for step in parts.path.strip("/").split("/")]
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        match steps:
            case ["s3", bucket, *key] if bucket == BUCKET:
                self._object("/".join(key), query)
            case ["api", "info"]:
                self._json(self.state.info())
            case ["api", "dandisets", name, *rest] if name in self.state.dandisets:
                dandiset = self.state.dandisets[name]
                if not dandiset.embargoed or self._is_owner():
                    self._dandiset(dandiset, rest, query)
            case ["api", "assets", name, *rest]:
                found = next((pair for pair in self.state._assets() if pair[1].id == name), None)
                if found is None:
                    self._json({"detail": "Not found."}, status=404)
                elif not found[0].embargoed or self._is_owner():
                    self._asset(found[1], rest)
            case ["api", "zarr", name, "files"]:
                self._zarr(name, query)
            case _:
                self._json({"detail": "Not found."}, status=404)

    def _is_owner(self) -> bool:
        """`raise_if_unauthorized`: 401 without credentials, 401 with wrong ones."""
        said = self.headers.get("Authorization", "")
        if said == f"token {self.state.key}":
            return True
        detail = "Invalid token." if said else "Authentication credentials were not provided."
        self._json({"detail": detail}, status=401)
        return False

    def _dandiset(self, dandiset: Dandiset, rest: list[str], query: dict[str, str]) -> None:
        match rest:
            case []:
                self._json(self.state.about(dandiset))
            case ["versions", name, *more] if name in dandiset.versions:
                assets = {asset.id: asset for asset in dandiset.versions[name]}
                match more:
                    case []:
                        self._json(self.state.version_metadata(dandiset, name))
                    case ["info"]:
                        errors: dict[str, list[str]] = {"asset_validation_errors": [], "version_validation_errors": []}
                        facts = self.state.version_metadata(dandiset, name)
                        self._json(self.state.version(dandiset, name) | errors | {"metadata": facts})
                    case ["assets"]:
                        self._assets(list(assets.values()), query)
                    case ["assets", asset, *of_asset] if asset in assets:
                        self._asset(assets[asset], of_asset)
                    case _:
                        self._json({"detail": "Not found."}, status=404)
            case _:
                self._json({"detail": "Not found."}, status=404)

    def _assets(self, assets: list[Asset], query: dict[str, str]) -> None:
        prefix = query.get("path", "").lower()
        assets = [asset for asset in assets if asset.path.lower().startswith(prefix)]
        if query.get("order") == "path":
            assets.sort(key=lambda asset: asset.path)
        size = min(int(query.get("page_size", 100)), self.state.page_size)
        page = int(query.get("page", 1))
        last = page * size >= len(assets)
        following = self._link(query | {"page": str(page + 1)})
        shown = assets[(page - 1) * size : page * size]
        metadata = query.get("metadata", "false").lower() in {"true", "1"}
        self._json(
            {
                "count": len(assets) if page == 1 else None,
                "next": None if last else following,
                "previous": None,
                "results": [self.state.listed(asset, metadata=metadata) for asset in shown],
            }
        )

    def _asset(self, asset: Asset, rest: list[str]) -> None:
        match rest:
            case []:
                self._json(self.state.metadata(asset))
            case ["info"]:
                self._json(self.state.listed(asset, metadata=True))
            case ["download"] if not asset.is_zarr:
                self._redirect(f"{self.state.store}/{BUCKET}/{asset.key}")
            case _:
                self._json("Unable to provide download link for zarr assets.", status=400)

    def _zarr(self, name: str, query: dict[str, str]) -> None:
        asset = next((one for _, one in self.state._assets() if one.is_zarr and one.object_id == name), None)
        if asset is None:
            self._json({"detail": "Not found."}, status=404)
            return
        prefix = query.get("prefix", "")
        if query.get("download") == "true":
            self._redirect(f"{self.state.store}/{BUCKET}/{asset.key}{prefix}")
            return
        limit = min(int(query.get("limit", 1000)), self.state.page_size)
        names = sorted(key for key in asset.zarr_files if key.startswith(prefix) and key > query.get("after", ""))
        results = [
            {
                "Key": key,
                "LastModified": _TIME,
                "ETag": hashlib.md5(asset.zarr_files[key].read_bytes()).hexdigest(),
                "Size": asset.zarr_files[key].stat().st_size,
            }
            for key in names[:limit]
        ]
        more = len(names) > limit
        self._json({"next": self._link(query | {"after": names[limit - 1]}) if more else None, "results": results})

    def _object(self, key: str, query: dict[str, str]) -> None:
        path, embargoed = self.state.objects().get(key, (None, False))
        signed = query.get("X-Amz-Signature") == "of-the-archive"
        if path is None or (embargoed and not signed):
            code = "NoSuchKey" if path is None else "AccessDenied"
            body = f"<Error><Code>{code}</Code></Error>".encode()
            self._send(404 if path is None else 403, body, kind="application/xml")
            return
        content = path.read_bytes()
        etag = f'"{hashlib.md5(content).hexdigest()}"'
        more = {"ETag": etag, "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range", "")
        if not asked.startswith("bytes=") or self.headers.get("If-Range", etag) != etag:
            self._send(200, content, kind="binary/octet-stream", **more)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        begin, end = int(first), min(int(last) + 1, len(content)) if last else len(content)
        more["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
        self._send(206, content[begin:end], kind="binary/octet-stream", **more)

    def _link(self, query: dict[str, str]) -> str:
        return f"{self.state.links or self.state.url}{urlsplit(self.path).path}?{urlencode(query)}"

    def _redirect(self, url: str) -> None:
        # A presigned address, as the archive gives: the signature opens what is under embargo, too.
        self._send(302, b"", kind="text/html", Location=f"{url}?X-Amz-Signature=of-the-archive")

    def _json(self, content: Any, *, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), kind="application/json")

    def _send(self, status: int, body: bytes, *, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def dandi_server(dandisets: Sequence[Dandiset], *, page_size: int = 1000) -> Iterator[DandiServer]:
    """Run the stand-in on a free port of the loopback device."""
    state = DandiServer(dandisets={dandiset.id: dandiset for dandiset in dandisets}, page_size=page_size)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
