"""An S3 bucket, asked by many requests side by side. Lean where s3fs is general: an object costs a third of it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote
from xml.etree import ElementTree as ET  # entities are refused below

import aiohttp
from yarl import URL

from neurofm.remote.complaints import FINAL, Answer, reason_of
from neurofm.remote.place import Place

T = TypeVar("T")
LARGE_BYTES = 64 << 20
"""From here on an object goes in parts, by DVC's own file system."""
_CONNECTIONS = 8
_ATTEMPTS = 5
_LONGEST_PAUSE_S = 5.0
_TIMEOUT_S = 60.0
_READ_BUFFER_BYTES = 1 << 20
_PAGE = 1000
_ENCRYPTED = ("aws:kms", "aws:kms:dsse")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a bucket says of one object."""

    size: int
    etag: str
    """Without quotes: the MD5 of what was sent, unless it came in parts or is encrypted with a key of its own."""

    @property
    def md5(self) -> str:
        """The MD5 that the ETag is; empty where it is none."""
        return self.etag if len(self.etag) == 32 and self.etag.isalnum() else ""


class TooLarge(Exception):
    """The object is too large to be held in memory."""


class Bucket:
    """Requests to one bucket. Use `open_bucket`.

    Every method tries again where that can help, and raises `Answer`, `aiohttp.ClientError` or `TimeoutError` at last.
    """

    def __init__(self, place: Place, http: aiohttp.ClientSession, *, connections: int) -> None:
        self.place = place
        self.connections = connections
        self._http = http

    async def get(self, key: str, *, large: bool = False) -> bytes:
        """Return an object's bytes.

        Raises
        ------
        TooLarge
            From `LARGE_BYTES` on, unless `large` ones are welcome.
        """
        return await self._ask("GET", self.place.url(key), read=_whole if large else _small)

    async def digest(self, key: str) -> Stored | None:
        """Read an object of any size without keeping it: its size and the MD5 of what came; None if there is none."""
        try:
            return await self._ask("GET", self.place.url(key), read=_digested)
        except Answer as error:
            if error.is_absent:
                return None
            raise

    async def put(self, key: str, body: bytes, *, md5: str) -> None:
        """Store an object; the server refuses it if what comes is not what `md5` (in hexadecimal) says."""
        checked = {"content-md5": base64.b64encode(bytes.fromhex(md5)).decode()}
        await self._ask("PUT", self.place.url(key), body=body, headers=checked, read=_whole)

    async def head(self, key: str) -> Stored | None:
        """Return what the bucket says of an object; None if there is none.

        The ETag is empty where the object is encrypted so that it tells nothing.
        """
        try:
            headers = await self._ask("HEAD", self.place.url(key), read=_headers)
        except Answer as error:
            if error.is_absent:
                return None
            raise
        tells = headers.get("x-amz-server-side-encryption", "") not in _ENCRYPTED and (
            "x-amz-server-side-encryption-customer-algorithm" not in headers
        )
        return Stored(size=int(headers["Content-Length"]), etag=headers.get("ETag", "").strip('"') if tells else "")

    async def listed(self, *, pages: int) -> tuple[dict[str, Stored], bool]:
        """Return objects below the prefix by key, and whether these are all; at most so many `pages` of a thousand."""
        found: dict[str, Stored] = {}
        token = ""
        for _ in range(pages):
            query = f"list-type=2&max-keys={_PAGE}&prefix={quote(self.place.prefix, safe='')}"
            query = (f"continuation-token={quote(token, safe='')}&" if token else "") + query
            tree = _xml(await self._ask("GET", f"{self.place.base}?{query}", read=_whole))
            for item in tree.iterfind("{*}Contents"):
                key = item.findtext("{*}Key", "").removeprefix(self.place.prefix)
                found[key] = Stored(
                    size=int(item.findtext("{*}Size", "0")), etag=item.findtext("{*}ETag", "").strip('"')
                )
            token = tree.findtext("{*}NextContinuationToken", "")
            if tree.findtext("{*}IsTruncated", "false") != "true" or not token:
                return found, True
        return found, False

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        read: Callable[[aiohttp.ClientResponse], Awaitable[T]],
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> T:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._once(method, url, read=read, body=body, headers=headers)
            except (Answer, aiohttp.ClientError, TimeoutError) as error:
                absent = isinstance(error, Answer) and error.is_absent
                if attempt == _ATTEMPTS or reason_of(error) in FINAL or absent:
                    raise
            grown = min(_LONGEST_PAUSE_S, 0.1 * 2.0**attempt)
            await asyncio.sleep(grown * (0.5 + 0.5 * random.random()))  # noqa: S311  # spaces machines out
        raise AssertionError

    async def _once(
        self,
        method: str,
        url: str,
        *,
        read: Callable[[aiohttp.ClientResponse], Awaitable[T]],
        body: bytes,
        headers: dict[str, str] | None,
    ) -> T:
        signed = self.place.headers(method, url, body=body, headers=headers)
        async with self._http.request(
            method,
            URL(url, encoded=True),
            data=body or None,
            headers=signed,
            proxy=self.place.proxy,
            ssl=self.place.tls,
            allow_redirects=False,
        ) as answer:
            if answer.status >= 300:
                raise _refusal(answer.status, await answer.read())
            return await read(answer)


@asynccontextmanager
async def open_bucket(place: Place, *, connections: int = 0) -> AsyncIterator[Bucket]:
    """Open a bucket, by at most so many `connections` (0: our own choice)."""
    connections = connections or _CONNECTIONS
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_TIMEOUT_S, sock_read=_TIMEOUT_S),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity", "User-Agent": "neurofm"},
        read_bufsize=_READ_BUFFER_BYTES,
    ) as http:
        yield Bucket(place, http, connections=connections)


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    return await answer.read()


async def _small(answer: aiohttp.ClientResponse) -> bytes:
    if (answer.content_length or 0) >= LARGE_BYTES:
        raise TooLarge
    return await answer.read()


async def _headers(answer: aiohttp.ClientResponse) -> Mapping[str, str]:
    return answer.headers


async def _digested(answer: aiohttp.ClientResponse) -> Stored:
    digest, size = hashlib.md5(usedforsecurity=False), 0
    async for chunk in answer.content.iter_any():
        digest.update(chunk)
        size += len(chunk)
    return Stored(size=size, etag=digest.hexdigest())


def _refusal(status: int, content: bytes) -> Answer:
    """Return what an answer says is wrong: S3's own code where there is one."""
    try:
        tree = _xml(content)
        code, message = tree.findtext("{*}Code", "") or tree.findtext("Code", ""), tree.findtext("{*}Message", "")
    except Answer:
        code, message = "", ""
    return Answer(code or str(status), message[:200])


def _xml(content: bytes) -> ET.Element:
    if b"<!DOCTYPE" in content[:1000] or b"<!ENTITY" in content:
        raise Answer("InvalidXml", "entities are not read")
    try:
        return ET.fromstring(content)  # noqa: S314  # no entities
    except ET.ParseError as error:
        raise Answer("InvalidXml", str(error)) from None
