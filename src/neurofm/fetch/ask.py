"""Ask an archive: small answers (JSON, listings) over HTTP, with retries, on behalf of `neurofm.sources`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET  # entities are refused below

import httpx2

from neurofm.errors import UserError
from neurofm.fetch.hosts import FetchSite
from neurofm.fetch.request import MOST_REDIRECTS, is_secret, same_place
from neurofm.fetch.signing import sign
from neurofm.fetch.waiting import RETRIED, is_offline, pause_s, retry_after_s


@dataclass(frozen=True, kw_only=True)
class S3Object:
    """One line of a bucket's listing."""

    key: str
    size: int
    etag: str
    """Without quotes."""
    version_id: str = ""


class Ask:
    """A client for small questions. Use it as a context manager.

    Parameters
    ----------
    site
        Hosts, timeouts, attempts; offline, every question is a `UserError`.
    """

    def __init__(self, site: FetchSite) -> None:
        self.site = site
        self._client = httpx2.Client(timeout=site.timeout_s, follow_redirects=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def json(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Return the JSON that a GET (or, with `body`, a POST of JSON) is answered with.

        Raises
        ------
        UserError
            If the archive cannot be reached, refuses, or answers with something else.
        """
        answer = self._ask("GET" if body is None else "POST", url, params=params, json=body, headers=headers)
        try:
            return answer.json()
        except ValueError:
            raise UserError(
                f"{_place(url)}: answered with {answer.headers.get('content-type', 'no content type')}, not JSON.",
                mend="check the address in site.yaml (`fetch.hosts`), or try again later",
            ) from None

    def content(self, url: str, *, headers: Mapping[str, str] | None = None) -> bytes:
        """Return the bytes of a small file (a manifest, a table)."""
        return self._ask("GET", url, headers=headers).content

    def size(self, url: str) -> int:
        """Return the bytes of the file at `url` (HEAD).

        Raises
        ------
        UserError
            If the archive cannot be reached, refuses, or does not tell.
        """
        length = self._ask("HEAD", url, headers={"accept-encoding": "identity"}).headers.get("content-length", "")
        if not length.isdigit():
            raise UserError(f"{_place(url)}: does not tell the size of {urlsplit(url).path}.", mend="tell the archive")
        return int(length)

    def objects(self, bucket: str, prefix: str, *, versions: bool = False, older: bool = False) -> Iterator[S3Object]:
        """List a bucket (S3 ListObjectsV2; with `versions` the latest of ListObjectVersions), sorted by key.

        With `older` the versions that have been replaced come too, each key's latest first.
        """
        place = self.site.hosts.place(bucket)
        url = f"{place.endpoint.rstrip('/')}/{place.bucket or bucket}"
        query = {"versions": ""} if versions else {"list-type": "2"}
        more: dict[str, str] = {}
        while True:
            params = {**query, "prefix": prefix, "max-keys": "1000", **more}
            tree = _xml(self._ask("GET", url, params=params, signed=bucket if place.signed else "").content, url)
            for item in tree.iter("Version" if versions else "Contents"):
                if versions and not older and item.findtext("IsLatest") != "true":
                    continue
                yield S3Object(
                    key=item.findtext("Key") or "",
                    size=int(item.findtext("Size") or 0),
                    etag=(item.findtext("ETag") or "").strip('"'),
                    version_id=item.findtext("VersionId") or "",
                )
            if tree.findtext("IsTruncated") != "true":
                return
            if versions:
                more = {
                    "key-marker": tree.findtext("NextKeyMarker") or "",
                    "version-id-marker": tree.findtext("NextVersionIdMarker") or "",
                }
            else:
                more = {"continuation-token": tree.findtext("NextContinuationToken") or ""}

    def object_content(self, bucket: str, key: str, *, version_id: str = "") -> bytes:
        """Return the bytes of a small object."""
        url = self.site.hosts.object_url(bucket, key, version_id=version_id)
        return self._ask("GET", url, signed=bucket if self.site.hosts.place(bucket).signed else "").content

    def _ask(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        signed: str = "",
    ) -> httpx2.Response:
        if is_offline(self.site):
            raise UserError(
                f"{_place(url)} would have to be asked, and this run is offline.", mend="run without --offline"
            )
        request = self._client.build_request(method, url, params=params, json=json, headers=headers)
        reason = ""
        asked_s = 0.0
        for attempt in range(self.site.attempts):
            if attempt:
                time.sleep(pause_s(attempt, site=self.site, asked_s=asked_s))
                asked_s = 0.0
            if signed:
                place = self.site.hosts.place(signed)
                request.headers.update(sign(method, str(request.url), region=place.region))
            try:
                answer = self._send(request)
            except (httpx2.TransportError, httpx2.TooManyRedirects) as error:
                reason = f"{type(error).__name__}: {error}"
                continue
            if answer.status_code in RETRIED:
                reason = f"HTTP {answer.status_code}"
                asked_s = retry_after_s(answer.headers.get("retry-after", ""))
                continue
            if answer.status_code in {401, 403}:
                raise UserError(
                    f"{_place(url)}: HTTP {answer.status_code}, access refused.",
                    mend="check the credentials in the environment, or whether the dataset is public",
                )
            if not answer.is_success:
                raise UserError(
                    f"{_place(url)}: HTTP {answer.status_code} for {urlsplit(url).path}.",
                    mend="check the dataset's id and version in its catalogue entry",
                )
            return answer
        raise UserError(
            f"{_place(url)}: no answer after {self.site.attempts} attempts ({reason}).",
            mend="check the network and try again, or set a mirror under `fetch.hosts` in site.yaml",
        )

    def _send(self, request: httpx2.Request) -> httpx2.Response:
        """Send a question, following redirects: to another host without credentials."""
        for _ in range(MOST_REDIRECTS):
            answer = self._client.send(request)
            onward = answer.next_request
            if onward is None:
                return answer
            if not same_place(str(request.url), str(onward.url)):
                for name in [name for name in onward.headers if is_secret(name)]:
                    del onward.headers[name]
            request = onward
        raise httpx2.TooManyRedirects("too many redirects", request=request)


def _place(url: str) -> str:
    """Return host (and port) without credentials, for messages."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or url


def _xml(content: bytes, url: str) -> ET.Element:
    """Parse a listing, without its namespace."""
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise UserError(f"{_place(url)}: answered with a document that declares entities.", mend="check the endpoint")
    try:
        tree = ET.fromstring(content)  # noqa: S314  # entities were refused above
    except ET.ParseError:
        raise UserError(f"{_place(url)}: did not answer with an S3 listing.", mend="check the endpoint") from None
    for item in tree.iter():
        item.tag = item.tag.rpartition("}")[2]
    return tree
